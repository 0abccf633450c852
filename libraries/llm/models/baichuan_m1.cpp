// Baichuan-M1 (arXiv 2502.12671): keys and values are mixed with those of the token before; sliding
// layers have head counts of their own; the head's rows have length 1. Reference: mlx_lm
// baichuan_m1.py.
#include <cmath>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/short_conv.h"
#include "llm/models.h"
#include "lm_common/kv_cache/arrays_cache.h"
#include "lm_common/kv_cache/cache_list.h"

namespace mlxcpp::llm {
namespace {

struct BaichuanM1Config : DecoderConfig {
  std::vector<int> sliding_window_layers;
  std::optional<int> num_swa_attention_heads, num_swa_key_value_heads;

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    v.maybe("sliding_window_layers", sliding_window_layers);
    v.maybe("num_swa_attention_heads", num_swa_attention_heads);
    v.maybe("num_swa_key_value_heads", num_swa_key_value_heads);
    v.only("conv_window", 2);
    layer_types.assign(num_hidden_layers, "full_attention");
    for (const int i : sliding_window_layers) {
      if (i < 0 || i >= num_hidden_layers)
        throw Error("{}: 'sliding_window_layers' has {}, expected 0 to {}", v.where(), i,
                    num_hidden_layers - 1);
      layer_types[i] = "sliding_attention";
    }
    check_heads(v, "num_attention_heads", num_attention_heads, "num_key_value_heads", kv_heads());
    check_heads(v, "num_swa_attention_heads", num_swa_attention_heads.value_or(num_attention_heads),
                "num_swa_key_value_heads", num_swa_key_value_heads.value_or(kv_heads()));
    rope.read(v, hidden_size / num_attention_heads);
  }

  int heads(int layer) const {
    return is_sliding(layer) ? num_swa_attention_heads.value_or(num_attention_heads)
                             : num_attention_heads;
  }
  int kv_heads_of(int layer) const {
    return is_sliding(layer) ? num_swa_key_value_heads.value_or(kv_heads()) : kv_heads();
  }
  std::shared_ptr<const nn::RoPE> rope_of(int layer) const {
    nn::RopeConfig own = rope;
    own.head_dim = hidden_size / heads(layer);
    return std::make_shared<const nn::RoPE>(own);
  }

 private:
  void check_heads(const ConfigReader& v, const char* key, int heads, const char* kv_key,
                   int kv) const {
    if (heads <= 0 || hidden_size % heads != 0 || hidden_size / heads % 2 != 0)
      throw Error("{}: '{}' is {}, expected a divisor of hidden_size ({}), heads of an even size",
                  v.where(), key, heads, hidden_size);
    if (kv <= 0 || heads % kv != 0)
      throw Error("{}: '{}' is {}, expected a divisor of {} ({})", v.where(), kv_key, kv, key,
                  heads);
  }
};

struct ConvAttention final : nn::Module {
  ConvAttention(const BaichuanM1Config& c, int layer)
      : heads(c.heads(layer)),
        kv_heads(c.kv_heads_of(layer)),
        head_dim(c.hidden_size / heads),
        rope(c.rope_of(layer)),
        options{.scale = 1.0f / std::sqrt(static_cast<float>(head_dim)), .window = c.window(layer)},
        W_pack(this, "W_pack", c.hidden_size, c.hidden_size + 2 * kv_heads * head_dim),
        o_proj(this, "o_proj", c.hidden_size, c.hidden_size),
        conv_k(this, "conv_k", mx::zeros({1, 1, kv_heads, 1, 2})),
        conv_v(this, "conv_v", mx::zeros({1, 1, kv_heads, 1, 2})) {}

  const int heads, kv_heads, head_dim;
  const std::shared_ptr<const nn::RoPE> rope;
  const kernels::AttentionOptions options;
  nn::Child<nn::Linear> W_pack, o_proj;
  nn::Param conv_k, conv_v;  // [1, 1, kv_heads, 1, 2]: of the token before, of the token itself

