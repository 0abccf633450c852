#include "stable_diffusion/clip_text.h"

#include <cmath>

#include <fmt/ranges.h>

#include "kernels/attention.h"

namespace mlxcpp::sd {
namespace {

struct ClipAttention : nn::Module {
  explicit ClipAttention(const ClipTextConfig& c)
      : heads(c.num_attention_heads),
        q_proj(this, "q_proj", c.hidden_size, c.hidden_size, true),
        k_proj(this, "k_proj", c.hidden_size, c.hidden_size, true),
        v_proj(this, "v_proj", c.hidden_size, c.hidden_size, true),
        out_proj(this, "out_proj", c.hidden_size, c.hidden_size, true) {}

  mx::array operator()(const mx::array& x) const {
    const auto split = [&](const mx::array& a) {  // [B, L, H*D] -> [B, H, L, D]
      return mx::transpose(mx::unflatten(a, -1, {heads, -1}), {0, 2, 1, 3});
    };
    const auto q = split(q_proj(x)), k = split(k_proj(x)), v = split(v_proj(x));
    const float scale = 1.0f / std::sqrt(static_cast<float>(q.shape(-1)));
    const auto y = kernels::attention(q, k, v, {.scale = scale, .causal = true});
    return out_proj(mx::flatten(mx::transpose(y, {0, 2, 1, 3}), -2, -1));
  }

  int heads;
  nn::Child<nn::Linear> q_proj, k_proj, v_proj, out_proj;
};

struct ClipMLP : nn::Module {
  explicit ClipMLP(const ClipTextConfig& c)
      : act(nn::activation_from_name(c.hidden_act)),
        fc1(this, "fc1", c.hidden_size, c.intermediate_size, true),
        fc2(this, "fc2", c.intermediate_size, c.hidden_size, true) {}

  mx::array operator()(const mx::array& x) const { return fc2(act(fc1(x))); }

  nn::ActivationFn act;
  nn::Child<nn::Linear> fc1, fc2;
};

struct ClipLayer : nn::Module {
  explicit ClipLayer(const ClipTextConfig& c)
      : self_attn(this, "self_attn", c),
        layer_norm1(this, "layer_norm1", c.hidden_size, c.layer_norm_eps),
        mlp(this, "mlp", c),
        layer_norm2(this, "layer_norm2", c.hidden_size, c.layer_norm_eps) {}

  mx::array operator()(const mx::array& x) const {
    const auto h = x + self_attn(layer_norm1(x));
    return h + mlp(layer_norm2(h));
  }

  nn::Child<ClipAttention> self_attn;
  nn::Child<nn::LayerNorm> layer_norm1;
  nn::Child<ClipMLP> mlp;
  nn::Child<nn::LayerNorm> layer_norm2;
};

struct ClipEmbeddings : nn::Module {
  explicit ClipEmbeddings(const ClipTextConfig& c)
      : token_embedding(this, "token_embedding", c.vocab_size, c.hidden_size),
        position_embedding(this, "position_embedding", c.max_position_embeddings, c.hidden_size) {}

  mx::array operator()(const mx::array& ids) const {
    return token_embedding(ids) + position_embedding(mx::arange(ids.shape(1)));
  }

  nn::Child<nn::Embedding> token_embedding, position_embedding;
};

struct ClipEncoder : nn::Module {
  explicit ClipEncoder(const ClipTextConfig& c) {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers.emplace_back(c);
  }
  nn::Children<ClipLayer> layers{this, "layers"};
};

// [B]: where each text ends. Old configs say eos_token_id 2, which is wrong: there the end is the
// largest id (transformers, modeling_clip.py).
mx::array ends(const mx::array& ids, int eos) {
  return eos == 2 ? mx::argmax(ids, 1) : mx::argmax(mx::equal(ids, mx::array(eos)), 1);
}

}  // namespace

class ClipText : public nn::Module {
 public:
  explicit ClipText(const ClipTextConfig& c)
      : embeddings(this, "embeddings", c),
        encoder(this, "encoder", c),
        final_layer_norm(this, "final_layer_norm", c.hidden_size, c.layer_norm_eps) {}

  nn::Child<ClipEmbeddings> embeddings;
  nn::Child<ClipEncoder> encoder;
  nn::Child<nn::LayerNorm> final_layer_norm;
};

ClipTextModel::ClipTextModel(const ClipTextConfig& c)
    : config_(c),
      text_model(this, "text_model", c),
      text_projection(this, "text_projection", nn::absent) {
  if (c.with_projection) text_projection.emplace(c.hidden_size, c.projection_dim);
}

ClipTextModel::~ClipTextModel() = default;

ClipTextOutput ClipTextModel::operator()(const mx::array& ids) const {
  if (ids.ndim() != 2 || ids.shape(1) < 1 || ids.shape(1) > config_.max_position_embeddings)
    throw Error("text encoder: expected token ids [B, L] with L at most {}, found [{}]",
                config_.max_position_embeddings, fmt::join(ids.shape(), ", "));
  const auto all = mx::astype(ids, mx::int32);
  const int low = mx::min(all).item<int>(), high = mx::max(all).item<int>();
  if (low < 0 || high >= config_.vocab_size)
    throw Error(
        "text encoder: the prompt has the token id {}, but the vocabulary ends at {}: tokenizer "
        "and model do not belong together",
        low < 0 ? low : high, config_.vocab_size - 1);
  std::vector<mx::array> states{text_model->embeddings(ids)};
  const auto& layers = text_model->encoder->layers;
  for (size_t i = 0; i < layers.size(); ++i) states.push_back(layers.call(i, states.back()));
  const auto last = text_model->final_layer_norm(states.back());
  const auto at = mx::reshape(ends(ids, config_.eos_token_id), {-1, 1, 1});
  const auto pooled = mx::squeeze(mx::take_along_axis(last, at, 1), 1);
  std::optional<mx::array> embeds;
  if (text_projection) embeds = text_projection(pooled);
  return {std::move(states), last, pooled, std::move(embeds)};
}

}  // namespace mlxcpp::sd
