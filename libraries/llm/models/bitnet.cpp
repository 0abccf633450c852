// BitNet b1.58 (arXiv 2402.17764): Llama with ternary weights, squared ReLU, and norms before the
// last projections of attention and MLP. Reference: transformers modeling_bitnet.py and
// integrations/bitnet.py, mlx_lm bitnet.py. Activations stay as they are, as in mlx_lm;
// "quantize_activations" rounds them to 8 bits a token, as transformers does.
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/models.h"
#include "nn/bit_linear.h"

namespace mlxcpp::llm {
namespace {

// The published quantisation; mlx_lm's converter writes its own in its place.
struct PackingConfig {
  std::string quant_method = "mlx", linear_class = "autobitlinear";

  void fields(ConfigReader& v) {
    v.maybe("quant_method", quant_method);
    v.maybe("linear_class", linear_class);
    if (quant_method != "bitnet") return;
    if (linear_class != "autobitlinear" && linear_class != "bitlinear")
      throw Error("{}: 'linear_class' is '{}', expected autobitlinear or bitlinear", v.where(),
                  linear_class);
    v.only("quantization_mode", "offline");
    v.only("use_rms_norm", false);
  }
};

struct BitNetConfig : DecoderConfig {
  bool packed = false;
  nn::BitLinear::Options ternary;
  std::shared_ptr<const nn::RoPE> rope_table;

  BitNetConfig() {
    hidden_act = "relu2";
    rms_norm_eps = 1e-5f;
    rope.theta = 500000;
    names.inner_norm = "ffn_sub_norm";
  }

  void fields(ConfigReader& v) {
    DecoderConfig::fields(v);
    sliding_window.reset();  // a key that the reference passes over
    v.maybe("quantize_activations", ternary.quantize_activations);
    if (const auto it = v.json().find("quantization_config"); it != v.json().end()) {
      PackingConfig packing;
      ConfigReader reader(*it, v.where() + ": quantization_config");
      packing.fields(reader);
      ternary.inverse_scale = packing.linear_class == "bitlinear";
      packed = true;
    }
    packed = packed || v.json().contains("quantization");
    rope.read(v, head_size());
    rope_table = std::make_shared<const nn::RoPE>(rope);
  }
};

struct Block final : PreNormLayer<> {
  Block(const BitNetConfig& c, int)
      : PreNormLayer(c, gated_mlp(c),
                     AttentionOptions{.qkv_bias = c.attention_bias,
                                      .output_bias = c.attention_bias,
                                      .output_norm = "attn_sub_norm",
                                      .rope = c.rope_table}) {}
};

struct BitNet final : CausalLM<BitNetConfig, Block> {
  explicit BitNet(const BitNetConfig& c) : CausalLM(c, 1.0f, c.rms_norm_eps) {
    if (!c.packed) return;
    for (int i = 0; i < c.num_hidden_layers; ++i)
      nn::make_ternary(*this, fmt::format("model.layers.{}", i), c.ternary);
  }
};

std::unique_ptr<LanguageModel> make(const BitNetConfig& c) { return std::make_unique<BitNet>(c); }

}  // namespace

Creator bitnet() { return creator(make); }

}  // namespace mlxcpp::llm
