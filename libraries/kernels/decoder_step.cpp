#include "kernels/decoder_step.h"

#include <algorithm>
#include <cstring>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/altup_step.h"
#include "kernels/latent_step.h"
#include "kernels/mlp_step.h"
#include "kernels/moe_step.h"
#include "kernels/primitive.h"
#include "kernels/quant_ops.h"
#include "kernels/rows.h"
#include "kernels/step_parts.h"
#include "kernels/step_rows.h"

namespace mlxcpp::kernels {
namespace {

using namespace step;

// ---- What a plan holds ----

struct AttentionPlan {
  Frame frame;
  std::vector<Linear> qkv;
  std::optional<Norm> q_norm, k_norm, v_norm, out_norm;
  Linear out;
};

// Room that a thread keeps for its next step.
struct Room {
  Floats normed, qkv, queries, attended, between;
  Input::Room input, inner;
};
thread_local Room room;

}  // namespace

struct LayerPlan::Prepared {
  LayerPart part;
  Signature signature;
  std::vector<mx::array> held;
  size_t hidden = 0;
  std::optional<AttentionPlan> attention;
  std::optional<LatentPlan> latent;
  std::optional<MlpPlan> mlp;
  std::optional<MoePlan> moe;
  std::optional<AltUpPlan> altup;

