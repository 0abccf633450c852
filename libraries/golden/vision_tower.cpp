// golden/vlm/gemma3n_vision_full: a tower alone, with what each of its blocks makes.
#include "golden/vlm.h"
#include "vlm/models/gemma3n_vision.h"

namespace mlxcpp::golden {
namespace {

// "stem", "stage2.block36", "msfa", "msfa_ffn" -> the module's path.
std::string path_of(const std::string& name) {
  if (name == "stem") return "conv_stem";
  if (name == "msfa_ffn") return "msfa.ffn";
  const auto block = name.find(".block");
  if (block == std::string::npos) return name;
  constexpr std::string_view kStage = "stage", kBlock = ".block";
  return "blocks." + name.substr(kStage.size(), block - kStage.size()) + "." +
         name.substr(block + kBlock.size());
}

// As 8-bit samples, or ready.
mx::array pixels(const mx::array& stored) {
  return stored.dtype() == mx::uint8 ? mx::astype(stored, mx::float32) / mx::array(255.0f) : stored;
}

mx::array channels_first(const mx::array& x) { return mx::transpose(x, {0, 3, 1, 2}); }

}  // namespace

void compare_vision_tower(const fs::path& folder, const Options& options, Comparison& out) {
  (void)options;
  constexpr std::string_view kPrefix = "model.vision_tower.timm_model.";
  const Checkpoint checkpoint = load_fixture_checkpoint(folder);
  vlm::MobileNetV5 tower(read_config<vlm::Gemma3nVisionConfig>(checkpoint.config));
  nn::Weights weights;
  for (const auto& [name, w] : checkpoint.weights)
    if (name.starts_with(kPrefix)) weights.emplace(name.substr(kPrefix.size()), w);
  nn::load(tower, vlm::convolutions_channels_last(std::move(weights)));

  References want(folder / "golden.safetensors");
  const double bound = read_json(folder / "golden.json").at("tolerance").at("intermediate_max_abs");
  std::map<std::string, mx::array> seen;
  const auto paths = tower.paths();
  mx::array output(0.0f);
  {
    const nn::ObserverScope scope([&](const nn::Module& m, const mx::array& y) {
      if (const auto it = paths.find(&m); it != paths.end()) seen.insert_or_assign(it->second, y);
    });
    output = tower(pixels(want.at("pixel_values")));
  }
  for (const std::string& name : want.names()) {
    if (name == "pixel_values") continue;
    const auto it = seen.find(path_of(name));
    if (name == "output")
      out.tensor(name, channels_first(output), want.at(name), {.abs = bound});
    else if (it != seen.end())
      out.tensor(name, channels_first(it->second), want.at(name), {.abs = bound});
  }
  for (const auto& name : want.unused())
    out.check(name, false, "in golden.safetensors, but not compared");
}

}  // namespace mlxcpp::golden
