#include "adapters/lora.h"

#include <algorithm>
#include <map>
#include <set>

namespace mlxcpp::adapters {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
}

// Paths of adaptable layers at or below `prefix`, but not those that are held by an adapted one.
std::vector<std::string> adaptable_below(const nn::Module& model, const std::string& prefix) {
  std::vector<std::string> paths;
  std::string held;  // below this path
  model.for_each_module([&](const std::string& path, const nn::Module& m) {
    if (!prefix.empty() && !path.starts_with(prefix + ".")) return;
    if (!held.empty() && path.starts_with(held)) return;
    if (!is_adaptable(m)) return;
    paths.push_back(path);
    if (dynamic_cast<const AdaptedLayer*>(&m)) held = path + ".";
  });
  return paths;
}

// The order in which mlx_lm draws the first matrices, so that a seed gives the same ones here: the
// layers one after the other, each walked from its end. The MLPs of its models have up_proj after
// down_proj.
std::vector<std::string> in_mlx_lm_order(std::vector<std::string> paths) {
  const auto layer = [](const std::string& path) {  // up to its number
    size_t end = 0;
    for (size_t dot = path.find('.'); dot != std::string::npos; dot = path.find('.', dot + 1))
      if (is_number(path.substr(end, dot - end)))
        return path.substr(0, dot);
      else
        end = dot + 1;
    return std::string();
  };
  for (auto first = paths.begin(); first != paths.end();) {
    const auto of = layer(*first);
    const auto last =
        std::find_if(first, paths.end(), [&](const std::string& p) { return layer(p) != of; });
    if (!of.empty()) std::reverse(first, last);
    first = last;
  }
  for (size_t i = 1; i < paths.size(); ++i)
    if (paths[i - 1].ends_with(".down_proj") && paths[i].ends_with(".up_proj"))
      std::swap(paths[i - 1], paths[i]);
  return paths;
}

}  // namespace

std::optional<FineTuneType> fine_tune_type_from_name(std::string_view name) {
  if (name == "lora") return FineTuneType::lora;
  if (name == "dora") return FineTuneType::dora;
  if (name == "full") return FineTuneType::full;
  return std::nullopt;
}

std::string_view name(FineTuneType type) {
  return type == FineTuneType::lora ? "lora" : type == FineTuneType::dora ? "dora" : "full";
}

void LoraConfig::fields(ConfigReader& v) {
  std::string type_name = "lora";
  v.maybe("fine_tune_type", type_name);
  const auto found = fine_tune_type_from_name(type_name);
  if (!found)
    throw Error("{}: 'fine_tune_type' must be lora, dora or full, found '{}'", v.where(),
                type_name);
  type = *found;
  v.maybe("num_layers", num_layers);
  if (num_layers < -1)
    throw Error("{}: 'num_layers' must be -1 or more, found {}", v.where(), num_layers);
  // How mlx_lm trained it (mlx_lm/lora.py, CONFIG_DEFAULTS): nothing that the layers depend on.
  for (const char* key : {"model",
                          "train",
                          "test",
                          "data",
                          "optimizer",
                          "optimizer_config",
                          "trust_remote_code",
                          "mask_prompt",
                          "seed",
                          "batch_size",
                          "iters",
                          "val_batches",
                          "test_batches",
                          "learning_rate",
                          "lr_schedule",
                          "steps_per_report",
                          "steps_per_eval",
                          "resume_adapter_file",
                          "adapter_path",
                          "save_every",
                          "max_seq_length",
                          "config",
                          "grad_checkpoint",
                          "grad_accumulation_steps",
                          "clear_cache_threshold",
                          "hf_dataset",
                          "report_to",
                          "project_name",
                          "wandb"})
    v.skip(key);
  if (type == FineTuneType::full) {
    v.skip("lora_parameters");
    return;
  }
  struct Parameters {
    LowRank how;
    std::optional<std::vector<std::string>> keys;
    void fields(ConfigReader& r) {
      r.need("rank", how.rank);
      if (r.json().contains("alpha") && !r.json().contains("scale"))
        throw Error("{}: 'scale' is missing; mlx_lm's factor is 'scale', not 'alpha'", r.where());
      r.need("scale", how.scale);
      r.maybe("dropout", how.dropout);
      r.maybe("keys", keys);
    }
  } p;
  v.need("lora_parameters", p);
  if (p.how.rank < 1)
    throw Error("{}: lora_parameters: 'rank' must be positive, found {}", v.where(), p.how.rank);
  if (!(p.how.dropout >= 0 && p.how.dropout < 1))
    throw Error("{}: lora_parameters: 'dropout' must be in [0, 1), found {}", v.where(),
                p.how.dropout);
  how = p.how;
  keys = p.keys;
}

