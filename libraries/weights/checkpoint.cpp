#include "weights/checkpoint.h"

#include "weights/gguf.h"
#include "weights/safetensors.h"

namespace mlxcpp {

Json load_config(const std::filesystem::path& folder,
                 const std::vector<std::filesystem::path>& gguf) {
  if (!gguf.empty()) return load_config(GgufFile(gguf));
  const std::filesystem::path file = folder / "config.json";
  Json config = read_json(file);
  if (!config.is_object())
    throw Error("{}: expected an object, found {}", file.string(), describe(config));
  return config;
}

Checkpoint load_checkpoint(const std::filesystem::path& folder,
                           const std::vector<std::filesystem::path>& gguf) {
  if (!gguf.empty()) return load_checkpoint(GgufFile(gguf));
  Checkpoint out;
  out.config = load_config(folder);
  out.quantization = read_quantization(out.config, (folder / "config.json").string());
  Safetensors file = read_safetensors_folder(folder);
  out.weights = std::move(file.tensors);
  out.bytes = file.bytes;

  // The settings say how, the scales which: a weight without them was left as it was.
  if (!out.quantization.everywhere) return out;
  constexpr std::string_view kWeight = ".weight";
  for (const auto& [name, array] : out.weights) {
    if (!name.ends_with(kWeight)) continue;
    const std::string path = name.substr(0, name.size() - kWeight.size());
    if (!out.weights.count(path + ".scales")) out.quantization.per_layer[path] = std::nullopt;
  }
  return out;
}

}  // namespace mlxcpp
