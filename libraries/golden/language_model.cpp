// golden/llm: logits, hidden states, and the greedy continuation through the cache.
#include "golden/kinds.h"
#include "golden/steps.h"
#include "llm/registry.h"
#include "lm_common/model_context.h"
#include "weights/gguf.h"

namespace mlxcpp::golden {
namespace {

// [layers + 1, L, hidden] as transformers gives them: the embedding, each layer's output, the last
// one after the final norm.
mx::array hidden_states(LanguageModel& model, const mx::array& ids) {
  std::vector<mx::array> states = {model.embed(ids)};
  Caches none;
  const auto paths = model.paths();
  mx::array last = states[0];
  {
    const nn::ObserverScope scope([&](const nn::Module& m, const mx::array& out) {
      const auto it = paths.find(&m);
      if (it == paths.end()) return;
      // "model.layers.7": an element of the list of layers, not a part of one
      const auto dot = it->second.rfind('.');
      if (dot != std::string::npos && it->second.substr(0, dot).ends_with("layers") &&
          out.shape() == states[0].shape())
        states.push_back(out);
    });
    last = model.hidden(ids, none);
  }
  if (states.size() > 1) states.back() = last;
  for (auto& s : states) s = mx::squeeze(mx::astype(s, mx::float32), 0);
  return mx::stack(states);
}

// Everything that a fixture says of the model that a checkpoint makes.
void compare_model(Checkpoint checkpoint, References& want, Comparison& out) {
  const auto model = make_language_model(std::move(checkpoint), llm::model_types());
  // Another implementation's numbers, recorded where it departs from the reference.
  want.skip("logits_mlx_lm");
  want.skip("generated_mlx_lm");

  const auto& ids = want.at("input_ids");
  if (want.has("hidden_states")) {
    const auto got = hidden_states(*model, row(ids, 0));
    const auto& ref = want.at("hidden_states");
    if (got.shape() != ref.shape()) {
      out.tensor("hidden_states", got, ref);
    } else {
      for (int i = 0; i < ref.shape(0); ++i)
        out.tensor(i == 0 ? "embedding" : fmt::format("layer {}", i - 1), mx::take(got, i, 0),
                   mx::take(ref, i, 0));
    }
  }
  Caches none;
  const auto& logits = want.at("logits");
  out.tensor("logits", (*model)(ids, none), logits);
  for (int b = 0; b < ids.shape(0) && ids.shape(0) > 1; ++b)
    out.tensor(fmt::format("logits of row {} alone", b), (*model)(row(ids, b), none),
               mx::slice(logits, {b, 0, 0}, {b + 1, logits.shape(1), logits.shape(2)}));

  compare_generation(*model, want, out);
}

}  // namespace

void compare_language_model(const fs::path& folder, const Options& options, Comparison& out) {
  (void)options;
  References want(folder / "golden.safetensors");
  compare_model(load_fixture_checkpoint(folder), want, out);
  // BitNet's other way of computing, on request.
  if (want.has("logits_act_quant")) {
    Checkpoint checkpoint = load_fixture_checkpoint(folder);
    checkpoint.config["quantize_activations"] = true;
    const auto model = make_language_model(std::move(checkpoint), llm::model_types());
    Caches none;
    out.tensor("logits_act_quant", (*model)(want.at("input_ids"), none),
               want.at("logits_act_quant"));
  }
  for (const auto& name : want.unused())
    out.check(name, false, "in golden.safetensors, but not compared");
}

// golden/gguf: a GGUF file with the weights of a fixture of golden/llm, which the .json names.
void compare_gguf(const fs::path& json, const Options& options, Comparison& out) {
  (void)options;
  const fs::path twin =
      json.parent_path().parent_path() / read_json(json).at("model").get<std::string>();
  References want(twin / "golden.safetensors");
  compare_model(load_checkpoint(GgufFile(fs::path(json).replace_extension(".gguf"))), want, out);
}

}  // namespace mlxcpp::golden
