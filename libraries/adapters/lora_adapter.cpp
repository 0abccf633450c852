#include "adapters/lora_adapter.h"

#include <algorithm>
#include <set>

#include "lm_common/head_rows.h"
#include "nn/quantizable.h"

namespace mlxcpp::adapters {
namespace {

std::string shape_text(const mx::array& a) {
  return fmt::format("[{}]", fmt::join(a.shape(), ", "));
}

// What a path of a file may be called in the tree: adapters of a multimodal model name its parts as
// the checkpoints or as transformers do, and may be laid on its text model alone.
std::vector<std::string> spellings(const std::string& path) {
  static constexpr std::pair<std::string_view, std::string_view> kPrefixes[] = {
      {"language_model.", ""},
      {"model.language_model.", "model."},
      {"model.language_model.", "language_model.model."},
      {"model.text_model.", "language_model.model."},
      {"model.vision_tower.vision_model.", "vision_tower.vision_model."},
      {"model.vision_tower.", "vision_tower.vision_model."},
      {"vision_tower.", "vision_tower.vision_model."},
      {"model.", "language_model.model."},
      {"lm_head", "language_model.lm_head"},
      {"model.", ""},
  };
  std::vector<std::string> out = {path};
  for (const auto& [from, to] : kPrefixes)
    if (path.starts_with(from)) out.push_back(std::string(to) + path.substr(from.size()));
  return out;
}

struct Shapes {
  mx::Shape a, b, m;
};

// What the matrices of an adapter of this rank look like at a layer.
Shapes shapes_at(const nn::Module& layer, int rank) {
  if (const auto* l = dynamic_cast<const nn::Linear*>(&layer))
    return {{l->input_dims(), rank}, {rank, l->output_dims()}, {l->output_dims()}};
  if (const auto* e = dynamic_cast<const nn::Embedding*>(&layer))
    return {{e->count(), rank}, {rank, e->dims()}, {e->count()}};
  const auto& s = dynamic_cast<const nn::SwitchLinear&>(layer);
  return {{s.num_experts(), rank, s.input_dims()}, {s.num_experts(), s.output_dims(), rank}, {}};
}

// The rows of every query and key projection of a model from a GGUF file.
void follow_gguf(LayerTensors& layer, const Json& config) {
  const int heads = heads_at(layer.path, config);
  if (heads == 0) return;
  layer.b = mx::contiguous(mx::transpose(interleaved_rows(mx::transpose(*layer.b), heads)));
  if (layer.m) layer.m = mx::contiguous(interleaved_rows(*layer.m, heads));
  mx::eval(*layer.b);
  if (layer.m) mx::eval(*layer.m);
}

// Paths of the layers that `owner` put into the model.
std::vector<std::string> layers_of(const void* owner, const nn::Module& model) {
  std::vector<std::string> out;
  model.for_each_module([&](const std::string& path, const nn::Module& m) {
    const auto* layer = dynamic_cast<const AdaptedLayer*>(&m);
    if (layer && layer->owner == owner) out.push_back(path);
  });
  return out;
}

}  // namespace

LoraAdapter::LoraAdapter(const std::filesystem::path& folder, const Json& config)
    : LoraAdapter(read_adapter(folder), config) {}

LoraAdapter::LoraAdapter(AdapterFile file, const Json& config) : file_(std::move(file)) {
  if (has_interleaved_rows(config))
    for (auto& layer : file_.layers) follow_gguf(layer, config);
}

// Where the layer stands in the model, after everything has been checked.
std::string LoraAdapter::place_of(const LayerTensors& layer, const nn::Module& model) const {
  const nn::Module* found = nullptr;
  std::string place;
  const auto names = spellings(layer.path);
  size_t best = names.size();
  model.for_each_module([&](const std::string& path, const nn::Module& m) {
    const auto name =
        static_cast<size_t>(std::find(names.begin(), names.end(), path) - names.begin());
    if (name >= best) return;
    best = name;
    found = &m;
    place = path;
  });
  const auto fail = [&](const std::string& key, const std::string& expected,
                        const std::string& found_text) {
    throw Error("{}: '{}' does not fit the model: expected {}, found {}", file_.file.string(), key,
                expected, found_text);
  };
  if (!found || !is_adaptable(*found))
    fail(layer.a_key, "a linear or embedding layer at " + layer.path,
         found ? "a " + found->type_name() : "none there");
  const Shapes want = shapes_at(*found, layer.rank);
  const auto check = [&](const std::string& key, const mx::array& a, mx::Shape shape) {
    if (a.shape() != shape) {
      auto there = a.shape();
      if (layer.transposed) {  // shapes as the file has them
        std::reverse(there.begin(), there.end());
        std::reverse(shape.begin(), shape.end());
      }
      fail(key, fmt::format("shape [{}]", fmt::join(shape, ", ")),
           fmt::format("[{}]", fmt::join(there, ", ")));
    }
    if (!mx::issubdtype(a.dtype(), mx::floating))
      fail(key, "floating point", nn::dtype_name(a.dtype()));
  };
  check(layer.a_key, *layer.a, want.a);
  check(layer.b_key, *layer.b, want.b);
  if (layer.m) check(layer.m_key, *layer.m, want.m);
  return place;
}

void LoraAdapter::load(LanguageModel& model) const {
  if (replaced_.contains(&model) || !layers_of(this, model).empty())
    throw Error("{}: this adapter is on the model already", file_.file.string());
  std::vector<std::pair<const LayerTensors*, std::string>> places;
  for (const auto& layer : file_.layers) places.emplace_back(&layer, place_of(layer, model));
  nn::Weights fits, before;
  if (!file_.whole.empty()) {
    const auto have = model.parameters();
    for (const auto& [key, value] : file_.whole) {
      const nn::Weights::value_type* there = nullptr;
      for (const auto& name : spellings(key))
        if (const auto it = have.find(name); !there && it != have.end()) there = &*it;
      const auto renamed = file_.whole_keys.find(key);
      const auto& in_file = renamed == file_.whole_keys.end() ? key : renamed->second;
      if (!there)
        throw Error("{}: '{}' does not fit the model: it has no such parameter",
                    file_.file.string(), in_file);
      if (there->second.shape() != value.shape() ||
          mx::issubdtype(there->second.dtype(), mx::floating) !=
              mx::issubdtype(value.dtype(), mx::floating))
        throw Error("{}: '{}' does not fit the model: expected {} {}, found {} {}",
                    file_.file.string(), in_file, nn::dtype_name(there->second.dtype()),
                    shape_text(there->second), nn::dtype_name(value.dtype()), shape_text(value));
      fits.emplace(there->first, value);
      before.emplace(*there);
    }
  }
  // From here on nothing fails but DoRA on what cannot take it; then all is taken off again.
  if (!fits.empty()) {
    model.update(fits);
    replaced_[&model] = std::move(before);
  }
  try {
    for (const auto& [layer, place] : places) {
      AdaptedLayer& put =
          adapt_layer(model, place, {layer->rank, layer->scale, layer->dropout},
                      layer->m || (file_.config && file_.config->type == FineTuneType::dora));
      put.owner = this;
      for (const auto& [name, param] : put.adapter_params()) {
        if (name == "lora_a") param->set(*layer->a);
        if (name == "lora_b") param->set(*layer->b);
        if (name == "m" && layer->m) param->set(*layer->m);
      }
    }
  } catch (...) {
    unload(model);
    throw;
  }
}

void LoraAdapter::unload(LanguageModel& model) const {
  for (const auto& path : layers_of(this, model)) restore_layer(model, path);
  const auto it = replaced_.find(&model);
  if (it == replaced_.end()) return;
  model.update(it->second);
  replaced_.erase(it);
}

void LoraAdapter::fuse(LanguageModel& model, bool dequantize) const {
  if (!replaced_.contains(&model) && layers_of(this, model).empty()) load(model);
  std::vector<std::pair<std::string, std::unique_ptr<nn::Module>>> fused;
  for (const auto& path : layers_of(this, model))
    fused.emplace_back(path, dynamic_cast<const AdaptedLayer&>(model.at(path)).fused(dequantize));
  for (auto& [path, layer] : fused) model.replace(path, std::move(layer));
  replaced_.erase(&model);
}

}  // namespace mlxcpp::adapters
