// golden/cache: logits [56, vocab] of a 40-token prompt and 16 further tokens through each kind of
// cache. A run's name says how it was made: [rotatingN_ | kvB_groupG[_startS]] and chunkC, whole,
// or tokenwise; its note, how many first tokens a rotating cache keeps ("keep=4").
#include <regex>

#include "golden/kinds.h"
#include "golden/steps.h"
#include "llm/registry.h"
#include "lm_common/kv_cache/attention_cache.h"
#include "lm_common/model_context.h"

namespace mlxcpp::golden {
namespace {

struct Run {
  CacheOptions cache;
  int chunk = 0;            // 0: the whole prompt
  std::optional<int> keep;  // of a rotating cache
};

Run parse_run(const std::string& name, const std::string& note, const std::string& where) {
  Run run;
  std::smatch m;
  if (static const std::regex keep("keep=(\\d+)"); std::regex_search(note, m, keep))
    run.keep = std::stoi(m[1]);
  std::string rest = name;
  if (static const std::regex rotating("^rotating(\\d+)_?"); std::regex_search(rest, m, rotating)) {
    run.cache.max_size = std::stoi(m[1]);
    rest = m.suffix();
  }
  if (static const std::regex quantised("^kv(\\d+)_group(\\d+)(_start(\\d+))?_?");
      std::regex_search(rest, m, quantised)) {
    run.cache.bits = std::stoi(m[1]);
    run.cache.group_size = std::stoi(m[2]);
    run.cache.quantized_start = m[4].matched ? std::stoi(m[4]) : 0;
    rest = m.suffix();
  }
  static const std::regex chunk("^chunk(\\d+)$");
  if (std::regex_search(rest, m, chunk))
    run.chunk = std::stoi(m[1]);
  else if (rest == "tokenwise")
    run.chunk = 1;
  else if (!rest.empty() && rest != "whole")
    throw Error("{}: how the run '{}' is made is not known", where, name);
  return run;
}

Caches make_caches(const LanguageModel& model, const Run& run) {
  Caches caches = model.make_caches(run.cache);
  if (!run.cache.max_size || !run.keep) return caches;
  for (auto& cache : caches)  // those that keep first tokens at all, and not a layer's own window
    if (const auto* one = dynamic_cast<const AttentionCache*>(cache.get());
        one && one->layout().keep() > 0)
      cache = std::make_unique<AttentionCache>(
          KvLayout(KvLayout::Kind::rotating, *run.cache.max_size, *run.keep));
  return caches;
}

}  // namespace

void compare_cache(const fs::path& json, const Options&, Comparison& out) {
  const Json info = read_json(json);
  const fs::path model_folder =
      json.parent_path().parent_path() / info.at("model").get<std::string>();
  References want(fs::path(json).replace_extension(".safetensors"));
  const auto model = make_language_model(load_fixture_checkpoint(model_folder), llm::model_types());
  const auto& prompt = want.at("prompt");
  const auto& follow = want.at("follow");
  for (const auto& [name, how] : info.at("runs").items()) {
    const Run run = parse_run(name, how.get<std::string>(), json.string());
    Caches caches = make_caches(*model, run);
    auto got = all_logits(*model, caches, prompt, run.chunk ? run.chunk : prompt.shape(1));
    got = mx::concatenate({got, all_logits(*model, caches, follow, 1)}, 0);
    out.tensor(name, got, want.at("logits_" + name));
  }
  for (const auto& name : want.unused()) out.check(name, false, "in the fixture, but not compared");
}

}  // namespace mlxcpp::golden
