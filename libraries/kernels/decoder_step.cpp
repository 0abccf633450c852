#include "kernels/decoder_step.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/attention_mlx.h"
#include "kernels/floats.h"
#include "kernels/matmul_run.h"
#include "kernels/primitive.h"
#include "kernels/quant_ops.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

constexpr auto kF32 = static_cast<size_t>(FloatType::f32);

// ---- What a plan holds ----

struct Norm {
  bool layer = false;
  float eps = 0.0f;
  std::vector<float> weight, bias;  // empty: none

  // y may be x.
  void run(const float* x, float* y, size_t n) const {
    const float* w = weight.empty() ? nullptr : weight.data();
    if (layer)
      row_kernels().layer_norm[kF32](x, w, bias.empty() ? nullptr : bias.data(), y, n, eps);
    else
      row_kernels().rms_norm[kF32](x, w, y, n, eps);
  }
};

struct Linear {
  size_t rows = 0, cols = 0;
  std::optional<QuantType> type;
  quant::Matrix quantized{};
  MatrixView floats{};
  std::vector<float> bias;  // empty: none
};

struct Frame {
  std::optional<Norm> before, after;
  float multiplier = 1.0f;
};

struct AttentionPlan {
  Frame frame;
  std::vector<Linear> qkv;
  std::optional<Norm> q_norm, k_norm;
  Linear out;
};

struct MlpPlan {
  Frame frame;
  std::vector<Linear> in;
  Linear down;
};

// What does not fit; caught by LayerPlan::make.
struct Misfit {};
void require(bool fits) {
  if (!fits) throw Misfit();
}

class Planner {
 public:
  explicit Planner(std::vector<mx::array>& held) : held_(held) {}

  std::vector<float> vector(const std::optional<mx::array>& a, size_t n) {
    if (!a) return {};
    require(float_type(a->dtype()) && a->shape() == mx::Shape{static_cast<int>(n)});
    mx::array evaluated = *a;
    evaluated.eval();
    std::vector<float> values(n);
    RowBuffer buffer;
    to_f32(Rows(evaluated).read(0, buffer), *float_type(a->dtype()), values.data(), n);
    return values;
  }

  std::optional<Norm> norm(const std::optional<NormPart>& p, size_t n) {
    if (!p) return std::nullopt;
    return Norm{p->layer, p->eps, vector(p->weight, n), vector(p->bias, n)};
  }

  Frame frame(const FramePart& p, size_t hidden) {
    return {norm(p.before, hidden), norm(p.after, hidden), p.multiplier};
  }

  Linear linear(const LinearPart& p) {
    Linear w;
    if (p.quantized) {
      const QuantizedMatrix& q = *p.quantized;
      require(q.weight.ndim() == 2);
      quantized_matmul(mx::zeros({1, q.cols()}), q);  // says so if its parts do not fit
      const auto maybe = [&](const std::optional<mx::array>& a) {
        return a ? std::optional(dense(*a)) : std::nullopt;
      };
      w.type = q.type;
      w.rows = q.rows();
      w.cols = q.cols();
      w.quantized = quant::matrix_of({q.type, dense(q.weight), maybe(q.scales), maybe(q.biases)});
    } else {
      require(p.weight && p.weight->ndim() == 2 && float_type(p.weight->dtype()) &&
              p.weight->size() > 0);
      held_.push_back(*p.weight);
      held_.back().eval();
      const mx::array& a = held_.back();
      w.rows = a.shape(0);
      w.cols = a.shape(1);
      w.floats = {a.data<std::byte>(), *float_type(a.dtype()), a.strides(0), a.strides(1)};
    }
    w.bias = vector(p.bias, w.rows);
    return w;
  }

 private:
  mx::array dense(const mx::array& a) {
    held_.push_back(a);
    held_.back().eval();
    if (held_.back().flags().row_contiguous) return held_.back();
    held_.back() = mx::contiguous(a);
    held_.back().eval();
    return held_.back();
  }

  std::vector<mx::array>& held_;
};

// ---- Running ----

// Room that a thread keeps for its next step; `chunk` and `rows` are of a chunk of a loop.
struct Room {
  Floats normed, qkv, queries, attended, between, gate, up, chunk, rows;
  std::array<Floats, 3> packed;
};
thread_local Room room;

