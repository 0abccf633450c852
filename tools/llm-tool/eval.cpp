// llm-tool eval: one prompt, one answer.
#include "llm-tool/commands.h"

#include <optional>

#include "llm-tool/model_report.h"
#include "support/program.h"

namespace mlxcpp::tools {
namespace {

struct EvalOptions : CommonOptions {
  std::optional<std::string> prompt;
  bool raw = false;
  bool json = false;
  bool list_config = false;
};

// What --json prints: one object.
Json report(const EvalOptions& o, const std::string& prompt, const std::string& text,
            const std::vector<int>& tokens, const GenerationInfo& info) {
  return {{"model", o.model.model},
          {"prompt", prompt},
          {"text", text},
          {"tokens", tokens},
          {"prompt_tokens", info.prompt_tokens},
          {"generation_tokens", info.generation_tokens},
          {"first_token_seconds", info.first_token_seconds},
          {"prompt_tokens_per_second", info.prompt_tokens_per_second()},
          {"generation_tokens_per_second", info.tokens_per_second()},
          {"peak_memory", info.peak_memory},
          {"stop_reason", name(info.stop_reason)}};
}

int eval(const EvalOptions& o) {
  if (o.list_config) {
    print(model_report(o.configuration(), o.model.download_options(o.generate.quiet),
                       o.generate.parameters));
    return 0;
  }
  // Files are read before a model is loaded for nothing.
  const std::optional<std::string> given =
      o.prompt ? std::optional(read_prompt(*o.prompt)) : std::nullopt;
  o.media.check(true);
  if (o.raw && !o.media.empty())
    throw CLI::ValidationError("--raw", "has no place for pictures, films or sounds");
  if (o.adapters.size() > 1) throw Error("--adapter: eval takes one, found {}", o.adapters.size());
  const auto container = o.load();
  const auto adapters = o.load_adapters(*container);
  const std::string prompt = given.value_or(container->configuration().default_prompt);
  Chat chat;
  if (!o.generate.system.empty()) chat.push_back(chat::system(o.generate.system));
  o.media.attach(chat.emplace_back(chat::user(prompt)));
  UserInput input(chat);
  input.additional_context = o.generate.template_context();
  input.media = o.media.options();

  const InterruptScope interrupt;
  std::string text;
  std::vector<int> tokens;
  std::optional<GenerationInfo> info;
  container
      ->perform([&](ModelContext& context) {
        const LMInput prepared =
            o.raw ? LMInput{context.tokenizer->encode(prompt)} : context.prepare(input);
        Caches caches = context.model->make_caches(o.generate.parameters.cache_options());
        for (const Generation& g :
             context.generate(prepared, caches, o.generate.parameters, interrupt.token())) {
          if (g.token()) tokens.push_back(g.token()->id);
          if (g.info()) info = *g.info();
          if (!g.chunk()) continue;
          text += *g.chunk();
          if (!o.json) print(*g.chunk());
        }
      })
      .get();
  print(o.json ? report(o, prompt, text, tokens, *info)
                         .dump(-1, ' ', false, Json::error_handler_t::replace) +
                     "\n"
               : "\n");
  if (interrupt.interrupted()) throw Error("interrupted");
  if (!o.generate.quiet && !o.json) fmt::print(stderr, "------\n{}\n", info->summary());
  o.memory.report();
  return 0;
}

}  // namespace

Command add_eval(CLI::App& app) {
  const auto o = std::make_shared<EvalOptions>();
  o->add(app);
  app.add_option("-p,--prompt", o->prompt,
                 "the prompt; @FILE[,@FILE] reads files; default: the model's own example");
  app.add_flag("--raw", o->raw, "give the prompt to the model as it is, without its chat template");
  app.add_flag("--json", o->json, "print one JSON object: text, tokens, figures");
  app.add_flag("--list-config", o->list_config,
               "print what the model is and will take, without loading its weights");
  return [o] { return eval(*o); };
}

}  // namespace mlxcpp::tools