  // x [B, Hkv, L, D]; `last` is x of the token before the first (nothing: zeros), then of the last.
  mx::array mixed(const mx::array& x, const mx::array& conv, std::optional<mx::array>& last) const {
    const int B = x.shape(0), L = x.shape(2);
    const auto tokens = [&](int from, int to) {
      return mx::slice(x, {0, 0, from, 0}, {B, kv_heads, to, head_dim});
    };
    auto before = last ? *last : mx::zeros({B, kv_heads, 1, head_dim}, x.dtype());
    if (L > 1) before = mx::concatenate({before, tokens(0, L - 1)}, 2);
    last = mx::contiguous(tokens(L - 1, L));
    const auto w = mx::split(mx::astype(mx::reshape(conv, {kv_heads, 1, 2}), x.dtype()), 2, -1);
    return before * w[0] + x * w[1];
  }

  mx::array operator()(const mx::array& x, KVCache* cache) const {
    auto* list = dynamic_cast<CacheList*>(cache);
    auto* arrays = list ? dynamic_cast<ArraysCache*>(&(*list)[0]) : nullptr;
    KVCache* kv = list ? &(*list)[1] : nullptr;
    std::optional<mx::array> no_k, no_v;

    const int B = x.shape(0), L = x.shape(1), q_width = heads * head_dim;
    const auto parts = mx::split(W_pack(x), mx::Shape{q_width, q_width + kv_heads * head_dim}, -1);
    const auto split = [&](const mx::array& a, int n) {  // [B, L, n*D] -> [B, n, L, D]
      return mx::transpose(mx::reshape(a, {B, L, n, head_dim}), {0, 2, 1, 3});
    };
    const auto at = positions(kv);
    const int length = expected_length(kv);
    const auto q = (*rope)(split(parts[0], heads), at, length);
    const auto k = mixed(split(without_padding(parts[1], arrays), kv_heads), *conv_k,
                         arrays ? (*arrays)[0] : no_k);
    const auto v = mixed(split(without_padding(parts[2], arrays), kv_heads), *conv_v,
                         arrays ? (*arrays)[1] : no_v);
    if (arrays) arrays->advance(L);
    const auto y = attend(q, (*rope)(k, at, length), v, kv, options);
    return o_proj(mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {B, L, q_width}));
  }
};

struct Block final : PreNormLayer<ConvAttention> {
  Block(const BaichuanM1Config& c, int index) : PreNormLayer(c, gated_mlp(c), index) {}
};

struct BaichuanM1 final : CausalLM<BaichuanM1Config, Block> {
  explicit BaichuanM1(const BaichuanM1Config& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {}

  Caches make_caches(const CacheOptions& options) const override {
    Caches caches;
    for (int i = 0; i < c.num_hidden_layers; ++i) {
      Caches parts;
      parts.push_back(std::make_unique<ArraysCache>(2));
      parts.push_back(make_cache(options, c.window(i)));
      caches.push_back(std::make_unique<CacheList>(std::move(parts)));
    }
    return caches;
  }

  // Converters that quantise have made the head's rows length 1 before.
  nn::Weights sanitize(nn::Weights weights) const override {
    weights = CausalLM::sanitize(std::move(weights));
    const auto head = weights.find("lm_head.weight");
    if (head != weights.end() && !weights.contains("lm_head.scales")) {
      const auto w = mx::astype(head->second, mx::float32);
      const auto length = mx::sqrt(mx::sum(mx::square(w), -1, true)) + mx::array(1e-7f);
      head->second = mx::astype(w / length, head->second.dtype());
    }
    return weights;
  }
};

std::unique_ptr<LanguageModel> make(const BaichuanM1Config& c) {
  return std::make_unique<BaichuanM1>(c);
}

}  // namespace

Creator baichuan_m1() { return creator(make); }

}  // namespace mlxcpp::llm
