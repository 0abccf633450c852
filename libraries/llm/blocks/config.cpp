#include "llm/blocks/config.h"

#include <algorithm>
#include <limits>

#include <fmt/ranges.h>

#include "nn/activations.h"

namespace mlxcpp::llm {

namespace {

void read_up_to(ConfigReader& v, const char* key, int& out, int most) {
  if (out > 0)
    v.maybe(key, out);
  else
    v.need(key, out);
  if (out <= 0) throw Error("{}: '{}' must be positive, found {}", v.where(), key, out);
  if (out > most) throw Error("{}: '{}' must be at most {}, found {}", v.where(), key, most, out);
}

}  // namespace

void read_size(ConfigReader& v, const char* key, int& out) {
  read_up_to(v, key, out, kLargestSize);
}

void read_count(ConfigReader& v, const char* key, int& out) { read_up_to(v, key, out, 10'000); }

void read_context_length(ConfigReader& v, const char* key, int& out) {
  std::optional<int> found;
  v.maybe(key, found);
  if (found && *found <= 0)
    throw Error("{}: '{}' must be positive, found {}", v.where(), key, *found);
  out = found.value_or(out);
}

void read_layer(ConfigReader& v, const char* key, int& out) {
  v.maybe(key, out);
  if (out < 0) throw Error("{}: '{}' must be 0 or more, found {}", v.where(), key, out);
}

void read_activation(ConfigReader& v, const char* key, std::string& out) {
  v.maybe(key, out);
  const auto known = nn::activation_names();
  if (std::find(known.begin(), known.end(), out) == known.end())
    throw Error("{}: '{}' is '{}', expected one of {}", v.where(), key, out,
                fmt::join(known, ", "));
}

void read_theta(ConfigReader& v, const char* key, double& out) {
  v.maybe(key, out);
  if (!(out > 0)) throw Error("{}: '{}' must be positive, found {}", v.where(), key, out);
}

void read_layer_kinds(ConfigReader& v, const char* key, int layers,
                      const std::vector<std::string>& kinds, std::vector<std::string>& out) {
  out.clear();
  v.maybe(key, out);
  if (out.empty()) return;
  if (out.size() != static_cast<size_t>(layers))
    throw Error("{}: '{}' has {} entries, expected {}, one a layer", v.where(), key, out.size(),
                layers);
  for (size_t i = 0; i < out.size(); ++i)
    if (std::find(kinds.begin(), kinds.end(), out[i]) == kinds.end())
      throw Error("{}: '{}' of layer {} is '{}', expected {}", v.where(), key, i, out[i],
                  fmt::join(kinds, " or "));
}

void read_heads(ConfigReader& v, const char* key, int& out, const char* size_key, int size,
                bool even_heads) {
  read_size(v, key, out);
  if (size % out != 0 || (even_heads && size / out % 2 != 0))
    throw Error("{}: '{}' is {}, expected a multiple of {} ({}){}", v.where(), size_key, size, key,
                out, even_heads ? ", heads of an even size" : "");
}

void read_softcap(ConfigReader& v, const char* key, float& out) {
  v.maybe(key, out);
  if (v.json().contains(key) && v.json()[key].is_null()) out = 0;
  if (!(out >= 0)) throw Error("{}: '{}' must be positive or null, found {}", v.where(), key, out);
}

void RopeByLayerType::read(ConfigReader& v, int head_dim) {
  const auto object = [&](const Json& json, const char* key) {
    const auto it = json.find(key);
    if (it == json.end() || it->is_null()) return Json(Json::object());
    if (!it->is_object())
      throw Error("{}: '{}' must be an object, found {}", v.where(), key, describe(*it));
    return *it;
  };
  const auto one = [&](const char* layer_type, const char* theta_key, double theta,
                       const Json& scaling) {
    Json own = object(object(v.json(), "rope_parameters"), layer_type);
    own.update(scaling);
    read_theta(v, theta_key, theta);
    Json config = {{"rope_theta", theta}, {"rope_scaling", std::move(own)}};
    for (const char* key : {"max_position_embeddings", "partial_rotary_factor"}) {
      v.skip(key);
      if (v.json().contains(key)) config[key] = v.json()[key];
    }
    nn::RopeConfig rope;
    rope.read(ConfigReader(config, v.where()), head_dim);
    return std::make_shared<const nn::RoPE>(rope);
  };
  for (const char* key : {"rope_parameters", "rope_scaling"}) v.skip(key);
  full = one("full_attention", "rope_theta", 1e6, object(v.json(), "rope_scaling"));
  sliding = one("sliding_attention", "rope_local_base_freq", 1e4, Json::object());
}

void skip_media_keys(ConfigReader& v) {
  for (const char* key :
       {"audio_config", "audio_soft_tokens_per_image", "audio_token_id", "boa_token_id",
        "boi_token_id", "boi_token_index", "eoa_token_id", "eoa_token_index", "eoi_token_id",
        "eoi_token_index", "image_token_id", "image_token_index", "mm_tokens_per_image",
        "vision_config", "vision_soft_tokens_per_image"})
    v.skip(key);
}

bool DecoderConfig::is_sliding(int layer) const {
  if (!sliding_window) return false;
  return layer_types.empty() || layer_types[layer] == "sliding_attention";
}

std::optional<int> DecoderConfig::window(int layer) const {
  return is_sliding(layer) ? sliding_window : std::nullopt;
}

void DecoderConfig::fields(ConfigReader& v) {
  read_size(v, "intermediate_size", intermediate_size);
  fields_but_intermediate_size(v);
}

void DecoderConfig::fields_but_intermediate_size(ConfigReader& v) {
  read_size(v, "vocab_size", vocab_size);
  read_size(v, "hidden_size", hidden_size);
  read_count(v, "num_hidden_layers", num_hidden_layers);
  read_size(v, "num_attention_heads", num_attention_heads);
  v.maybe("num_key_value_heads", num_key_value_heads);
  v.maybe("head_dim", head_dim);
  read_context_length(v, "max_position_embeddings", max_position_embeddings);
  v.maybe("rms_norm_eps", rms_norm_eps);
  read_activation(v, "hidden_act", hidden_act);
  v.maybe("tie_word_embeddings", tie_word_embeddings);
  v.maybe("attention_bias", attention_bias);
  v.maybe("mlp_bias", mlp_bias);
  v.maybe("sliding_window", sliding_window);
  if (sliding_window == 0) sliding_window.reset();  // so transformers writes none for qwen2_moe
  read_layer_kinds(v, "layer_types", num_hidden_layers, layer_kinds, layer_types);

  const auto bad = [&](const char* key, auto found, const std::string& expected) {
    return Error("{}: '{}' is {}, expected {}", v.where(), key, found, expected);
  };
  if (kv_heads() <= 0 || num_attention_heads % kv_heads() != 0)
    throw bad("num_key_value_heads", kv_heads(),
              fmt::format("a divisor of num_attention_heads ({})", num_attention_heads));
  if (!head_dim && hidden_size % num_attention_heads != 0)
    throw bad("hidden_size", hidden_size,
              fmt::format("a multiple of num_attention_heads ({})", num_attention_heads));
  if (head_size() <= 0 || head_size() % 2 != 0 || head_size() > nn::kLargestHead)
    throw bad("head_dim", head_size(),
              fmt::format("a positive even number, {} at most", nn::kLargestHead));
  // Queries, keys and values may be one matrix.
  if (const int most = std::numeric_limits<int>::max() / 3 / head_size();
      num_attention_heads > most)
    throw bad("num_attention_heads", num_attention_heads,
              fmt::format("{} at most, with heads of {}", most, head_size()));
  if (sliding_window && *sliding_window <= 0)
    throw bad("sliding_window", *sliding_window, "a positive number or null");
}

}  // namespace mlxcpp::llm
