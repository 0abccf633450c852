#include "stable_diffusion/transformer.h"

#include <cmath>

#include "kernels/activations.h"
#include "kernels/attention.h"

namespace mlxcpp::sd {

Attention::Attention(int channels, int heads, int context_dim, bool qkv_bias)
    : heads_(heads),
      to_q(this, "to_q", channels, channels, qkv_bias),
      to_k(this, "to_k", context_dim, channels, qkv_bias),
      to_v(this, "to_v", context_dim, channels, qkv_bias),
      to_out(this, "to_out.0", channels, channels, true) {}

mx::array Attention::operator()(const mx::array& x, const mx::array& context) const {
  const auto split = [&](const mx::array& a) {  // [B, L, H*D] -> [B, H, L, D]
    return mx::transpose(mx::unflatten(a, -1, {heads_, -1}), {0, 2, 1, 3});
  };
  const auto q = split(to_q(x)), k = split(to_k(context)), v = split(to_v(context));
  const float scale = 1.0f / std::sqrt(static_cast<float>(q.shape(-1)));
  const auto y = kernels::attention(q, k, v, {.scale = scale, .causal = false});
  return to_out(mx::flatten(mx::transpose(y, {0, 2, 1, 3}), -2, -1));
}

namespace {

// GEGLU: one projection to values and gates; then back.
struct FeedForward : nn::Module {
  explicit FeedForward(int channels)
      : proj(this, "net.0.proj", channels, 8 * channels, true),
        out(this, "net.2", 4 * channels, channels, true) {}

  mx::array operator()(const mx::array& x) const {
    const auto halves = mx::split(proj(x), 2, -1);
    return out(kernels::geglu(halves[1], halves[0]));
  }

  nn::Child<nn::Linear> proj, out;
};

}  // namespace

class TransformerBlock : public nn::Module {
 public:
  explicit TransformerBlock(const TransformerSizes& s)
      : norm1(this, "norm1", s.channels),
        attn1(this, "attn1", s.channels, s.heads, s.channels),
        norm2(this, "norm2", s.channels),
        attn2(this, "attn2", s.channels, s.heads, s.context_dim),
        norm3(this, "norm3", s.channels),
        ff(this, "ff", s.channels) {}

  mx::array operator()(const mx::array& x, const mx::array& context) const {
    const auto itself = norm1(x);
    auto h = x + attn1(itself, itself);
    h = h + attn2(norm2(h), context);
    return h + ff(norm3(h));
  }

  nn::Child<nn::LayerNorm> norm1;
  nn::Child<Attention> attn1;
  nn::Child<nn::LayerNorm> norm2;
  nn::Child<Attention> attn2;
  nn::Child<nn::LayerNorm> norm3;
  nn::Child<FeedForward> ff;
};

Transformer2D::Transformer2D(const TransformerSizes& s)
    : norm(this, "norm", s.groups, s.channels, 1e-6f, true, true),
      proj_in(this, "proj_in", s.channels, s.channels, true),
      transformer_blocks(this, "transformer_blocks"),
      proj_out(this, "proj_out", s.channels, s.channels, true) {
  for (int i = 0; i < s.layers; ++i) transformer_blocks.emplace_back(s);
}

Transformer2D::~Transformer2D() = default;

mx::array Transformer2D::operator()(const mx::array& x, const mx::array& context) const {
  auto h = proj_in(mx::reshape(norm(x), {x.shape(0), -1, x.shape(3)}));
  for (size_t i = 0; i < transformer_blocks.size(); ++i) h = transformer_blocks.call(i, h, context);
  return x + mx::reshape(proj_out(h), x.shape());
}

}  // namespace mlxcpp::sd
