// InternLM2 (arXiv 2403.17297): Llama with one projection for queries, keys and values, grouped by
// key head. Reference: mlx_lm internlm2.py, the published modeling_internlm2.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct InternLM2Config : DecoderConfig {
  std::shared_ptr<const nn::RoPE> rope_table;

  InternLM2Config() {
    names.embed_tokens = "tok_embeddings";
    names.lm_head = "output";
    names.input_layernorm = "attention_norm";
    names.self_attn = "attention";
    names.qkv_proj = "wqkv";
    names.o_proj = "wo";
    names.post_attention_layernorm = "ffn_norm";
    names.mlp = "feed_forward";
    names.gate_proj = "w1";
    names.up_proj = "w3";
    names.down_proj = "w2";
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    sliding_window.reset();  // a key that the reference passes over
    attention_bias = true;
    v.maybe("bias", attention_bias);
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }
};

struct Block final : PreNormLayer<> {
  Block(const InternLM2Config& c, int)
      : PreNormLayer(c, gated_mlp(c),
                     AttentionOptions{.qkv_bias = c.attention_bias,
                                      .output_bias = c.attention_bias,
                                      .qkv_grouped = true,
                                      .rope = c.rope_table}) {}
};

std::unique_ptr<LanguageModel> make(const InternLM2Config& c) {
  return std::make_unique<CausalLM<InternLM2Config, Block>>(c, 1.0f, c.rms_norm_eps);
}

}  // namespace

Creator internlm2() { return creator(make); }

}  // namespace mlxcpp::llm
