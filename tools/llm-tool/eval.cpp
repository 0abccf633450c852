// llm-tool eval: one prompt, one answer.
#include "llm-tool/commands.h"

#include <optional>

#include "llm-tool/answer_printer.h"
#include "llm-tool/model_report.h"
#include "llm-tool/training_commands.h"
#include "support/program.h"

namespace mlxcpp::tools {
namespace {

struct EvalOptions : CommonOptions {
  std::optional<std::string> prompt;
  bool raw = false;
  bool json = false;
  bool list_config = false;
};

struct Answer {
  std::string text, reasoning;
  std::vector<int> tokens;
  std::vector<ToolCall> calls;
};

// What --json prints: one object.
OrderedJson report(const EvalOptions& o, const std::string& prompt, const Answer& answer,
                   const GenerationInfo& info) {
  OrderedJson calls = OrderedJson::array();
  for (const ToolCall& call : answer.calls)
    calls.push_back({{"name", call.name}, {"arguments", call.arguments}});
  return {{"model", o.model.model},
          {"prompt", prompt},
          {"text", answer.text},
          {"reasoning", answer.reasoning},
          {"tool_calls", std::move(calls)},
          {"tokens", answer.tokens},
          {"prompt_tokens", info.prompt_tokens},
          {"generation_tokens", info.generation_tokens},
          {"reasoning_tokens", info.reasoning_tokens},
          {"first_token_seconds", info.first_token_seconds},
          {"prompt_tokens_per_second", info.prompt_tokens_per_second()},
          {"generation_tokens_per_second", info.tokens_per_second()},
          {"peak_memory", info.peak_memory},
          {"peak_array_memory", info.peak_array_memory},
          {"stop_reason", name(info.stop_reason)}};
}

int eval(const EvalOptions& o) {
  if (o.list_config) {
    print(interruptible([&](std::stop_token stop) {
      return model_report(o.configuration(),
                          o.model.download_options(o.generate.quiet, std::move(stop)),
                          o.generate.parameters);
    }));
    return 0;
  }
  // Files are read before a model is loaded for nothing.
  const std::optional<std::string> given =
      o.prompt ? std::optional(read_prompt(*o.prompt)) : std::nullopt;
  o.media.check(true);
  std::vector<ToolSpec> tools;
  for (const Tool& tool : o.tools.tools()) tools.push_back(tool.spec);
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
  if (!tools.empty()) input.tools = tools_json(tools);

  const InterruptScope interrupt;
  AnswerPrinter printer(o.generate.quiet);
  Answer answer;
  std::optional<GenerationInfo> info;
  container
      ->perform([&](ModelContext& context) {
        const LMInput prepared =
            o.raw ? LMInput{context.tokenizer->encode(prompt)} : context.prepare(input);
        Caches caches = context.model->make_caches(o.generate.parameters.cache_options());
        // A raw prompt is continued as it is, whatever the text means.
        mlxcpp::GenerateOptions options =
            o.raw
                ? context.generate_options(o.generate.parameters, interrupt.token())
                : context.answer_options(prepared, tools, o.generate.parameters, interrupt.token());
        for (const Generation& g :
             mlxcpp::generate(*context.model, caches, prepared, std::move(options))) {
          if (g.token()) answer.tokens.push_back(g.token()->id);
          if (g.info()) info = *g.info();
          if (g.chunk()) answer.text += *g.chunk();
          if (g.reasoning()) answer.reasoning += g.reasoning()->text;
          if (g.tool_call()) answer.calls.push_back(*g.tool_call());
          if (!o.json) printer.show(g);
        }
      })
      .get();
  if (o.json)
    print(report(o, prompt, answer, *info)
              .dump(-1, ' ', false, OrderedJson::error_handler_t::replace) +
          "\n");
  else
    printer.finish();
  if (interrupt.interrupted()) throw Error("interrupted");
  if (!o.generate.quiet && !o.json) fmt::print(stderr, "------\n{}\n", info->summary());
  o.memory.report();
  return 0;
}

Command add(CLI::App& app, const std::shared_ptr<EvalOptions>& o) {
  app.add_option("-p,--prompt", o->prompt,
                 "the prompt; @FILE[,@FILE] reads files; default: the model's own example");
  CLI::Option* raw = app.add_flag(
      "--raw", o->raw, "give the prompt to the model as it is, without its chat template");
  for (const char* of_the_template :
       {"--system", "--template-arg", "--image", "--video", "--audio", "--tool", "--tools-file"})
    raw->excludes(app.get_option(of_the_template));
  CLI::Option* json = app.add_flag(
      "--json", o->json,
      "print one JSON object: text, tokens, figures (seconds; bytes: peak_memory of the "
      "process, peak_array_memory of MLX's arrays)");
  app.add_flag("--list-config", o->list_config,
               "print what the model is and will take, without loading its weights")
      ->excludes(json);
  return [o] { return eval(*o); };
}

}  // namespace

Command add_eval(CLI::App& app) {
  const auto o = std::make_shared<EvalOptions>();
  o->add(app);
  return add(app, o);
}

Command add_lora_eval(CLI::App& app) {
  const auto o = std::make_shared<EvalOptions>();
  o->adapters = {kAdapterFolder};
  o->add(app);
  return add(app, o);
}

}  // namespace mlxcpp::tools
