#include "llm/blocks/step.h"

#include <typeinfo>

#include "llm/blocks/attention.h"
#include "llm/blocks/mlp.h"
#include "lm_common/kv_cache/layer_steps.h"
#include "nn/quantized.h"

namespace mlxcpp::llm {
namespace {

// Whether x may go through a step at all.
bool allowed(const mx::array& x) {
  return !nn::detail::observer && mx::default_device() == mx::Device::cpu && x.ndim() == 3 &&
         x.dtype() == mx::float32 && x.size() > 0 && x.shape(0) <= kernels::kStepRows &&
         x.shape(1) <= kernels::kStepRows && x.shape(0) * x.shape(1) <= kernels::kStepRows &&
         !x.is_tracer();
}

// Parameters that a transform follows have no plan.
bool is_traced(const std::optional<mx::array>& a) { return a && a->is_tracer(); }
bool is_traced(const kernels::LinearPart& p) {
  return is_traced(p.weight) || is_traced(p.bias) ||
         (p.quantized && (is_traced(p.quantized->weight) || is_traced(p.quantized->scales) ||
                          is_traced(p.quantized->biases)));
}
bool is_traced(const std::optional<kernels::NormPart>& p) {
  return p && (is_traced(p->weight) || is_traced(p->bias));
}
bool is_traced(const kernels::FramePart& p) { return is_traced(p.before) || is_traced(p.after); }
bool is_traced(const std::vector<kernels::LinearPart>& parts) {
  for (const auto& p : parts)
    if (is_traced(p)) return true;
  return false;
}
bool is_traced(const kernels::LayerPart& p) {
  const auto& a = p.attention;
  const auto& m = p.mlp;
  return (a && (is_traced(a->frame) || is_traced(a->qkv) || is_traced(a->q_norm) ||
                is_traced(a->k_norm) || is_traced(a->out))) ||
         (m && (is_traced(m->frame) || is_traced(m->in) || is_traced(m->down)));
}

// False where a norm is of another kind.
bool set_frame(kernels::FramePart& part, const StepFrame& frame) {
  part.multiplier = frame.multiplier;
  if (frame.before && !(part.before = step_part(*frame.before))) return false;
  return !frame.after || (part.after = step_part(*frame.after));
}

std::optional<kernels::MlpPart> mlp_part(const nn::Layer& mlp, const StepFrame& frame) {
  std::optional<kernels::MlpPart> part;
  if (const auto* gated = dynamic_cast<const GatedMLP*>(&mlp))
    part = gated->step_part();
  else if (const auto* plain = dynamic_cast<const MLP*>(&mlp))
    part = plain->step_part();
  if (part && !set_frame(part->frame, frame)) part.reset();
  return part;
}

}  // namespace

std::optional<kernels::LinearPart> step_part(const nn::Linear& linear) {
  if (typeid(linear) == typeid(nn::Linear))
    return kernels::LinearPart{std::nullopt, *linear.weight, linear.bias.optional()};
  if (typeid(linear) == typeid(nn::QuantizedLinear))
    return kernels::LinearPart{static_cast<const nn::QuantizedLinear&>(linear).matrix(),
                               std::nullopt, linear.bias.optional()};
  return std::nullopt;
}

std::optional<kernels::NormPart> step_part(const nn::Layer& norm) {
  if (const auto* rms = dynamic_cast<const nn::RMSNorm*>(&norm))
    return kernels::NormPart{false, rms->eps(), rms->gain(), std::nullopt};
  if (const auto* layer = dynamic_cast<const nn::LayerNorm*>(&norm))
    return kernels::NormPart{true, layer->eps(), layer->weight.optional(), layer->bias.optional()};
  return std::nullopt;
}

const std::shared_ptr<const kernels::LayerPlan>& LayerStep::Plan::of(
    const kernels::LayerPart& part) {
  static const std::shared_ptr<const kernels::LayerPlan> kNone;
  if (is_traced(part)) return kNone;
  if (!plan || !plan->is_of(part)) plan = kernels::LayerPlan::make(part);
  return plan;
}

LayerStep::Result LayerStep::attend(const mx::array& x, KVCache* cache, const Attention& attention,
                                    const StepFrame& attention_frame, const nn::Layer& mlp,
                                    const StepFrame& mlp_frame, bool side_by_side) const {
  auto* steps = dynamic_cast<LayerSteps*>(cache);
  if (!steps || !allowed(x)) return {};
  kernels::LayerPart part;
  part.attention = attention.step_part();
  if (!part.attention || !set_frame(part.attention->frame, attention_frame)) return {};
  part.mlp = mlp_part(mlp, mlp_frame);
  part.side_by_side = part.mlp && side_by_side;
  const auto call = attention.step_call(x.shape(1), *cache);
  if (!call) return {};
  const auto& plan = attention_.of(part);
  if (!plan) return {};
  auto y = steps->layer_step(x, plan, call->rope, call->options);
  const bool complete = y && part.mlp;
  return {std::move(y), complete};
}

std::optional<mx::array> LayerStep::feed_forward(const mx::array& x, const mx::array& residual,
                                                 const nn::Layer& mlp,
                                                 const StepFrame& frame) const {
  if (!allowed(x) || x.shape() != residual.shape() || residual.dtype() != mx::float32 ||
      residual.is_tracer())
    return std::nullopt;
  kernels::LayerPart part;
  if (!(part.mlp = mlp_part(mlp, frame))) return std::nullopt;
  const auto& plan = mlp_.of(part);
  if (!plan || plan->hidden() != x.shape(2)) return std::nullopt;
  return kernels::mlp_step(x, residual, plan);
}

}  // namespace mlxcpp::llm