// Activations [m, k] as the weights of some products take them. Each form is made once.
class Input {
 public:
  Input(const float* x, size_t m, size_t k, Precision precision)
      : x_(x), m_(m), k_(k), precision_(precision) {}

  size_t m() const { return m_; }

  void prepare(const Linear& w) {
    if (!w.type || packed(w) != nullptr) return;
    const auto planes = quant::planes_for(*w.type, precision_);
    const auto& loops = quant::loops();
    const size_t stride = loops.packed_bytes(w.quantized, planes);
    auto* out = reinterpret_cast<uint8_t*>(room.packed.at(forms_).reserve(m_ * stride / 4));
    parallel_for(m_, std::max<size_t>(1, 8192 / k_), [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i)
        loops.pack(w.quantized, planes, x_ + i * k_, quant::Number::f32, out + i * stride);
    });
    types_[forms_] = *w.type;
    data_[forms_++] = out;
  }

  // y[i * ldy + n - begin] for rows [begin, end) of w, which was prepared for.
  void multiply(const Linear& w, size_t begin, size_t end, float* y, size_t ldy) const {
    const size_t n = end - begin;
    if (!w.type) return multiply_floats(w, begin, n, y, ldy);
    const auto planes = quant::planes_for(*w.type, precision_);
    const auto& loops = quant::loops();
    const size_t scratch = loops.scratch_bytes(w.quantized, planes, m_);
    loops.multiply(w.quantized, planes, packed(w), m_, begin, end, y, ldy,
                   reinterpret_cast<uint8_t*>(room.chunk.reserve(scratch / 4 + 1)));
    if (!w.bias.empty())
      for (size_t i = 0; i < m_; ++i)
        for (size_t j = 0; j < n; ++j) y[i * ldy + j] += w.bias[begin + j];
  }

 private:
  const uint8_t* packed(const Linear& w) const {
    for (size_t i = 0; i < forms_; ++i)
      if (types_[i] == *w.type) return data_[i];
    return nullptr;
  }

  void multiply_floats(const Linear& w, size_t begin, size_t n, float* y, size_t ldy) const {
    MatrixView rows = w.floats;
    const auto item = static_cast<ptrdiff_t>(rows.type == FloatType::f32 ? 4 : 2);
    rows.data = static_cast<const std::byte*>(rows.data) +
                static_cast<ptrdiff_t>(begin) * rows.row_stride * item;
    const float* bias = w.bias.empty() ? nullptr : w.bias.data() + begin;
    const MatrixView a{x_, FloatType::f32, static_cast<ptrdiff_t>(k_), 1};
    float* to = m_ == 1 ? y : room.rows.reserve(m_ * n);
    matmul_run(a, rows, bias, to, FloatType::f32, m_, n, k_);
    if (m_ > 1)
      for (size_t i = 0; i < m_; ++i) std::memcpy(y + i * ldy, to + i * n, n * sizeof(float));
  }

  const float* x_;
  size_t m_, k_;
  Precision precision_;
  size_t forms_ = 0;
  std::array<QuantType, 3> types_{};
  std::array<const uint8_t*, 3> data_{};
};

// All of the products with one input, [m, sum of rows] at y, side by side.
void multiply(const std::vector<Linear>& weights, Input& in, float* y, size_t ldy) {
  size_t rows = 0;
  for (const Linear& w : weights) {
    in.prepare(w);
    rows += w.rows;
  }
  const size_t work = weights.front().cols * in.m();
  parallel_for(rows, quant::chunk_rows(rows, work), [&](size_t begin, size_t end) {
    size_t first = 0;
    for (const Linear& w : weights) {
      const size_t from = std::max(begin, first), to = std::min(end, first + w.rows);
      if (from < to) in.multiply(w, from - first, to - first, y + from, ldy);
      first += w.rows;
    }
  });
}

void multiply(const Linear& w, Input& in, float* y) {
  in.prepare(w);
  parallel_for(w.rows, quant::chunk_rows(w.rows, w.cols * in.m()),
               [&](size_t begin, size_t end) { in.multiply(w, begin, end, y + begin, w.rows); });
}

