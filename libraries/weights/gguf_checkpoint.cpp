// A GGUF file as a Checkpoint: config.json's fields from its metadata, Hugging Face names for its
// tensors.
#include <algorithm>
#include <charconv>
#include <limits>

#include "weights/checkpoint.h"
#include "weights/gguf.h"
#include "weights/gguf_architectures.h"

namespace mlxcpp {
namespace {

// A count that the file gives once for all layers, or as a list, one for each: then all equal, but
// for layers of another kind, which have 0. may_differ: the first of those that are not 0.
std::optional<int> uniform(const GgufFile& g, const std::string& key, bool may_differ) {
  if (!g.is_list(key)) return g.find<int>(key);
  auto list = g.need<std::vector<int>>(key);
  std::erase(list, 0);
  const auto same = [&] { return std::count(list.begin(), list.end(), list[0]); };
  if (list.empty() || (!may_differ && same() != std::ssize(list)))
    throw Error("{}: '{}' differs from layer to layer, which is not supported", g.where(), key);
  return list.front();
}

int positive(const GgufFile& g, const std::string& key, bool may_differ = false) {
  const auto v = uniform(g, key, may_differ);
  if (!v) return g.need<int>(key);  // throws: missing
  if (*v <= 0) throw Error("{}: '{}' must be positive, found {}", g.where(), key, *v);
  return *v;
}

// Factors that wavelengths are multiplied by, one for each pair of a head (Llama 3.1 and later):
// the published formula's result, where the file has not its parameters. longrope with one list for
// all lengths says just that.
Json rope_factors(const GgufTensor& t, int context) {
  const std::vector<float> factors = t.floats();
  return {{"rope_type", "longrope"},
          {"short_factor", factors},
          {"long_factor", factors},
          {"original_max_position_embeddings", context},
          {"attention_factor", 1.0}};
}

Json rope_scaling(const GgufFile& g, const std::string& arch, int context) {
  if (const GgufTensor* t = g.tensor("rope_freqs.weight")) return rope_factors(*t, context);
  const auto type = g.get<std::string_view>(arch + ".rope.scaling.type", "none");
  // Older files have the linear factor alone.
  const auto old_factor = g.find<float>(arch + ".rope.scale_linear");
  if (type == "none" && !old_factor) return nullptr;
  const float factor = old_factor && type == "none"
                           ? *old_factor
                           : g.get<float>(arch + ".rope.scaling.factor", 1.0f);
  if (!(factor > 0))
    throw Error("{}: '{}.rope.scaling.factor' must be positive, found {}", g.where(), arch, factor);
  if (type == "none" || type == "linear") {
    if (factor == 1.0f) return nullptr;
    return {{"rope_type", "linear"}, {"factor", factor}};
  }
  if (type == "yarn")
    return {{"rope_type", "yarn"},
            {"factor", factor},
            {"original_max_position_embeddings",
             g.get<int>(arch + ".rope.scaling.original_context_length", context)}};
  if (type == "longrope") return nullptr;  // its factors are tensors, read by the family
  throw Error("{}: '{}.rope.scaling.type' must be none, linear, yarn or longrope, found '{}'",
              g.where(), arch, type);
}

// "blk.3.attn_q.weight" in its parts. layer: -1 outside of blocks.
struct TensorName {
  int layer = -1;
  std::string_view base, suffix;
};

TensorName split_name(std::string_view name) {
  TensorName out;
  if (const size_t dot = name.rfind('.'); dot != std::string_view::npos) {
    out.suffix = name.substr(dot);
    name = name.substr(0, dot);
  }
  if (name.starts_with("blk.")) {
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + 4, end, out.layer);
    if (error == std::errc() && rest != end && *rest == '.')
      name = name.substr(static_cast<size_t>(rest + 1 - name.data()));
    else
      out.layer = -1;
  }
  out.base = name;
  return out;
}

// Its row in the tables; null: not a tensor of this model.
const GgufName* find_name(const GgufArchitecture& a, const TensorName& n) {
  for (const GgufNames* names : {&a.names, n.layer < 0 ? &gguf_outer_names() : &gguf_block_names()})
    for (const GgufName& name : *names)
      if (name.from == n.base) return &name;
  return nullptr;
}

// Tensors that load_config has turned into fields.
bool is_config(std::string_view name) {
  return name == "rope_freqs.weight" || name == "rope_factors_long.weight" ||
         name == "rope_factors_short.weight";
}

mx::array minus_one(const GgufTensor& t) {
  std::vector<float> values = t.floats();
  for (float& v : values) v -= 1.0f;
  return mx::array(values.begin(), mx::Shape(t.shape.begin(), t.shape.end()), mx::float32);
}

// With the dimensions of 1 that GGUF dropped.
GgufTensor in_layout(GgufTensor t, GgufName::Layout layout) {
  if (layout == GgufName::as_row && t.shape.size() == 1) t.shape.insert(t.shape.begin(), 1);
  if (layout == GgufName::as_filter && t.shape.size() == 2) t.shape.insert(t.shape.begin() + 1, 1);
  return t;
}

}  // namespace

