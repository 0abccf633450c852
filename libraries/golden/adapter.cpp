// golden/llm/NAME with a folder "adapter": the fixture that golden.json names as its base with the
// adapter on, off again, and fused.
#include "adapters/lora_adapter.h"
#include "golden/kinds.h"
#include "golden/steps.h"
#include "llm/registry.h"
#include "lm_common/model_context.h"

namespace mlxcpp::golden {

void compare_adapter(const fs::path& folder, const Options&, Comparison& out) {
  References want(folder / "golden.safetensors");
  const Json info = read_json(folder / "golden.json");
  const auto base = info.at("base").get<std::string>();
  Checkpoint checkpoint = load_fixture_checkpoint(folder.parent_path() / base);
  const Json config = checkpoint.config;
  const auto model = make_language_model(std::move(checkpoint), llm::model_types());
  model->eval();
  const adapters::LoraAdapter adapter(folder / info.value("adapter", "adapter"), config);

  const auto& ids = want.at("input_ids");
  Caches none;
  const auto logits = [&] { return (*model)(ids, none); };
  out.tensor("logits_base", logits(), want.at("logits_base"));
  adapter.load(*model);
  out.tensor("logits", logits(), want.at("logits"));
  compare_generation(*model, want, out);
  adapter.unload(*model);
  out.tensor("logits_base after unloading", logits(), want.at("logits_base"));
  adapter.fuse(*model);
  out.tensor("logits_fused", logits(), want.at("logits_fused"));
  for (const auto& name : want.unused())
    out.check(name, false, "in golden.safetensors, but not compared");
}

}  // namespace mlxcpp::golden
