#include "llm/blocks/mlp.h"

namespace mlxcpp::llm {

GatedMLP::GatedMLP(int hidden_size, int intermediate_size, const std::string& hidden_act, bool bias)
    : act_(hidden_act),
      gate_proj(this, "gate_proj", hidden_size, intermediate_size, bias),
      up_proj(this, "up_proj", hidden_size, intermediate_size, bias),
      down_proj(this, "down_proj", intermediate_size, hidden_size, bias) {}

mx::array GatedMLP::operator()(const mx::array& x) const {
  return down_proj(act_(gate_proj(x), up_proj(x)));
}

}  // namespace mlxcpp::llm
