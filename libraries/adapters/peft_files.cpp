// Adapters of Hugging Face's PEFT. Reference: peft/tuners/lora/{config,layer,dora}.py and
// peft/utils/save_and_load.py.
#include <cmath>
#include <map>

#include "adapters/adapter_files.h"
#include "weights/safetensors.h"

namespace mlxcpp::adapters {
namespace {

namespace fs = std::filesystem;

// Fields that say how the adapter was made or found, not what it computes.
constexpr const char* kHarmless[] = {"alpha_pattern",
                                     "auto_mapping",
                                     "base_model_name_or_path",
                                     "corda_config",
                                     "ensure_weight_tying",
                                     "eva_config",
                                     "exclude_modules",
                                     "inference_mode",
                                     "layers_pattern",
                                     "layers_to_transform",
                                     "loftq_config",
                                     "lora_alpha",
                                     "lora_dropout",
                                     "modules_to_save",
                                     "peft_type",
                                     "peft_version",
                                     "qalora_group_size",
                                     "r",
                                     "rank_pattern",
                                     "revision",
                                     "runtime_config",
                                     "target_modules",
                                     "task_type",
                                     "use_dora",
                                     "use_rslora",
                                     "megatron_core",
                                     "init_lora_weights",
                                     "bias"};

bool says_nothing(const Json& j) {
  return j.is_null() || j == Json(false) || (j.is_structured() && j.empty()) || j == Json("none");
}

struct PeftConfig {
  std::string where;
  int r = 8;
  float alpha = 8, dropout = 0;
  bool dora = false, rslora = false;
  std::map<std::string, int> rank_pattern;
  std::map<std::string, float> alpha_pattern;

  PeftConfig(const Json& json, const std::string& file) : where(file) {
    ConfigReader v(json, file);
    std::string type, bias = "none";
    v.need("peft_type", type);
    if (type != "LORA") throw Error("{}: 'peft_type' must be LORA, found {}", where, type);
    v.need("r", r);
    v.need("lora_alpha", alpha);
    v.maybe("lora_dropout", dropout);
    v.maybe("use_dora", dora);
    v.maybe("use_rslora", rslora);
    v.maybe("bias", bias);
    if (r < 1) throw Error("{}: 'r' must be positive, found {}", where, r);
    if (bias != "none")
      throw Error("{}: 'bias' \"{}\" is not supported: only \"none\"", where, bias);
    // Some ways to start change the base, so that the adapter fits that changed base only.
    if (const auto it = json.find("init_lora_weights"); it != json.end() && it->is_string())
      if (const auto how = it->get<std::string>();
          how != "gaussian" && how != "eva" && how != "orthogonal")
        throw Error(
            "{}: 'init_lora_weights' \"{}\" is not supported: it changed the base's weights; "
            "convert the adapter with PEFT's path_initial_model_for_weight_conversion",
            where, how);
    for (const auto& [key, value] : json.items()) {
      bool known = says_nothing(value);
      for (const char* harmless : kHarmless) known |= key == harmless;
      if (!known) throw Error("{}: '{}' is not supported, found {}", where, key, describe(value));
    }
    read_pattern(v, json, "rank_pattern", rank_pattern);
    read_pattern(v, json, "alpha_pattern", alpha_pattern);
  }

  int rank_of(const std::string& path) const { return of_pattern(rank_pattern, path, r); }
  float scale_of(const std::string& path) const {
    const auto rank = static_cast<float>(rank_of(path));
    return of_pattern(alpha_pattern, path, alpha) / (rslora ? std::sqrt(rank) : rank);
  }

