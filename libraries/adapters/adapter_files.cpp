#include "adapters/adapter_files.h"

#include <map>

#include "core/atomic_file.h"
#include "weights/safetensors.h"

namespace mlxcpp::adapters {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kMlxTensors = "adapters.safetensors";
constexpr const char* kPeftTensors = "adapter_model.safetensors";

AdapterFile read_mlx(const fs::path& folder, const Json& config) {
  AdapterFile out;
  out.file = folder / kMlxTensors;
  out.config = read_config<LoraConfig>(config, (folder / kConfig).string());
  auto tensors = load_safetensors(out.file);
  if (out.config->type == FineTuneType::full) {
    out.whole = std::move(tensors);
    return out;
  }
  std::map<std::string, LayerTensors> layers;
  for (auto& [key, tensor] : tensors) {
    const size_t dot = key.rfind('.');
    const std::string leaf = dot == std::string::npos ? key : key.substr(dot + 1);
    const bool magnitude = leaf == "m" && out.config->type == FineTuneType::dora;
    if (dot == std::string::npos || (leaf != "lora_a" && leaf != "lora_b" && !magnitude))
      throw Error("{}: '{}' is no parameter of a {} adapter", out.file.string(), key,
                  name(out.config->type));
    LayerTensors& layer = layers[key.substr(0, dot)];
    (leaf == "lora_a" ? layer.a : leaf == "lora_b" ? layer.b : layer.m) = tensor;
    (leaf == "lora_a" ? layer.a_key : leaf == "lora_b" ? layer.b_key : layer.m_key) = key;
  }
  for (auto& [path, layer] : layers) {
    layer.path = path;
    layer.scale = out.config->how.scale;
    layer.dropout = out.config->how.dropout;
    layer.rank = out.config->how.rank;
    out.layers.push_back(std::move(layer));
  }
  return out;
}

}  // namespace

AdapterFile read_adapter(const fs::path& folder) {
  if (!fs::is_directory(folder))
    throw Error("adapter {}: expected a folder with {} and {} (mlx_lm) or {} (PEFT)",
                folder.string(), kConfig, kMlxTensors, kPeftTensors);
  const Json config = read_json(folder / kConfig);
  if (!config.is_object())
    throw Error("{}: expected an object, found {}", (folder / kConfig).string(), describe(config));
  AdapterFile out =
      config.contains("peft_type") ? detail::read_peft(folder, config) : read_mlx(folder, config);
  for (const auto& layer : out.layers)
    if (!layer.a || !layer.b)
      throw Error("{}: '{}' has no partner for {}", out.file.string(),
                  layer.a   ? layer.a_key
                  : layer.b ? layer.b_key
                            : layer.m_key,
                  layer.path);
  if (out.layers.empty() && out.whole.empty())
    throw Error("{}: there is no tensor in it", out.file.string());
  std::vector<mx::array> all;
  for (const auto& layer : out.layers) {
    all.insert(all.end(), {*layer.a, *layer.b});
    if (layer.m) all.push_back(*layer.m);
  }
  for (const auto& [key, value] : out.whole) all.push_back(value);
  mx::eval(all);
  return out;
}

void write_adapter(const fs::path& folder, const nn::Weights& tensors, const Json& config) {
  fs::create_directories(folder);
  write_safetensors(folder / kMlxTensors, tensors, {{"format", "mlx"}});
  write_file(folder / kConfig, config.dump(4) + "\n");
}

}  // namespace mlxcpp::adapters
