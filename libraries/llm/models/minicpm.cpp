// MiniCPM (arXiv 2404.06395): Llama with scaled embeddings, residuals and logits; MiniCPM3 has
// latent attention. Reference: mlx_lm minicpm.py, transformers modeling_minicpm3.py.
#include <cmath>

#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/mla.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct MiniCPMConfig : DecoderConfig {
  float scale_emb = 1.0f;
  LatentAttentionConfig attention;  // MiniCPM3
  std::shared_ptr<const nn::RoPE> rope_table;

  void fields(ConfigReader& v) {
    read_decoder(v);
    read_rope(v, head_size());
  }

 protected:
  void read_decoder(ConfigReader& v) {
    DecoderConfig::fields(v);
    sliding_window.reset();  // a key that the reference passes over
    float scale_depth = 1.0f;
    int dim_model_base = 0;
    v.need("scale_depth", scale_depth);
    v.need("scale_emb", scale_emb);
    read_size(v, "dim_model_base", dim_model_base);
    residual_multiplier = scale_depth / std::sqrt(static_cast<float>(num_hidden_layers));
    logits_multiplier = static_cast<float>(dim_model_base) / static_cast<float>(hidden_size);
  }

  void read_rope(ConfigReader& v, int dims) {
    bool rope_traditional = false;  // GGUF files
    v.maybe("rope_traditional", rope_traditional);
    rope.read(v, dims);
    rope_table = std::make_shared<const nn::RoPE>(rope, rope_traditional);
  }
};

struct MiniCPM3Config : MiniCPMConfig {
  MiniCPM3Config() { head_dim = 64; }  // unused, but hidden_size need not divide by the heads

  void fields(ConfigReader& v) {
    read_decoder(v);
    attention.v_head_dim = hidden_size / num_attention_heads;
    attention.fields(v);
    v.skip("qk_head_dim");  // the sum of two others
    read_rope(v, attention.qk_rope_head_dim);
  }

  float scale() const {
    return yarn_attention_factor(rope) / std::sqrt(static_cast<float>(attention.head_dim()));
  }
};

struct Block final : PreNormLayer<> {
  Block(const MiniCPMConfig& c, int)
      : PreNormLayer(c, gated_mlp(c),
                     AttentionOptions{.qkv_bias = c.attention_bias,
                                      .output_bias = c.attention_bias,
                                      .rope = c.rope_table}) {}
};

struct LatentBlock final : PreNormLayer<LatentAttention> {
  LatentBlock(const MiniCPM3Config& c, int)
      : PreNormLayer(c, gated_mlp(c), c.attention, c.rope_table, c.scale(), c.attention_bias) {}
};

struct MiniCPM3 final : CausalLM<MiniCPM3Config, LatentBlock> {
  explicit MiniCPM3(const MiniCPM3Config& c) : CausalLM(c, c.scale_emb, c.rms_norm_eps) {}

  nn::Weights sanitize(nn::Weights weights) const override {
    return split_latent_projections(CausalLM::sanitize(std::move(weights)), c.num_attention_heads,
                                    c.attention);
  }
};

std::unique_ptr<LanguageModel> make(const MiniCPMConfig& c) {
  return std::make_unique<CausalLM<MiniCPMConfig, Block>>(c, c.scale_emb, c.rms_norm_eps);
}
std::unique_ptr<LanguageModel> make_latent(const MiniCPM3Config& c) {
  return std::make_unique<MiniCPM3>(c);
}

}  // namespace

Creator minicpm() { return creator(make); }
Creator minicpm3() { return creator(make_latent); }

}  // namespace mlxcpp::llm