  const float* normed(const Step& s) const;
  StepHeads project(const Step& s, const float* normed) const;
  void turn(const Step& s, const StepHeads& heads, size_t token) const;
  void run_attention(const Step& s, const float* normed, const Attend& attend, float* y) const;
};

// ---- Making plans ----

namespace {

Signature signature_of(const LayerPart& p) {
  Signature s;
  s.number(p.side_by_side);
  s.number(p.attention.has_value());
  if (p.attention) {
    const AttentionPart& a = *p.attention;
    s.frame(a.frame);
    for (const int n : {a.heads, a.kv_heads, a.head_dim, int{a.grouped}, int{a.norm_heads_together},
                        int{a.shared}})
      s.number(n);
    s.linears(a.qkv);
    for (const auto* norm : {&a.q_norm, &a.k_norm, &a.v_norm, &a.out_norm}) s.norm(*norm);
    s.linear(a.out);
  }
  s.number(p.latent.has_value());
  if (p.latent) add_to(s, *p.latent);
  s.number(p.mlp.has_value());
  if (p.mlp) add_to(s, *p.mlp);
  s.number(p.moe.has_value());
  if (p.moe) add_to(s, *p.moe);
  s.number(p.altup.has_value());
  if (p.altup) add_to(s, *p.altup);
  return s;
}

AttentionPlan plan_attention(const AttentionPart& p, size_t hidden, Planner& planner) {
  require(p.heads > 0 && p.kv_heads > 0 && p.head_dim > 0 && p.heads % p.kv_heads == 0);
  const auto H = static_cast<size_t>(p.heads), G = static_cast<size_t>(p.kv_heads),
             D = static_cast<size_t>(p.head_dim);
  AttentionPlan plan{.frame = planner.frame(p.frame, hidden)};
  const std::vector<size_t> rows = p.shared            ? std::vector<size_t>{H * D}
                                   : p.qkv.size() == 1 ? std::vector<size_t>{(H + 2 * G) * D}
                                                       : std::vector<size_t>{H * D, G * D, G * D};
  require(p.qkv.size() == rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    plan.qkv.push_back(planner.linear(p.qkv[i]));
    require(plan.qkv[i].rows == rows[i] && plan.qkv[i].cols == hidden);
  }
  require(!p.grouped || (rows.size() == 1 && !p.norm_heads_together && !p.shared));
  require(!p.shared || (!p.k_norm && !p.v_norm));
  require(p.shared || p.q_norm.has_value() == p.k_norm.has_value());
  plan.q_norm = planner.norm(p.q_norm, p.norm_heads_together ? H * D : D);
  plan.k_norm = planner.norm(p.k_norm, p.norm_heads_together ? G * D : D);
  plan.v_norm = planner.norm(p.v_norm, D);
  plan.out_norm = planner.norm(p.out_norm, H * D);
  plan.out = planner.linear(p.out);
  require(plan.out.rows == hidden && plan.out.cols == H * D);
  return plan;
}

size_t rows_of(const LinearPart& p) {
  if (p.ternary) {
    require(p.ternary->packed.ndim() == 2);
    return 4 * static_cast<size_t>(p.ternary->packed.shape(0));
  }
  require(p.quantized || (p.weight && p.weight->ndim() == 2));
  return p.quantized ? p.quantized->rows() : p.weight->shape(0);
}

}  // namespace

std::shared_ptr<const LayerPlan> LayerPlan::make(const LayerPart& part) {
  try {
    require(part.attention || part.latent || part.mlp || part.moe);
    require(!part.latent || (!part.attention && !part.side_by_side));
    require(!part.altup || (part.attention && part.mlp && !part.side_by_side));
    require(!part.moe || (!part.mlp && !part.side_by_side));
    auto made = std::make_unique<Prepared>();
    made->part = part;
    made->signature = signature_of(part);
    made->hidden = part.attention ? rows_of(part.attention->out)
                   : part.latent  ? rows_of(part.latent->out)
                   : part.mlp     ? rows_of(part.mlp->down)
                                  : static_cast<size_t>(part.moe->down.rows());
    Planner planner(made->held);
    if (part.attention) made->attention = plan_attention(*part.attention, made->hidden, planner);
    if (part.latent) made->latent = LatentPlan::make(*part.latent, made->hidden, planner);
    if (part.mlp) made->mlp = MlpPlan::make(*part.mlp, made->hidden, planner);
    if (part.moe) made->moe = MoePlan::make(*part.moe, made->hidden, planner);
    if (part.altup) made->altup = AltUpPlan::make(*part.altup, made->hidden, planner);
    return std::shared_ptr<const LayerPlan>(new LayerPlan(std::move(made)));
  } catch (const Misfit&) {
    return nullptr;
  }
}

LayerPlan::LayerPlan(std::unique_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
LayerPlan::~LayerPlan() = default;

bool LayerPlan::is_of(const LayerPart& part) const {
  return signature_of(part) == prepared_->signature;
}
const LayerPart& LayerPlan::part() const { return prepared_->part; }
int LayerPlan::hidden() const { return static_cast<int>(prepared_->hidden); }

int LayerPlan::width() const { return part().altup ? part().altup->inputs * hidden() : hidden(); }
int LayerPlan::per_layer() const {
  return prepared_->altup ? static_cast<int>(prepared_->altup->projection.cols) : 0;
}

std::optional<LayerPlan::Heads> LayerPlan::heads() const {
  if (const auto& a = part().attention)
    return Heads{a->shared, a->heads, a->kv_heads, a->head_dim, a->head_dim, a->head_dim, false};
  if (const auto& a = part().latent)
    return Heads{false, a->heads, 1, a->rank, a->rope_dim, a->rope_dim, true};
  return std::nullopt;
}

int max_step_rows(const LayerPlan& plan) {
  const LayerPart& p = plan.part();
  const auto quantised = [](const LinearPart& w) { return w.quantized || w.ternary; };
  const auto all_quantised = [&](const std::vector<LinearPart>& all) {
    return std::all_of(all.begin(), all.end(), quantised);
  };
  const bool many =
      p.attention && all_quantised(p.attention->qkv) && quantised(p.attention->out) &&
      (!p.mlp || (all_quantised(p.mlp->in) && quantised(p.mlp->down) && !p.mlp->cutoff)) &&
      !p.moe && !p.altup;
  return many ? kPromptRows : kStepRows;
}

// ---- Steps ----

// What attention gets, in the room until the next step.
const float* LayerPlan::Prepared::normed(const Step& s) const {
  return attention->frame.normed(s.x, static_cast<size_t>(s.batch) * s.length, hidden, room.normed);
}

StepHeads LayerPlan::Prepared::project(const Step& s, const float* normed) const {
  const AttentionPart& p = *part.attention;
  const auto H = static_cast<size_t>(p.heads), G = static_cast<size_t>(p.kv_heads),
             D = static_cast<size_t>(p.head_dim);
  const size_t m = static_cast<size_t>(s.batch) * s.length, ld = (p.shared ? H : H + 2 * G) * D;
  Input in(normed, m, hidden, s.precision, room.input);
  float* qkv = room.qkv.fit(m * ld);
  multiply(attention->qkv, in, qkv, ld);
  if (p.shared) return {{qkv, ld, D}, {}, {}};
  if (!p.grouped) return {{qkv, ld, D}, {qkv + H * D, ld, D}, {qkv + (H + G) * D, ld, D}};
  const size_t queries = H / G, group = (queries + 2) * D;  // of each key head
  float* q = room.queries.fit(m * H * D);
  for (size_t i = 0; i < m; ++i)
    for (size_t g = 0; g < G; ++g)
      std::memcpy(q + (i * H + g * queries) * D, qkv + i * ld + g * group,
                  queries * D * sizeof(float));
  return {{q, H * D, D}, {qkv + queries * D, ld, group}, {qkv + (queries + 1) * D, ld, group}};
}

// Norms and rotation of a token's queries and keys.
void LayerPlan::Prepared::turn(const Step& s, const StepHeads& heads, size_t token) const {
  const AttentionPart& p = *part.attention;
  const auto D = static_cast<size_t>(p.head_dim);
  const auto H = static_cast<size_t>(p.heads), G = p.shared ? 0 : static_cast<size_t>(p.kv_heads);
  const auto normalise = [&](const std::optional<Norm>& norm, const StepHeads::Plane& plane,
                             size_t count, bool together) {
    if (!norm || count == 0) return;
    float* row = plane.data + token * plane.token;
    if (together)
      norm->run(row, row, count * D);
    else
      for (size_t h = 0; h < count; ++h) norm->run(row + h * plane.head, row + h * plane.head, D);
  };
  normalise(attention->q_norm, heads.q, H, p.norm_heads_together);
  normalise(attention->k_norm, heads.k, G, p.norm_heads_together);
  normalise(attention->v_norm, heads.v, G, false);
  const auto at = [&](const StepHeads::Plane& plane) {
    return plane.data == nullptr ? nullptr : plane.data + token * plane.token;
  };
  rotate(s, token, {{at(heads.q), H, heads.q.head}, {at(heads.k), G, heads.k.head}});
}

void LayerPlan::Prepared::run_attention(const Step& s, const float* normed, const Attend& attend,
                                        float* y) const {
  const size_t m = static_cast<size_t>(s.batch) * s.length;
  const StepHeads heads = project(s, normed);
  const size_t width = attention->out.cols;
  parallel_for(m, row_grain(width), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) turn(s, heads, i);
  });
  float* attended = room.attended.fit(m * width);
  attend(heads, attended);
  if (attention->out_norm) attention->out_norm->rows(attended, attended, m, width);
  Input in(attended, m, width, s.precision, room.inner);
  multiply(attention->out, in, y);
  attention->frame.finish(s.residual, y, m, hidden);
}