 private:
  template <class T>
  void read_pattern(ConfigReader&, const Json& json, const char* key,
                    std::map<std::string, T>& out) {
    const auto it = json.find(key);
    if (it == json.end() || it->is_null()) return;
    ConfigReader patterns(*it, where + ": " + key);
    for (const auto& [pattern, value] : it->items()) {
      // PEFT takes them for regular expressions. A name, with or without the anchor in front, is
      // what is met.
      const std::string literal = pattern.starts_with("^") ? pattern.substr(1) : pattern;
      if (literal.find_first_of("^$*+?()[]{}|\\") != std::string::npos)
        throw Error("{}: '{}': only names are supported, not the pattern '{}'", where, key,
                    pattern);
      patterns.need(pattern.c_str(), out[pattern]);
    }
  }
  template <class T>
  static T of_pattern(const std::map<std::string, T>& patterns, const std::string& path, T usual) {
    for (const auto& [pattern, value] : patterns) {
      if (pattern.starts_with("^") ? path == pattern.substr(1)
                                   : path == pattern || path.ends_with("." + pattern))
        return value;
    }
    return usual;
  }
};

constexpr std::string_view kPrefix = "base_model.model.";

// One kind of key: what stands after the layer's path.
struct Suffix {
  std::string_view text;
  char part;  // a, b or m
};
constexpr Suffix kSuffixes[] = {
    {".lora_A.weight", 'a'},         {".lora_B.weight", 'b'},
    {".lora_embedding_A", 'a'},      {".lora_embedding_B", 'b'},
    {".lora_magnitude_vector", 'm'}, {".lora_magnitude_vector.weight", 'm'},
};

}  // namespace

AdapterFile detail::read_peft(const fs::path& folder, const Json& json) {
  const PeftConfig config(json, (folder / "adapter_config.json").string());
  AdapterFile out;
  out.file = folder / "adapter_model.safetensors";
  if (!fs::exists(out.file) && fs::exists(folder / "adapter_model.bin"))
    throw Error(
        "{}: only adapter_model.safetensors is read; save the adapter with "
        "safe_serialization=True",
        (folder / "adapter_model.bin").string());
  std::map<std::string, LayerTensors> layers;
  for (const auto& [key, tensor] : load_safetensors(out.file)) {
    const auto fail = [&, k = key](const std::string& what) {
      throw Error("{}: '{}' {}", out.file.string(), k, what);
    };
    if (!key.starts_with(kPrefix)) fail(fmt::format("does not begin with '{}'", kPrefix));
    const std::string rest = key.substr(kPrefix.size());
    const Suffix* suffix = nullptr;
    for (const Suffix& s : kSuffixes)
      if (rest.ends_with(s.text)) suffix = &s;
    if (!suffix) {
      if (rest.find(".lora_") != std::string::npos) fail("is not supported");
      // The adapted embedding itself, which PEFT saves along.
      constexpr std::string_view kBase = ".base_layer.";
      std::string whole = rest;
      if (const size_t at = rest.find(kBase); at != std::string::npos)
        whole = rest.substr(0, at + 1) + rest.substr(at + kBase.size());
      out.whole_keys.emplace(whole, key);
      out.whole.emplace(std::move(whole), tensor);
      continue;
    }
    const std::string path = rest.substr(0, rest.size() - suffix->text.size());
    LayerTensors& layer = layers[path];
    if (suffix->part == 'm') {
      if (!config.dora) fail("needs 'use_dora' in adapter_config.json");
      layer.m = mx::reshape(tensor, {-1});
      layer.m_key = key;
      continue;
    }
    if (tensor.ndim() != 2)
      fail(fmt::format("must have 2 axes, found [{}]", fmt::join(tensor.shape(), ", ")));
    // A is [r, in], B [out, r].
    auto& part = suffix->part == 'a' ? layer.a : layer.b;
    part = mx::contiguous(mx::transpose(tensor));
    (suffix->part == 'a' ? layer.a_key : layer.b_key) = key;
  }
  for (auto& [path, layer] : layers) {
    layer.path = path;
    layer.transposed = true;
    layer.rank = config.rank_of(path);
    layer.scale = config.scale_of(path);
    layer.dropout = config.dropout;
    if (config.dora && !layer.m)
      throw Error("{}: '{}.lora_magnitude_vector' is missing, as 'use_dora' asks for it",
                  out.file.string(), path);
    out.layers.push_back(std::move(layer));
  }
  return out;
}

}  // namespace mlxcpp::adapters