// before(x), or x itself.
const float* normed(const Frame& frame, const float* x, size_t m, size_t n) {
  if (!frame.before) return x;
  float* y = room.normed.reserve(m * n);
  parallel_for(m, row_grain(n), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) frame.before->run(x + i * n, y + i * n, n);
  });
  return y;
}

// y = residual + multiplier * after(y)
void finish(const Frame& frame, const float* residual, float* y, size_t m, size_t n) {
  parallel_for(m, row_grain(n), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      float* row = y + i * n;
      const float* add = residual + i * n;
      if (frame.after) frame.after->run(row, row, n);
      if (frame.multiplier != 1.0f)
        for (size_t j = 0; j < n; ++j) row[j] *= frame.multiplier;
      for (size_t j = 0; j < n; ++j) row[j] = add[j] + row[j];
    }
  });
}

bool is_gated(Activation a) { return a >= Activation::swiglu; }

}  // namespace

struct LayerPlan::Prepared {
  LayerPart part;
  std::vector<uintptr_t> signature;
  std::vector<mx::array> held;
  size_t hidden = 0;
  std::optional<AttentionPlan> attention;
  std::optional<MlpPlan> mlp;

  StepHeads project(const Step& s) const;
  void turn(const Step& s, const StepHeads& heads, size_t token) const;
  void run_attention(const Step& s, const Attend& attend, float* y) const;
  void run_mlp(const Step& s, const float* x, const float* residual, float* y) const;
};

// ---- Making plans ----

namespace {

class Signature {
 public:
  explicit Signature(const LayerPart& p) {
    numbers_.reserve(64);
    number(p.side_by_side);
    number(p.attention.has_value());
    if (p.attention) {
      const AttentionPart& a = *p.attention;
      frame(a.frame);
      for (const int n : {a.heads, a.kv_heads, a.head_dim, int{a.grouped},
                          int{a.norm_heads_together}, static_cast<int>(a.qkv.size())})
        number(n);
      for (const LinearPart& w : a.qkv) linear(w);
      norm(a.q_norm);
      norm(a.k_norm);
      linear(a.out);
    }
    number(p.mlp.has_value());
    if (p.mlp) {
      frame(p.mlp->frame);
      number(static_cast<int>(p.mlp->activation));
      number(static_cast<int>(p.mlp->in.size()));
      for (const LinearPart& w : p.mlp->in) linear(w);
      linear(p.mlp->down);
    }
  }
  std::vector<uintptr_t> numbers() && { return std::move(numbers_); }

 private:
  void number(int n) { numbers_.push_back(static_cast<uintptr_t>(n)); }
  void number(float x) { numbers_.push_back(std::bit_cast<uint32_t>(x)); }
  void array(const std::optional<mx::array>& a) { numbers_.push_back(a ? a->id() : 0); }
  void norm(const std::optional<NormPart>& p) {
    number(p.has_value());
    if (!p) return;
    number(p->layer);
    number(p->eps);
    array(p->weight);
    array(p->bias);
  }
  void frame(const FramePart& p) {
    norm(p.before);
    norm(p.after);
    number(p.multiplier);
  }
  void linear(const LinearPart& p) {
    number(p.quantized.has_value());
    if (p.quantized) {
      number(static_cast<int>(p.quantized->type.mode));
      number(p.quantized->type.bits);
      number(p.quantized->type.group_size);
      array(p.quantized->weight);
      array(p.quantized->scales);
      array(p.quantized->biases);
    }
    array(p.weight);
    array(p.bias);
  }

