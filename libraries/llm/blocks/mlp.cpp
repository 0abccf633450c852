#include "llm/blocks/mlp.h"

#include "llm/blocks/step.h"

namespace mlxcpp::llm {
namespace {

std::optional<kernels::Activation> kernel_of(nn::ActivationFn f, bool gated) {
  using A = kernels::Activation;
  if (f == static_cast<nn::ActivationFn>(nn::silu)) return gated ? A::swiglu : A::silu;
  if (f == static_cast<nn::ActivationFn>(nn::gelu)) return gated ? A::geglu : A::gelu;
  if (f == static_cast<nn::ActivationFn>(nn::gelu_approx))
    return gated ? A::geglu_approx : A::gelu_approx;
  if (f == static_cast<nn::ActivationFn>(nn::relu2)) return gated ? A::relu2_glu : A::relu2;
  return std::nullopt;
}

std::optional<kernels::MlpPart> mlp_part(std::optional<kernels::Activation> activation,
                                         std::initializer_list<const nn::Child<nn::Linear>*> in,
                                         const nn::Linear& down) {
  auto last = step_part(down);
  if (!activation || !last) return std::nullopt;
  kernels::MlpPart part;
  part.activation = *activation;
  part.down = std::move(*last);
  for (const auto* proj : in) {
    if (!*proj) continue;
    auto linear = step_part(**proj);
    if (!linear) return std::nullopt;
    part.in.push_back(std::move(*linear));
  }
  return part;
}

}  // namespace

std::optional<kernels::Activation> gated_kernel(const nn::GatedActivation& act) {
  return kernel_of(act.of_gate(), true);
}

GatedMLP::GatedMLP(int hidden_size, int intermediate_size, const std::string& hidden_act, bool bias,
                   const DecoderNames& names)
    : act_(hidden_act),
      gate_proj(this, names.gate_proj, nn::absent),
      up_proj(this, names.up_proj, nn::absent),
      gate_up_proj(this, names.gate_up_proj, nn::absent),
      inner_norm(this, names.inner_norm, nn::absent),
      down_proj(this, names.down_proj, intermediate_size, hidden_size, bias) {
  if (!names.gate_up_proj.empty()) {
    gate_up_proj.emplace(hidden_size, 2 * intermediate_size, bias);
  } else {
    gate_proj.emplace(hidden_size, intermediate_size, bias);
    up_proj.emplace(hidden_size, intermediate_size, bias);
  }
}

mx::array GatedMLP::operator()(const mx::array& x) const {
  const auto act = [&] {
    if (!gate_up_proj) return act_(gate_proj(x), up_proj(x));
    const auto halves = mx::split(gate_up_proj(x), 2, -1);
    return act_(halves[0], halves[1]);
  };
  return down_proj(inner_norm ? inner_norm(act()) : act());
}

std::optional<kernels::MlpPart> GatedMLP::step_part() const {
  auto part = mlp_part(gated_kernel(act_), {&gate_proj, &up_proj, &gate_up_proj}, *down_proj);
  if (!part || !inner_norm) return part;
  part->inner_norm = llm::step_part(*inner_norm);
  return part->inner_norm ? part : std::nullopt;
}

MLP::MLP(const DecoderConfig& c)
    : act_(nn::activation_from_name(c.hidden_act)),
      up_proj(this, c.names.up_proj, c.hidden_size, c.intermediate_size, c.mlp_bias),
      down_proj(this, c.names.down_proj, c.intermediate_size, c.hidden_size, c.mlp_bias) {}

std::optional<kernels::MlpPart> MLP::step_part() const {
  return mlp_part(kernel_of(act_, false), {&up_proj}, *down_proj);
}

}  // namespace mlxcpp::llm
