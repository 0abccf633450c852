// Phi-3 and Phi-4-mini (arXiv 2404.14219, 2503.01743): Llama with fused projections and, for long
// texts, LongRoPE. Reference: transformers modeling_phi3.py.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/longrope_lm.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct Phi3Config : DecoderConfig {
  std::shared_ptr<const nn::RoPE> rope_table;

  Phi3Config() {
    rms_norm_eps = 1e-5f;
    rope.original_max_position_embeddings = 4096;
    names.qkv_proj = "qkv_proj";
    names.gate_up_proj = "gate_up_proj";
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    v.only("attention_bias", false);
    v.only("mlp_bias", false);
    rope.read(v, head_size());
    if (rope.type != nn::RopeType::standard && rope.type != nn::RopeType::longrope)
      throw Error("{}: 'rope_scaling': 'type' must be longrope or su", v.where());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }
};

struct Layer final : PreNormLayer<> {
  Layer(const Phi3Config& c, int index)
      : PreNormLayer(c, gated_mlp(c),
                     AttentionOptions{.window = c.window(index), .rope = c.rope_table}) {}
};

using Phi3 = LongRopeLM<CausalLM<Phi3Config, Layer>>;

std::unique_ptr<LanguageModel> make(const Phi3Config& c) {
  return std::make_unique<Phi3>(c, 1.0f, c.rms_norm_eps);
}

}  // namespace

Creator phi3() { return creator(make); }

}  // namespace mlxcpp::llm
