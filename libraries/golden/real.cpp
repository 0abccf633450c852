// golden/real: what the real small models say, from the GGUF files of two packages.
#include <algorithm>

#include "golden/kinds.h"
#include "golden/real_models.h"
#include "golden/steps.h"
#include "hub/model_source.h"
#include "llm/registry.h"
#include "lm_common/model_context.h"

namespace mlxcpp::golden {
namespace {

constexpr int kFirstTokens = 32;

ModelFiles find_model(const std::string& file) {
  for (const char* package : {kSmolLM2, kGemma3}) {
    try {
      const ModelFiles files = resolve_model(package, {.offline = true});
      if (!files.gguf.empty() && files.gguf[0].filename() == file) return files;
    } catch (const Error&) {
      continue;  // not on this machine
    }
  }
  throw Skipped{file + " is not in the cache; ./mlx-run llm-tool fetch gets it"};
}

// Greedy and free-running, the end of sequence ignored.
std::vector<int> generate(const LanguageModel& model, const std::vector<int>& prompt, int count) {
  Caches caches = model.make_caches({});
  std::vector<int> out;
  auto logits = prefill(model, caches, token_ids(prompt), 512);
  while (true) {
    out.push_back(mx::astype(mx::argmax(logits, -1), mx::int32).item<int>());
    if (static_cast<int>(out.size()) == count) return out;
    logits = step(model, caches, out.back());
  }
}

}  // namespace

void compare_real(const fs::path& json, const Options& options, Comparison& out) {
  const Json info = read_json(json);
  const ModelContext context = load_model_context(find_model(info.at("file")), llm::model_types());
  const Tokenizer& tokenizer = *context.tokenizer;

  int equal = 0;
  std::string different;
  for (const Json& t : info.at("tokenize")) {
    const auto got = tokenizer.encode(t.at("text").get<std::string>(), false);
    if (got == t.at("ids").get<std::vector<int>>())
      ++equal;
    else if (different.empty())
      different = describe(t.at("text"));
  }
  out.check(fmt::format("token ids ({} strings)", info.at("tokenize").size()), different.empty(),
            fmt::format("{} of {} equal; the first that differs: {}", equal,
                        info.at("tokenize").size(), different));

  int same = 0;
  for (const Json& run : info.at("runs")) {
    const auto prompt = run.at("prompt").get<std::string>();
    const auto rendered = run.at("rendered").get<std::string>();
    const auto ids = run.at("ids").get<std::vector<int>>();
    const auto generated = run.at("generated").get<std::vector<int>>();
    const auto margins = run.at("margin").get<std::vector<float>>();
    const std::string what = describe(Json(prompt));
    if (tokenizer.has_chat_template() && rendered != prompt) {
      const auto got = tokenizer.apply_chat_template({{{"role", "user"}, {"content", prompt}}},
                                                     {{"add_generation_prompt", true}});
      out.check("chat template of " + what, got == rendered, describe(Json(got)));
    }
    if (options.precision == kernels::Precision::exact) {
      Caches caches = context.model->make_caches({});
      auto logits = prefill(*context.model, caches, token_ids(ids), 512);
      for (size_t i = 0; i < generated.size(); ++i) {
        out.greedy_step(logits, generated[i], margins[i]);
        logits = step(*context.model, caches, generated[i]);
      }
      out.end_greedy("generated from " + what);
    } else {
      const auto got = generate(*context.model, ids, kFirstTokens);
      same += std::equal(got.begin(), got.end(), generated.begin());
    }
  }
  if (options.precision != kernels::Precision::exact) {
    const int runs = static_cast<int>(info.at("runs").size());
    out.check(fmt::format("first {} tokens ({} of {} prompts)", kFirstTokens, same, runs),
              same >= runs - 1,
              fmt::format("equal on {} of {} prompts, expected at least {}", same, runs, runs - 1));
  }
}

}  // namespace mlxcpp::golden