Json load_config(const GgufFile& g) {
  const GgufArchitecture& a = gguf_architecture(g);
  const std::string arch(a.name);
  const GgufTensor* embedding = g.tensor("token_embd.weight");
  if (!embedding || embedding->shape.size() != 2)
    throw Error("{}: tensor 'token_embd.weight' [vocabulary, width] is missing", g.where());

  const int hidden = positive(g, arch + ".embedding_length");
  const bool differ = (a.traits & kLayersDiffer) != 0;
  const int heads = positive(g, arch + ".attention.head_count", differ);
  const int context = positive(g, arch + ".context_length");
  if (embedding->shape[1] != hidden)
    throw Error("{}: '{}.embedding_length' is {}, 'token_embd.weight' has rows of {}", g.where(),
                arch, hidden, embedding->shape[1]);
  const int head_dim = g.has(arch + ".attention.key_length")
                           ? positive(g, arch + ".attention.key_length")
                           : hidden / heads;
  const int layers = positive(g, arch + ".block_count");
  if (static_cast<size_t>(layers) > g.tensors().size())  // before anything is made for each
    throw Error("{}: '{}.block_count' is {}, but the file has {} tensors", g.where(), arch, layers,
                g.tensors().size());
  Json c = {
      {"model_type", a.model_type},
      {"hidden_act", a.activation},
      {"vocab_size", embedding->shape[0]},
      {"hidden_size", hidden},
      {"num_hidden_layers", layers},
      {"intermediate_size", positive(g, arch + ".feed_forward_length", differ)},
      {"num_attention_heads", heads},
      {"num_key_value_heads",
       uniform(g, arch + ".attention.head_count_kv", differ).value_or(heads)},
      {"head_dim", head_dim},
      {"max_position_embeddings", context},
      {"rope_theta", g.get<float>(arch + ".rope.freq_base", 10000.0f)},
      {"tie_word_embeddings", g.tensor("output.weight") == nullptr},
      {"attention_bias", g.tensor("blk.0.attn_q.bias") != nullptr},
      {"mlp_bias", g.tensor("blk.0.ffn_up.bias") != nullptr},
  };
  c[std::string(a.epsilon_field)] =
      g.need<float>(arch + (a.traits & kLayerNorm ? ".attention.layer_norm_epsilon"
                                                  : ".attention.layer_norm_rms_epsilon"));
  if (const int rotary = g.get<int>(arch + ".rope.dimension_count", head_dim); rotary != head_dim)
    c["partial_rotary_factor"] = static_cast<double>(rotary) / head_dim;
  if (Json scaling = rope_scaling(g, arch, context); !scaling.is_null())
    c["rope_scaling"] = std::move(scaling);
  if (a.traits & kPermutedRope) c["rope_traditional"] = true;
  for (const auto& [from, to] : {std::pair{"bos", "bos"}, {"eos", "eos"}, {"padding", "pad"}})
    if (const auto id = g.find<int>(fmt::format("tokenizer.ggml.{}_token_id", from)))
      c[fmt::format("{}_token_id", to)] = *id;
  if (a.finish) a.finish(g, c);
  return c;
}

Checkpoint load_checkpoint(const GgufFile& g) {
  const GgufArchitecture& a = gguf_architecture(g);
  Checkpoint out;
  out.config = load_config(g);
  out.bytes = g.bytes();
  const int layers = positive(g, fmt::format("{}.block_count", a.name));
  for (const auto& [name, tensor] : g.tensors()) {
    if (is_config(name)) continue;
    const TensorName parts = split_name(name);
    const GgufName* row = find_name(a, parts);
    if (!row || parts.layer >= layers)
      throw Error("{}: tensor '{}' is not one of a {} model with {} layers", g.where(), name,
                  a.name, layers);
    const std::string path = parts.layer < 0
                                 ? std::string(row->to)
                                 : fmt::format("{}{}.{}", a.layers, parts.layer, row->to);
    const bool subtract = (a.traits & kNormPlusOne) && parts.base.ends_with("norm");
    const std::string suffix(row->layout == GgufName::whole ? "" : parts.suffix);
    const auto put = [&](const std::string& to, mx::array array) {
      if (!out.weights.emplace(to, std::move(array)).second)
        throw Error("{}: two tensors are '{}'", g.where(), to);
    };
    const bool matrix = parts.suffix == ".weight" && tensor.shape.size() >= 2;
    if (!matrix && (tensor.quantized || tensor.ternary))
      throw Error("{}: tensor '{}' is quantised, expected plain numbers", g.where(), name);
    auto* type = matrix ? &out.quantization.per_layer[path] : nullptr;
    if (tensor.ternary) {
      auto w = in_layout(tensor, row->layout).repacked();
      *type = w.type;
      put(path + suffix, std::move(w.weight));
      put(path + ".scales", *std::move(w.scales));
      put(path + ".biases", *std::move(w.biases));
      continue;
    }
    put(path + suffix, subtract ? minus_one(tensor) : in_layout(tensor, row->layout).array());
    if (tensor.quantized) *type = kernels::quant_type(*tensor.quantized);
  }
  return out;
}

}  // namespace mlxcpp
