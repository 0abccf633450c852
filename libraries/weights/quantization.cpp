#include <set>

#include "weights/checkpoint.h"

namespace mlxcpp {
namespace {

using kernels::QuantMode;
using kernels::QuantType;

// group_size and bits may be left out where the mode fixes them.
struct Settings {
  std::string mode = "affine";
  std::optional<int> group_size, bits;

  template <class V>
  void fields(V& v) {
    v.maybe("mode", mode);
    v.maybe("group_size", group_size);
    v.maybe("bits", bits);
  }
};

QuantType read_type(const Json& json, const std::string& where) {
  Settings s;
  ConfigReader reader(json, where);  // layers' paths may stand beside the settings
  s.fields(reader);
  const auto mode = kernels::quant_mode_from_name(s.mode);
  if (!mode || *mode > QuantMode::nvfp4)
    throw Error("{}: 'mode' must be affine, mxfp4, mxfp8 or nvfp4, found '{}'", where, s.mode);
  const QuantType usual = *mode == QuantMode::affine  ? QuantType{*mode, 64, 4}
                          : *mode == QuantMode::mxfp4 ? QuantType{*mode, 32, 4}
                          : *mode == QuantMode::mxfp8 ? QuantType{*mode, 32, 8}
                                                      : QuantType{*mode, 16, 4};
  try {
    return kernels::quant_type(*mode, s.group_size.value_or(usual.group_size),
                               s.bits.value_or(usual.bits));
  } catch (const Error& e) {
    throw Error("{}: {}", where, e.what());
  }
}

// What may stand beside the paths of layers.
bool is_setting(const std::string& key) {
  static const std::set<std::string> names = {"mode",         "group_size",   "bits",
                                              "quant_method", "linear_class", "quantization_mode"};
  return names.count(key) > 0;
}

}  // namespace

std::optional<QuantType> Quantization::at(const std::string& path) const {
  const auto it = per_layer.find(path);
  return it == per_layer.end() ? everywhere : it->second;
}

Quantization read_quantization(const Json& config, const std::string& where) {
  if (!config.is_object()) throw Error("{}: expected an object, found {}", where, describe(config));
  const char* key = "quantization";
  auto it = config.find(key);
  if (it == config.end() || it->is_null()) it = config.find(key = "quantization_config");
  Quantization out;
  if (it == config.end() || it->is_null()) return out;
  const std::string at = where + ": " + key;
  if (!it->is_object()) throw Error("{}: expected an object, found {}", at, describe(*it));
  const auto method = it->find("quant_method");
  // BitNet's layers hold ternary weights of their own kind (nn/bit_linear.h); the rest is plain.
  if (method != it->end() && *method == "bitnet" && key == std::string_view("quantization_config"))
    return out;
  if (method != it->end() && *method != "mlx")
    throw Error(
        "{}: quant_method {} is not supported; use a checkpoint that mlx_lm.convert or "
        "llama.cpp has quantised",
        at, describe(*method));
  out.everywhere = read_type(*it, at);
  for (const auto& [path, value] : it->items()) {
    if (is_setting(path)) continue;
    if (value.is_boolean()) {
      out.per_layer[path] = value.get<bool>() ? out.everywhere : std::nullopt;
      continue;
    }
    const std::string layer = fmt::format("{}: {}", at, path);
    if (!value.is_object())
      throw Error("{}: expected an object or false, found {}", layer, describe(value));
    for (const auto& [name, setting] : value.items())
      if (name != "mode" && name != "group_size" && name != "bits")
        throw Error("{}: expected group_size, bits and mode, found '{}'", layer, name);
    out.per_layer[path] = read_type(value, layer);
  }
  return out;
}

Json write_quantization(const Quantization& quantization) {
  const auto settings = [](const QuantType& t) -> Json {
    return {{"group_size", t.group_size}, {"bits", t.bits}, {"mode", kernels::name(t.mode)}};
  };
  std::optional<QuantType> everywhere = quantization.everywhere;
  for (const auto& [path, type] : quantization.per_layer) {
    if (type && type->is_gguf())
      throw Error("quantization: '{}' is {}, which only GGUF files hold; dequantise it first", path,
                  kernels::name(type->mode));
    if (type && !everywhere) everywhere = type;  // the object must have one
  }
  if (!everywhere) return nullptr;
  Json out = settings(*everywhere);
  // Layers that are not quantised have no scales; that says it, as mlx_lm has it.
  for (const auto& [path, type] : quantization.per_layer)
    if (type && type != everywhere) out[path] = settings(*type);
  return out;
}

}  // namespace mlxcpp