void LayerPlan::run(const Step& s, const Attend& attend) const {
  const Prepared& p = *prepared_;
  const size_t m = static_cast<size_t>(s.batch) * s.length;
  if (p.altup) {
    p.altup->run(s, p.hidden, [&](const float* x, float* y) {
      Step inner = s;
      inner.x = inner.residual = x;
      const float* normed = p.normed(inner);
      float* h = room.between.fit(m * p.hidden);
      p.run_attention(inner, normed, attend, h);
      p.altup->add_laurel(normed, h, m, p.hidden, s.precision);
      p.mlp->run(h, h, y, m, p.hidden, s.precision);
    });
    return;
  }
  const auto feed_forward = [&](const float* x, const float* residual) {
    p.moe ? p.moe->run(x, residual, s.y, m, p.hidden, s.precision)
          : p.mlp->run(x, residual, s.y, m, p.hidden, s.precision);
  };
  if (!p.attention && !p.latent) return feed_forward(s.x, s.residual);
  const bool alone = !p.mlp && !p.moe;
  float* h = alone ? s.y : room.between.fit(m * p.hidden);
  p.latent ? p.latent->run(s, attend, p.hidden, h) : p.run_attention(s, p.normed(s), attend, h);
  if (!alone) feed_forward(p.part.side_by_side ? s.x : h, h);
}

// ---- The MLP's primitive (that with attention is the KV store's) ----

namespace {

class MlpStep final : public mx::Primitive {
 public:
  MlpStep(mx::Stream s, std::shared_ptr<const LayerPlan> plan, Precision precision)
      : Primitive(s), plan_(std::move(plan)), precision_(precision) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const auto x = quant::dense(in[0], stream()), residual = quant::dense(in[1], stream());
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const LayerPlan::Step step{.batch = x.shape(0),
                               .length = x.shape(1),
                               .precision = precision_,
                               .x = x.data<float>(),
                               .residual = residual.data<float>(),
                               .y = out[0].data<float>()};
    mx::cpu::get_command_encoder(stream()).dispatch(
        [step, plan = plan_] { plan->run(step, nullptr); });
  }
  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::runtime_error("mlxcpp::MlpStep has no GPU kernel");
  }
  const char* name() const override { return "mlxcpp::MlpStep"; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override { return {in[0].shape()}; }

 private:
  std::shared_ptr<const LayerPlan> plan_;
  Precision precision_;
};

}  // namespace

mx::array mlp_step(const mx::array& x, const mx::array& residual,
                   const std::shared_ptr<const LayerPlan>& plan) {
  const bool fits = x.ndim() == 3 && x.shape() == residual.shape() &&
                    x.shape(0) * x.shape(1) <= kStepRows && x.size() > 0 &&
                    x.shape(2) == plan->hidden() && x.dtype() == mx::float32 &&
                    residual.dtype() == mx::float32 && !plan->heads();
  if (!fits)
    throw Error("mlp_step: x [{}] and residual [{}] do not fit a plan of width {}",
                fmt::join(x.shape(), ", "), fmt::join(residual.shape(), ", "), plan->hidden());
  return mx::array(
      x.shape(), mx::float32,
      std::make_shared<MlpStep>(mx::default_stream(mx::Device::cpu), plan, precision()),
      {x, residual});
}

}  // namespace mlxcpp::kernels