  std::vector<uintptr_t> numbers_;
};

AttentionPlan plan_attention(const AttentionPart& p, size_t hidden, Planner& planner) {
  require(p.heads > 0 && p.kv_heads > 0 && p.head_dim > 0 && p.heads % p.kv_heads == 0);
  const auto H = static_cast<size_t>(p.heads), G = static_cast<size_t>(p.kv_heads),
             D = static_cast<size_t>(p.head_dim);
  AttentionPlan plan{.frame = planner.frame(p.frame, hidden)};
  const std::vector<size_t> rows = p.qkv.size() == 1 ? std::vector<size_t>{(H + 2 * G) * D}
                                                     : std::vector<size_t>{H * D, G * D, G * D};
  require(p.qkv.size() == rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    plan.qkv.push_back(planner.linear(p.qkv[i]));
    require(plan.qkv[i].rows == rows[i] && plan.qkv[i].cols == hidden);
  }
  require(!p.grouped || (rows.size() == 1 && !p.norm_heads_together));
  require(p.q_norm.has_value() == p.k_norm.has_value());
  plan.q_norm = planner.norm(p.q_norm, p.norm_heads_together ? H * D : D);
  plan.k_norm = planner.norm(p.k_norm, p.norm_heads_together ? G * D : D);
  plan.out = planner.linear(p.out);
  require(plan.out.rows == hidden && plan.out.cols == H * D);
  return plan;
}

MlpPlan plan_mlp(const MlpPart& p, size_t hidden, Planner& planner) {
  MlpPlan plan{.frame = planner.frame(p.frame, hidden)};
  plan.down = planner.linear(p.down);
  require(plan.down.rows == hidden);
  require(p.in.size() == 1 || (p.in.size() == 2 && is_gated(p.activation)));
  const size_t rows = plan.down.cols * (p.in.size() == 1 && is_gated(p.activation) ? 2 : 1);
  for (const LinearPart& w : p.in) {
    plan.in.push_back(planner.linear(w));
    require(plan.in.back().rows == rows && plan.in.back().cols == hidden);
  }
  return plan;
}

size_t rows_of(const LinearPart& p) {
  require(p.quantized || (p.weight && p.weight->ndim() == 2));
  return p.quantized ? p.quantized->rows() : p.weight->shape(0);
}

}  // namespace

std::shared_ptr<const LayerPlan> LayerPlan::make(const LayerPart& part) {
  try {
    require(part.attention || part.mlp);
    auto made = std::make_unique<Prepared>();
    made->part = part;
    made->signature = Signature(part).numbers();
    made->hidden = rows_of(part.attention ? part.attention->out : part.mlp->down);
    Planner planner(made->held);
    if (part.attention) made->attention = plan_attention(*part.attention, made->hidden, planner);
    if (part.mlp) made->mlp = plan_mlp(*part.mlp, made->hidden, planner);
    return std::shared_ptr<const LayerPlan>(new LayerPlan(std::move(made)));
  } catch (const Misfit&) {
    return nullptr;
  }
}

LayerPlan::LayerPlan(std::unique_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
LayerPlan::~LayerPlan() = default;

bool LayerPlan::is_of(const LayerPart& part) const {
  return Signature(part).numbers() == prepared_->signature;
}
const LayerPart& LayerPlan::part() const { return prepared_->part; }
int LayerPlan::hidden() const { return static_cast<int>(prepared_->hidden); }

// ---- Steps ----

StepHeads LayerPlan::Prepared::project(const Step& s) const {
  const AttentionPart& p = *part.attention;
  const auto H = static_cast<size_t>(p.heads), G = static_cast<size_t>(p.kv_heads),
             D = static_cast<size_t>(p.head_dim);
  const size_t m = static_cast<size_t>(s.batch) * s.length, ld = (H + 2 * G) * D;
  Input in(normed(attention->frame, s.x, m, hidden), m, hidden, s.precision);
  float* qkv = room.qkv.reserve(m * ld);
  multiply(attention->qkv, in, qkv, ld);
  if (!p.grouped) return {{qkv, ld, D}, {qkv + H * D, ld, D}, {qkv + (H + G) * D, ld, D}};
  const size_t queries = H / G, group = (queries + 2) * D;  // of each key head
  float* q = room.queries.reserve(m * H * D);
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
  const struct {
    const StepHeads::Plane& plane;
    size_t heads;
    const std::optional<Norm>& norm;
  } both[] = {{heads.q, static_cast<size_t>(p.heads), attention->q_norm},
              {heads.k, static_cast<size_t>(p.kv_heads), attention->k_norm}};
  for (const auto& [plane, count, norm] : both) {
    if (!norm) continue;
    float* row = plane.data + token * plane.token;
    if (p.norm_heads_together)
      norm->run(row, row, count * D);
    else
      for (size_t h = 0; h < count; ++h) norm->run(row + h * plane.head, row + h * plane.head, D);
  }
  if (s.inv_freq == nullptr) return;
  constexpr size_t kPiece = 128;  // frequencies whose table is on the stack
  alignas(64) float cosine[kPiece], sine[kPiece];
  const RowKernels& kernels = row_kernels();
  const size_t half = static_cast<size_t>(s.rope_dims) / 2, b = token / s.length;
  const int64_t start = s.starts ? s.starts[s.one_start ? 0 : b] : s.start;
  const auto position = static_cast<float>(start + static_cast<int64_t>(token % s.length));
  for (size_t begin = 0; begin < half; begin += kPiece) {
    const size_t n = std::min(kPiece, half - begin);
    kernels.rope_table(s.inv_freq + begin, position, s.rope_scale, cosine, sine, n);
    for (const auto& [plane, count, norm] : both)
      for (size_t h = 0; h < count; ++h) {
        float* x = plane.data + token * plane.token + h * plane.head;
        if (s.traditional) {
          kernels.rotate_pairs[kF32](x + 2 * begin, cosine, sine, x + 2 * begin, n);
        } else {
          float *first = x + begin, *second = x + half + begin;
          kernels.rotate_halves[kF32](first, second, cosine, sine, first, second, n);
        }
      }
  }
}

void LayerPlan::Prepared::run_attention(const Step& s, const Attend& attend, float* y) const {
  const size_t m = static_cast<size_t>(s.batch) * s.length;
  const StepHeads heads = project(s);
  const size_t width = attention->out.cols;
  parallel_for(m, row_grain(width), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) turn(s, heads, i);
  });
  float* attended = room.attended.reserve(m * width);
  attend(heads, attended);
  Input in(attended, m, width, s.precision);
  multiply(attention->out, in, y);
  finish(attention->frame, s.residual, y, m, hidden);
}

