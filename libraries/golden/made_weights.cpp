#include "golden/made_weights.h"

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "kernels/thread_pool.h"
#include "weights/safetensors.h"

namespace mlxcpp::golden {
namespace {

struct Made {
  std::string dtype;
  std::vector<int> shape;
  double mean = 0, spread = 0;

  void fields(ConfigReader& v) {
    v.need("dtype", dtype);
    v.need("shape", shape);
    v.need("mean", mean);
    v.need("spread", spread);
  }
};

uint64_t fnv1a(std::string_view text) {
  uint64_t h = 0xCBF29CE484222325u;
  for (const unsigned char byte : text) h = (h ^ byte) * 0x100000001B3u;
  return h;
}

float value(uint64_t start, size_t i, double mean, double spread) {
  uint64_t z = start + (i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  const double u = static_cast<double>(z >> 40) / (1 << 24);
  return static_cast<float>(mean + spread * (2 * u - 1));
}

mx::array make(const std::string& name, const Made& m, uint64_t seed) {
  size_t count = 1;
  for (const int d : m.shape) {
    if (d < 0 || count > (size_t{1} << 32))
      throw Error("weights.json: '{}' has a size out of range", name);
    count *= static_cast<size_t>(d);
  }
  std::vector<float> values(count);
  const uint64_t start = fnv1a(name) ^ seed;
  kernels::parallel_for(count, 1 << 16, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) values[i] = value(start, i, m.mean, m.spread);
  });
  mx::array a(values.begin(), mx::Shape(m.shape.begin(), m.shape.end()), mx::float32);
  if (m.dtype == "F32") return a;
  if (m.dtype == "BF16") return mx::astype(a, mx::bfloat16);
  if (m.dtype == "F16") return mx::astype(a, mx::float16);
  throw Error("weights.json: '{}' has dtype {}, expected F32, BF16 or F16", name, m.dtype);
}

}  // namespace

std::map<std::string, mx::array> made_weights(const std::filesystem::path& folder) {
  const auto file = folder / "weights.json";
  const Json json = read_json(file);
  if (!json.contains("seed") || !json["seed"].is_number_unsigned() || !json.contains("tensors"))
    throw Error("{}: 'seed' or 'tensors' is missing", file.string());
  const uint64_t seed = json["seed"];
  std::map<std::string, mx::array> weights;
  for (const auto& [name, description] : json["tensors"].items())
    weights.emplace(name,
                    make(name, read_config<Made>(description, file.string() + ": " + name), seed));
  if (const auto raw = folder / "raw.safetensors"; std::filesystem::exists(raw))
    for (const auto& [name, tensor] : read_safetensors(raw).tensors)
      weights.insert_or_assign(name, tensor);
  return weights;
}

}  // namespace mlxcpp::golden
