#include "llm/blocks/step.h"

#include <typeinfo>

#include "kernels/step_rows.h"
#include "llm/blocks/mlp.h"
#include "llm/blocks/moe.h"
#include "lm_common/kv_cache/layer_steps.h"
#include "nn/bit_linear.h"
#include "nn/quantized.h"

namespace mlxcpp::llm {
namespace {

int64_t rows_of(const mx::array& x) { return int64_t{x.shape(0)} * x.shape(1); }

// Whether x may go through a step of so many rows at all.
bool allowed(const mx::array& x, int rows = kernels::kStepRows) {
  return !nn::detail::observer && mx::default_device() == mx::Device::cpu && x.ndim() == 3 &&
         x.dtype() == mx::float32 && x.size() > 0 && rows_of(x) <= rows && !x.is_tracer();
}

// Parameters that a transform follows have no plan.
bool is_traced(const std::optional<mx::array>& a) { return a && a->is_tracer(); }
bool is_traced(const kernels::QuantizedMatrix& w) {
  return w.weight.is_tracer() || is_traced(w.scales) || is_traced(w.biases);
}
bool is_traced(const kernels::LinearPart& p) {
  return is_traced(p.weight) || is_traced(p.bias) || (p.quantized && is_traced(*p.quantized)) ||
         (p.ternary && (p.ternary->packed.is_tracer() || p.ternary->scale.is_tracer()));
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
bool is_traced(const std::optional<kernels::MlpPart>& m) {
  return m && (is_traced(m->frame) || is_traced(m->in) || is_traced(m->inner_norm) ||
               is_traced(m->down));
}
bool is_traced(const kernels::LatentPart& a) {
  return is_traced(a.frame) || is_traced(a.q) || is_traced(a.q_norm) || is_traced(a.kv) ||
         is_traced(std::optional(a.latent_norm)) || is_traced(a.embed_q) ||
         is_traced(a.unembed_out) || is_traced(a.out);
}
bool is_traced(const kernels::AltUpPart& a) {
  for (const auto* norm : {&a.router_norm, &a.laurel_norm, &a.projection_norm})
    if (is_traced(std::optional(*norm))) return true;
  for (const auto* linear : {&a.router, &a.prediction, &a.correction, &a.laurel_left,
                             &a.laurel_right, &a.gate, &a.projection})
    if (is_traced(*linear)) return true;
  return is_traced(a.output_scale);
}
bool is_traced(const kernels::LayerPart& p) {
  const auto& a = p.attention;
  const auto& m = p.moe;
  return (a && (is_traced(a->frame) || is_traced(a->qkv) || is_traced(a->q_norm) ||
                is_traced(a->k_norm) || is_traced(a->v_norm) || is_traced(a->out_norm) ||
                is_traced(a->out))) ||
         (p.latent && is_traced(*p.latent)) || (p.altup && is_traced(*p.altup)) ||
         is_traced(p.mlp) ||
         (m &&
          (is_traced(m->frame) || is_traced(m->router) || is_traced(m->correction_bias) ||
           is_traced(m->gate) || is_traced(m->up) || is_traced(m->down) || is_traced(m->shared)));
}

// What stands in the MLP's place. False where that must go operation by operation.
bool set_feed_forward(kernels::LayerPart& part, const nn::Layer& mlp, const StepFrame& frame) {
  if (const auto* gated = dynamic_cast<const GatedMLP*>(&mlp))
    part.mlp = gated->step_part();
  else if (const auto* plain = dynamic_cast<const MLP*>(&mlp))
    part.mlp = plain->step_part();
  else if (const auto* moe = dynamic_cast<const MoE*>(&mlp))
    part.moe = moe->step_part();
  if (part.mlp && !set_step_frame(part.mlp->frame, frame)) part.mlp.reset();
  if (part.moe && !set_step_frame(part.moe->frame, frame)) part.moe.reset();
  return part.mlp || part.moe;
}

}  // namespace

bool set_step_frame(kernels::FramePart& part, const StepFrame& frame) {
  part.multiplier = frame.multiplier;
  const auto set = [](auto& to, const nn::Layer* norm) {
    if (norm) to = step_part(*norm);
    return !norm || to;
  };
  return set(part.before, frame.before) && set(part.after, frame.after);
}

std::optional<kernels::LinearPart> step_part(const nn::Linear& linear) {
  if (typeid(linear) == typeid(nn::Linear))
    return kernels::LinearPart{std::nullopt, *linear.weight, linear.bias.optional()};
  if (typeid(linear) == typeid(nn::QuantizedLinear))
    return kernels::LinearPart{static_cast<const nn::QuantizedLinear&>(linear).matrix(),
                               std::nullopt, linear.bias.optional()};
  if (const auto* ternary = dynamic_cast<const nn::BitLinear*>(&linear))
    if (auto part = ternary->step_part())
      return kernels::LinearPart{std::nullopt, std::nullopt, linear.bias.optional(),
                                 std::move(part)};
  return std::nullopt;
}

std::optional<kernels::NormPart> step_part(const nn::Layer& norm) {
  if (const auto* rms = dynamic_cast<const nn::RMSNorm*>(&norm))
    return kernels::NormPart{false, rms->eps(), rms->gain(), std::nullopt};
  if (const auto* layer = dynamic_cast<const nn::LayerNorm*>(&norm))
    return kernels::NormPart{true, layer->eps(), layer->weight.optional(), layer->bias.optional()};
  return std::nullopt;
}

std::optional<kernels::QuantizedMatrix> step_stack(const nn::SwitchLinear& layer) {
  if (typeid(layer) != typeid(nn::QuantizedSwitchLinear) || layer.bias) return std::nullopt;
  return static_cast<const nn::QuantizedSwitchLinear&>(layer).matrix();
}

std::optional<kernels::StepRope> step_rope(const nn::RoPE& rope, kernels::Positions at, int L,
                                           int expected) {
  auto table = rope.table_for(at, L, expected);
  if (!table) return std::nullopt;
  return kernels::StepRope{rope.dims(), rope.traditional(), table->inv_freq, table->scale,
                           std::move(at)};
}

const std::shared_ptr<const kernels::LayerPlan>& LayerStep::Plan::of(
    const kernels::LayerPart& part) {
  static const std::shared_ptr<const kernels::LayerPlan> kNone;
  if (is_traced(part)) return kNone;
  if (!plan || !plan->is_of(part)) plan = kernels::LayerPlan::make(part);
  return plan;
}

LayerStep::Result LayerStep::attend(const mx::array& x, KVCache* cache,
                                    const StepAttention& attention,
                                    const StepFrame& attention_frame, const nn::Layer& mlp,
                                    const StepFrame& mlp_frame, bool side_by_side) const {
  auto* steps = dynamic_cast<LayerSteps*>(cache);
  if (!steps || !allowed(x, kernels::kPromptRows)) return {};
  kernels::LayerPart part;
  if (!attention.set_step_part(part)) return {};
  if (!set_step_frame(part.attention ? part.attention->frame : part.latent->frame, attention_frame))
    return {};
  bool whole = set_feed_forward(part, mlp, mlp_frame);
  if (side_by_side && (part.moe || part.latent)) {
    part.mlp.reset();
    part.moe.reset();
    whole = false;
  }
  part.side_by_side = whole && side_by_side;
  const auto call = attention.step_call(x.shape(1), *cache);
  if (!call) return {};
  const auto& plan = attention_.of(part);
  if (!plan || rows_of(x) > kernels::max_step_rows(*plan)) return {};
  auto y = steps->layer_step(x, std::nullopt, plan, call->rope, call->options);
  const bool complete = y && whole;
  return {std::move(y), complete};
}

std::optional<mx::array> LayerStep::whole(const mx::array& x, const mx::array& per_layer,
                                          KVCache* cache, const kernels::LayerPart& part,
                                          const StepAttention::StepCall& call) const {
  auto* steps = dynamic_cast<LayerSteps*>(cache);
  if (!steps || !allowed(x) || per_layer.is_tracer()) return std::nullopt;
  const auto& plan = attention_.of(part);
  return plan ? steps->layer_step(x, per_layer, plan, call.rope, call.options) : std::nullopt;
}

std::optional<mx::array> LayerStep::feed_forward(const mx::array& x, const mx::array& residual,
                                                 const nn::Layer& mlp,
                                                 const StepFrame& frame) const {
  if (!allowed(x) || x.shape() != residual.shape() || residual.dtype() != mx::float32 ||
      residual.is_tracer())
    return std::nullopt;
  kernels::LayerPart part;
  if (!set_feed_forward(part, mlp, frame)) return std::nullopt;
  const auto& plan = mlp_.of(part);
  if (!plan || plan->hidden() != x.shape(2)) return std::nullopt;
  return kernels::mlp_step(x, residual, plan);
}

}  // namespace mlxcpp::llm
