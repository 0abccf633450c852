#include "llm/blocks/mlp.h"

namespace mlxcpp::llm {

GatedMLP::GatedMLP(int hidden_size, int intermediate_size, const std::string& hidden_act, bool bias,
                   const DecoderNames& names)
    : act_(hidden_act),
      gate_proj(this, names.gate_proj, nn::absent),
      up_proj(this, names.up_proj, nn::absent),
      gate_up_proj(this, names.gate_up_proj, nn::absent),
      down_proj(this, names.down_proj, intermediate_size, hidden_size, bias) {
  if (!names.gate_up_proj.empty()) {
    gate_up_proj.emplace(hidden_size, 2 * intermediate_size, bias);
  } else {
    gate_proj.emplace(hidden_size, intermediate_size, bias);
    up_proj.emplace(hidden_size, intermediate_size, bias);
  }
}

mx::array GatedMLP::operator()(const mx::array& x) const {
  if (!gate_up_proj) return down_proj(act_(gate_proj(x), up_proj(x)));
  const auto halves = mx::split(gate_up_proj(x), 2, -1);
  return down_proj(act_(halves[0], halves[1]));
}

MLP::MLP(const DecoderConfig& c)
    : act_(nn::activation_from_name(c.hidden_act)),
      up_proj(this, c.names.up_proj, c.hidden_size, c.intermediate_size, c.mlp_bias),
      down_proj(this, c.names.down_proj, c.intermediate_size, c.hidden_size, c.mlp_bias) {}

}  // namespace mlxcpp::llm
