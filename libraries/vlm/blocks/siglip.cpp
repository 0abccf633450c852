#include "vlm/blocks/siglip.h"

#include <cmath>

#include "kernels/attention.h"
#include "kernels/linear.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/config.h"

namespace mlxcpp::vlm {

void SiglipConfig::fields(ConfigReader& v) {
  llm::read_size(v, "hidden_size", hidden_size);
  llm::read_size(v, "intermediate_size", intermediate_size);
  llm::read_count(v, "num_hidden_layers", num_hidden_layers);
  llm::read_heads(v, "num_attention_heads", num_attention_heads, "hidden_size", hidden_size);
  llm::read_size(v, "image_size", image_size);
  llm::read_size(v, "patch_size", patch_size);
  v.only("num_channels", 3);
  v.only("vision_use_head", false);
  v.maybe("hidden_act", hidden_act);
  v.maybe("layer_norm_eps", layer_norm_eps);
  // What the processor and the projector follow by themselves.
  for (const char* key :
       {"max_image_size", "num_image_tokens", "num_positions", "projection_dim",
        "projector_hidden_act", "size", "skip_vision", "tie_word_embeddings", "use_base_siglip"})
    v.skip(key);
  if (patch_size > image_size)
    throw Error("{}: 'patch_size' is {}, more than 'image_size' ({})", v.where(), patch_size,
                image_size);
}

PatchEmbedding::PatchEmbedding(int channels, int width, int patch_size)
    : patch_size_(patch_size),
      weight(this, "weight", mx::zeros({width, channels, patch_size, patch_size})),
      bias(this, "bias", mx::zeros({width})) {}

mx::array PatchEmbedding::operator()(const mx::array& pixels) const {
  const int n = pixels.shape(0), c = pixels.shape(1), p = patch_size_;
  const int rows = pixels.shape(2) / p, cols = pixels.shape(3) / p;
  auto x = mx::slice(pixels, {0, 0, 0, 0}, {n, c, rows * p, cols * p});
  x = mx::transpose(mx::reshape(x, {n, c, rows, p, cols, p}), {0, 2, 4, 1, 3, 5});
  x = mx::reshape(x, {n, rows * cols, c * p * p});
  return kernels::linear(x, mx::reshape(*weight, {weight->shape(0), c * p * p}), *bias);
}

mx::array channels_first(const mx::array& weight, int channels) {
  if (weight.ndim() != 4 || weight.shape(1) == channels || weight.shape(3) != channels)
    return weight;
  return mx::contiguous(mx::transpose(weight, {0, 3, 1, 2}));
}

SiglipEmbeddings::SiglipEmbeddings(const SiglipConfig& c)
    : patch_embedding(this, "patch_embedding", c.num_channels, c.hidden_size, c.patch_size),
      position_embedding(this, "position_embedding", c.side() * c.side(), c.hidden_size) {}

mx::array SiglipEmbeddings::operator()(const mx::array& pixels) const {
  const auto x = patch_embedding(pixels);
  return x + position_embedding(mx::arange(position_embedding->count(), mx::int32));
}

SiglipAttention::SiglipAttention(const SiglipConfig& c)
    : heads_(c.num_attention_heads),
      head_dim_(c.hidden_size / c.num_attention_heads),
      q_proj(this, "q_proj", c.hidden_size, c.hidden_size, true),
      k_proj(this, "k_proj", c.hidden_size, c.hidden_size, true),
      v_proj(this, "v_proj", c.hidden_size, c.hidden_size, true),
      out_proj(this, "out_proj", c.hidden_size, c.hidden_size, true) {}

mx::array SiglipAttention::operator()(const mx::array& x) const {
  const int n = x.shape(0), L = x.shape(1);
  const auto split = [&](const mx::array& a) {  // [n, L, hidden] -> [n, heads, L, D]
    return mx::transpose(mx::reshape(a, {n, L, heads_, head_dim_}), {0, 2, 1, 3});
  };
  const auto y = kernels::attention(
      split(q_proj(x)), split(k_proj(x)), split(v_proj(x)),
      {.scale = 1.0f / std::sqrt(static_cast<float>(head_dim_)), .causal = false});
  return out_proj(mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {n, L, heads_ * head_dim_}));
}

SiglipLayer::SiglipLayer(const SiglipConfig& c)
    : self_attn(this, "self_attn", c),
      layer_norm1(this, "layer_norm1", c.hidden_size, c.layer_norm_eps),
      layer_norm2(this, "layer_norm2", c.hidden_size, c.layer_norm_eps),
      mlp(this, "mlp", c.hidden_size, c.intermediate_size, c.hidden_act) {}

SiglipTower::SiglipTower(const SiglipConfig& c)
    : image_size_(c.image_size),
      embeddings(this, "embeddings", c),
      layers(this, "encoder.layers"),
      post_layernorm(this, "post_layernorm", c.hidden_size, c.layer_norm_eps) {
  for (int i = 0; i < c.num_hidden_layers; ++i) layers.emplace_back(c);
}

mx::array SiglipTower::operator()(const mx::array& pixels) const {
  if (pixels.ndim() != 4 || pixels.shape(1) != 3 || pixels.shape(2) != image_size_ ||
      pixels.shape(3) != image_size_)
    throw Error(
        "the vision tower takes pictures of {0} x {0}, found {1} x {2}: config.json and "
        "preprocessor_config.json do not belong together",
        image_size_, pixels.shape(-1), pixels.shape(-2));
  mx::array x = llm::to_compute_dtype(embeddings(pixels));
  for (size_t i = 0; i < layers.size(); ++i) x = layers.call(i, x);
  return post_layernorm(x);
}

nn::Weights siglip_weights(nn::Weights weights) {
  std::erase_if(weights, [](const auto& w) {  // a buffer, in old checkpoints
    return w.first.ends_with("embeddings.position_ids");
  });
  for (auto& [name, w] : weights)
    if (name.ends_with("patch_embedding.weight")) w = channels_first(w, 3);
  return weights;
}

void check_size(const media::SquareProcessor& processor, const SiglipConfig& tower,
                std::string_view where) {
  if (processor.height != tower.image_size || processor.width != tower.image_size)
    throw Error("{}: pictures become {} x {}, but the model's tower takes {} x {}", where,
                processor.width, processor.height, tower.image_size, tower.image_size);
}

}  // namespace mlxcpp::vlm