void LayerPlan::Prepared::run_mlp(const Step& s, const float* x, const float* residual,
                                  float* y) const {
  const size_t m = static_cast<size_t>(s.batch) * s.length, width = mlp->down.cols;
  Input in(normed(mlp->frame, x, m, hidden), m, hidden, s.precision);
  for (const Linear& w : mlp->in) in.prepare(w);
  float* gate = room.gate.reserve(m * width);
  float* up = room.up.reserve(m * width);
  const bool gated = is_gated(part.mlp->activation);
  const auto activate = row_kernels().activation[static_cast<size_t>(part.mlp->activation)][kF32];
  const size_t work = hidden * m * (gated ? 2 : 1);
  parallel_for(width, quant::chunk_rows(width, work), [&](size_t begin, size_t end) {
    const size_t n = end - begin;
    in.multiply(mlp->in[0], begin, end, gate + begin, width);
    if (gated && mlp->in.size() == 2) in.multiply(mlp->in[1], begin, end, up + begin, width);
    if (gated && mlp->in.size() == 1)
      in.multiply(mlp->in[0], width + begin, width + end, up + begin, width);
    for (size_t i = 0; i < m; ++i) {
      float* row = gate + i * width + begin;
      activate(row, gated ? up + i * width + begin : row, row, n);
    }
  });
  Input activated(gate, m, width, s.precision);
  multiply(mlp->down, activated, y);
  finish(mlp->frame, residual, y, m, hidden);
}

void LayerPlan::run(const Step& s, const Attend& attend) const {
  const Prepared& p = *prepared_;
  if (!p.attention) return p.run_mlp(s, s.x, s.residual, s.y);
  if (!p.mlp) return p.run_attention(s, attend, s.y);
  float* h = room.between.reserve(static_cast<size_t>(s.batch) * s.length * p.hidden);
  p.run_attention(s, attend, h);
  p.run_mlp(s, p.part.side_by_side ? s.x : h, h, s.y);
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
                    residual.dtype() == mx::float32 && !plan->part().attention;
  if (!fits)
    throw Error("mlp_step: x [{}] and residual [{}] do not fit a plan of width {}",
                fmt::join(x.shape(), ", "), fmt::join(residual.shape(), ", "), plan->hidden());
  return mx::array(
      x.shape(), mx::float32,
      std::make_shared<MlpStep>(mx::default_stream(mx::Device::cpu), plan, precision()),
      {x, residual});
}

}  // namespace mlxcpp::kernels
