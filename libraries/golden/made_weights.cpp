#include "golden/made_weights.h"

#include "core/json.h"
#include "weights/safetensors.h"

namespace mlxcpp::golden {
namespace {

namespace mx = mlx::core;

struct Made {
  std::string dtype;
  std::vector<int> shape;
  double mean = 0, spread = 0;

  template <class V>
  void fields(V& v) {
    v.need("dtype", dtype);
    v.need("shape", shape);
    v.need("mean", mean);
    v.need("spread", spread);
  }
};

uint64_t fnv1a(const std::string& text) {
  uint64_t h = 0xCBF29CE484222325;
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return h;
}

// In [0, 1): the top 24 bits of splitmix64's i-th output.
double uniform(uint64_t start, uint64_t i) {
  uint64_t z = start + (i + 1) * 0x9E3779B97F4A7C15;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  z = z ^ (z >> 31);
  return static_cast<double>(z >> 40) / 16777216.0;
}

template <class T>
mx::array make(const std::string& name, const Made& m, uint64_t seed, size_t size,
               mx::Dtype dtype) {
  std::vector<T> values(size);
  const uint64_t start = fnv1a(name) ^ seed;
  for (size_t i = 0; i < size; ++i)
    values[i] = T(static_cast<float>(m.mean + m.spread * (2 * uniform(start, i) - 1)));
  return mx::array(values.begin(), mx::Shape(m.shape.begin(), m.shape.end()), dtype);
}

mx::array make(const std::string& name, const Made& m, uint64_t seed, const std::string& where) {
  size_t size = 1;
  for (const int d : m.shape)
    if (d < 0 || __builtin_mul_overflow(size, static_cast<size_t>(d), &size) ||
        size > size_t{1} << 32)
      throw Error("{}: 'shape' [{}] is out of range", where, fmt::join(m.shape, ", "));
  if (m.dtype == "F32") return make<float>(name, m, seed, size, mx::float32);
  if (m.dtype == "F16") return make<mx::float16_t>(name, m, seed, size, mx::float16);
  if (m.dtype == "BF16") return make<mx::bfloat16_t>(name, m, seed, size, mx::bfloat16);
  throw Error("{}: 'dtype' must be F32, F16 or BF16, found '{}'", where, m.dtype);
}

}  // namespace

std::map<std::string, mx::array> made_weights(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "weights.json", raw = folder / "raw.safetensors";
  const Json json = read_json(file);
  const std::string where = file.string();
  if (!json.is_object() || !json.contains("seed") || !json["seed"].is_number_unsigned() ||
      !json.contains("tensors") || !json["tensors"].is_object())
    throw Error("{}: expected an object with 'seed' and 'tensors'", where);
  std::map<std::string, mx::array> out;
  if (std::filesystem::exists(raw)) out = load_safetensors(raw);
  for (const auto& [name, description] : json["tensors"].items()) {
    const std::string at = where + ": " + name;
    const auto made = read_config<Made>(description, at);
    if (!out.emplace(name, make(name, made, json["seed"].get<uint64_t>(), at)).second)
      throw Error("{}: is in {}, too", at, raw.string());
  }
  return out;
}

}  // namespace mlxcpp::golden
