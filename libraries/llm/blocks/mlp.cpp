#include "llm/blocks/mlp.h"

#include "kernels/activations.h"

namespace mlxcpp::llm {
namespace {

auto gated_activation(const std::string& name) {
  if (name == "silu" || name == "swish") return kernels::swiglu;
  if (name == "gelu") return kernels::geglu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new" || name == "gelu_fast")
    return kernels::geglu_approx;
  throw Error(
      "config.json: 'hidden_act' is '{}', expected silu, gelu, gelu_pytorch_tanh or gelu_new",
      name);
}

}  // namespace

GatedMLP::GatedMLP(int hidden_size, int intermediate_size, const std::string& hidden_act, bool bias,
                   const DecoderNames& names)
    : act_(gated_activation(hidden_act)),
      gate_proj(this, names.gate_proj, hidden_size, intermediate_size, bias),
      up_proj(this, names.up_proj, hidden_size, intermediate_size, bias),
      down_proj(this, names.down_proj, intermediate_size, hidden_size, bias) {}

mx::array GatedMLP::operator()(const mx::array& x) const {
  return down_proj(act_(gate_proj(x), up_proj(x)));
}

}  // namespace mlxcpp::llm