Json LoraConfig::json() const {
  Json j = {{"fine_tune_type", name(type)}, {"num_layers", num_layers}};
  if (type == FineTuneType::full) return j;
  Json p = {{"rank", how.rank}, {"scale", how.scale}, {"dropout", how.dropout}};
  if (keys) p["keys"] = *keys;
  j["lora_parameters"] = std::move(p);
  return j;
}

std::vector<std::string> decoder_layers(const nn::Module& model) {
  // The list's path -> its elements; std::map keeps the order of equals fixed.
  std::map<std::string, std::vector<std::string>> lists;
  model.for_each_module([&](const std::string& path, const nn::Module&) {
    const size_t dot = path.rfind('.');
    if (dot != std::string::npos && is_number(path.substr(dot + 1)))
      lists[path.substr(0, dot)].push_back(path);
  });
  const auto depth = [](const std::string& p) { return std::count(p.begin(), p.end(), '.'); };
  const std::vector<std::string>* best = nullptr;
  long best_depth = 0;
  for (const auto& [list, elements] : lists) {
    const long d = depth(list);
    if (best && (d > best_depth || (d == best_depth && elements.size() <= best->size()))) continue;
    best = &elements;
    best_depth = d;
  }
  if (!best) throw Error("{} has no list of layers to adapt", model.type_name());
  return *best;
}

std::vector<std::string> adapted_paths(const nn::Module& model, const LoraConfig& config) {
  const auto layers = decoder_layers(model);
  std::set<std::string> keys;
  if (config.keys)
    keys.insert(config.keys->begin(), config.keys->end());
  else
    for (const auto& layer : layers)
      for (const auto& path : adaptable_below(model, layer))
        keys.insert(path.substr(layer.size() + 1));

  std::vector<std::string> out;
  std::set<std::string> used;
  const size_t wanted =
      config.num_layers <= 0 ? layers.size() : std::min<size_t>(layers.size(), config.num_layers);
  for (size_t i = 0; i < layers.size(); ++i)
    for (const auto& path : adaptable_below(model, layers[i])) {
      const auto key = path.substr(layers[i].size() + 1);
      if (!keys.contains(key)) continue;
      used.insert(key);
      if (i + wanted >= layers.size()) out.push_back(path);
    }
  for (const auto& path : adaptable_below(model, ""))
    if (keys.contains(path) && std::find(out.begin(), out.end(), path) == out.end()) {
      used.insert(path);
      out.push_back(path);
    }
  for (const auto& key : keys)
    if (!used.contains(key))
      throw Error("lora_parameters: keys: '{}' names no layer that can be adapted in {}", key,
                  layers.front());
  return out;
}

void prepare_training(nn::Module& model, const LoraConfig& config) {
  const auto layers = decoder_layers(model);
  if (config.num_layers > static_cast<int>(layers.size()))
    throw Error("cannot train {} layers: the model has {}", config.num_layers, layers.size());
  model.freeze();
  if (config.type == FineTuneType::full) {
    const size_t wanted = config.num_layers <= 0 ? layers.size() : config.num_layers;
    for (size_t i = layers.size() - wanted; i < layers.size(); ++i) model.unfreeze(layers[i]);
    return;
  }
  for (const auto& path : in_mlx_lm_order(adapted_paths(model, config)))
    adapt_layer(model, path, config.how, config.type == FineTuneType::dora);
}

}  // namespace mlxcpp::adapters
