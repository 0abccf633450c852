#include "weights/checkpoint.h"

#include "core/atomic_file.h"
#include "weights/gguf.h"
#include "weights/npz.h"
#include "weights/safetensors.h"

namespace mlxcpp {
namespace {

// weights.npz is what the first MLX conversions were published as.
std::map<std::string, mx::array> read_weights(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "weights.npz") &&
      !std::filesystem::exists(folder / "model.safetensors"))
    return read_npz(folder / "weights.npz");
  return read_safetensors_folder(folder).tensors;
}

}  // namespace

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
  out.weights = read_weights(folder);
  for (const auto& [name, array] : out.weights) out.bytes += array.nbytes();

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

void write_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint,
                      size_t max_shard_bytes) {
  Json config = checkpoint.config;
  config.erase("quantization");
  config.erase("quantization_config");
  if (const Json q = write_quantization(checkpoint.quantization); !q.is_null())
    config["quantization"] = config["quantization_config"] = q;
  write_safetensors_folder(folder, checkpoint.weights, {{"format", "mlx"}}, max_shard_bytes);
  write_file(folder / "config.json", config.dump(4));
}

}  // namespace mlxcpp
