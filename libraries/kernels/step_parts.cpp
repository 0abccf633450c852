#include "kernels/step_parts.h"

#include <bit>
#include <cstring>

#include "core/error.h"
#include "kernels/row_kernels.h"
#include "kernels/rows.h"

namespace mlxcpp::kernels::step {
namespace {

constexpr auto kF32 = static_cast<size_t>(FloatType::f32);

// Room of a chunk of a loop.
thread_local Floats chunk_room, rows_room;

}  // namespace

void require(bool fits) {
  if (!fits) throw Misfit();
}

// ---- Norms ----

void Norm::run(const float* x, float* y, size_t n) const {
  const float* w = weight.empty() ? nullptr : weight.data();
  if (layer)
    row_kernels().layer_norm[kF32](x, w, bias.empty() ? nullptr : bias.data(), y, n, eps);
  else
    row_kernels().rms_norm[kF32](x, w, y, n, eps);
}

void Norm::rows(const float* x, float* y, size_t m, size_t n) const {
  parallel_for(m, row_grain(n), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) run(x + i * n, y + i * n, n);
  });
}

const float* Frame::normed(const float* x, size_t m, size_t n, Floats& room) const {
  if (!before) return x;
  float* y = room.fit(m * n);
  before->rows(x, y, m, n);
  return y;
}

void Frame::finish(const float* residual, float* y, size_t m, size_t n) const {
  parallel_for(m, row_grain(n), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      float* row = y + i * n;
      const float* add = residual + i * n;
      if (after) after->run(row, row, n);
      if (multiplier != 1.0f)
        for (size_t j = 0; j < n; ++j) row[j] *= multiplier;
      for (size_t j = 0; j < n; ++j) row[j] = add[j] + row[j];
    }
  });
}

// ---- Weights ----

quant::Matrix Stack::at(size_t i) const {
  quant::Matrix m = first;
  m.data += i * data_step;
  if (m.scales != nullptr) m.scales += i * scale_step;
  if (m.biases != nullptr) m.biases += i * scale_step;
  return m;
}

std::vector<float> Planner::vector(const std::optional<mx::array>& a, size_t n) {
  if (!a) return {};
  require(float_type(a->dtype()) && a->shape() == mx::Shape{static_cast<int>(n)});
  mx::array evaluated = *a;
  evaluated.eval();
  std::vector<float> values(n);
  RowBuffer buffer;
  to_f32(Rows(evaluated).read(0, buffer), *float_type(a->dtype()), values.data(), n);
  return values;
}

std::optional<Norm> Planner::norm(const std::optional<NormPart>& p, size_t n) {
  if (!p) return std::nullopt;
  return Norm{p->layer, p->eps, vector(p->weight, n), vector(p->bias, n)};
}

Linear Planner::linear(const LinearPart& p) {
  Linear w;
  if (p.quantized) {
    const QuantizedMatrix& q = *p.quantized;
    require(q.weight.ndim() == 2);
    quantized_matmul(mx::zeros({1, q.cols()}), q);  // says so if its parts do not fit
    w.type = q.type;
    w.rows = q.rows();
    w.cols = q.cols();
    w.quantized = quant::matrix_of(dense(q));
  } else if (p.ternary) {
    const TernaryPart& t = *p.ternary;
    require(t.packed.ndim() == 2 && t.packed.dtype() == mx::uint8 && t.packed.size() > 0 &&
            t.scale.size() == 1 && float_type(t.scale.dtype()));
    const mx::array codes = dense(t.packed);
    auto scale = mx::astype(t.inverse_scale ? mx::reciprocal(t.scale) : t.scale, mx::float32);
    w.rows = 4 * static_cast<size_t>(codes.shape(0));
    w.cols = codes.shape(1);
    w.ternary = TernaryMatrix{codes.data<uint8_t>(), static_cast<size_t>(codes.shape(0)),
                              scale.item<float>()};
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

Stack Planner::stack(const QuantizedMatrix& q) {
  require(q.weight.ndim() == 3 && q.weight.size() > 0);
  // Says so if its parts do not fit.
  gather_quantized_matmul(mx::zeros({1, q.cols()}), q, mx::zeros({1}, mx::uint32), true);
  const QuantizedMatrix w = dense(q);
  Stack s{.type = q.type, .first = quant::matrix_of(w)};
  s.count = w.weight.shape(0);
  s.rows = w.rows();
  s.data_step = s.rows * s.first.row_bytes;
  if (w.scales) s.scale_step = s.rows * w.scales->shape(-1) * w.scales->itemsize();
  return s;
}

mx::array Planner::dense(const mx::array& a) {
  held_.push_back(a);
  held_.back().eval();
  if (held_.back().flags().row_contiguous) return held_.back();
  held_.back() = mx::contiguous(a);
  held_.back().eval();
  return held_.back();
}

QuantizedMatrix Planner::dense(const QuantizedMatrix& w) {
  const auto maybe = [&](const std::optional<mx::array>& a) {
    return a ? std::optional(dense(*a)) : std::nullopt;
  };
  return {w.type, dense(w.weight), maybe(w.scales), maybe(w.biases)};
}

// ---- Products ----

void Input::prepare(const QuantType& type, const quant::Matrix& w) {
  if (packed(type) != nullptr) return;
  const auto planes = quant::planes_for(type, precision_);
  const auto& loops = quant::loops();
  const size_t stride = loops.packed_bytes(w, planes);
  auto* out = reinterpret_cast<uint8_t*>(room_.at(forms_).fit(m_ * stride / 4));
  parallel_for(m_, std::max<size_t>(1, 8192 / k_), [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      loops.pack(w, planes, x_ + i * k_, quant::Number::f32, out + i * stride);
  });
  types_[forms_] = type;
  data_[forms_++] = out;
}

void Input::prepare(const Linear& w) {
  if (w.type) return prepare(*w.type, w.quantized);
  if (!w.ternary || packed(std::nullopt) != nullptr) return;
  TernaryInput in{x_, m_, k_, ternary_planes(precision_)};
  if (in.planes == 0) return;
  auto* out = reinterpret_cast<uint8_t*>(
      room_.at(forms_).reserve(m_ * ternary_packed_bytes(k_, in.planes) / 4));
  types_[forms_] = std::nullopt;
  data_[forms_++] = in.pack(out);
}

const uint8_t* Input::packed(const std::optional<QuantType>& type) const {
  for (size_t i = 0; i < forms_; ++i)
    if (types_[i] == type) return data_[i];
  return nullptr;
}

void Input::multiply(const QuantType& type, const quant::Matrix& w, size_t first, size_t count,
                     size_t begin, size_t end, float* y, size_t ldy) const {
  const auto planes = quant::planes_for(type, precision_);
  const auto& loops = quant::loops();
  const size_t scratch = loops.scratch_bytes(w, planes, count);
  loops.multiply(w, planes, packed(type) + first * loops.packed_bytes(w, planes), count, begin, end,
                 y + begin, ldy, reinterpret_cast<uint8_t*>(chunk_room.reserve(scratch / 4 + 1)));
}

void Input::multiply(const Linear& w, size_t begin, size_t end, float* y, size_t ldy) const {
  if (w.type) {
    multiply(*w.type, w.quantized, 0, m_, begin, end, y, ldy);
  } else if (w.ternary) {
    ternary().multiply(*w.ternary, begin, end, y, ldy);
  } else {
    return multiply_floats(w, begin, end - begin, y, ldy);
  }
  add_bias(w, begin, end, y, ldy);
}

bool Input::whole(const Linear& w) const { return w.ternary && ternary().whole(); }

void Input::multiply(const Linear& w, float* y, size_t ldy) const {
  ternary().multiply(*w.ternary, y, ldy);
  add_bias(w, 0, w.units(), y, ldy);
}

TernaryInput Input::ternary() const {
  return {x_, m_, k_, ternary_planes(precision_), packed(std::nullopt)};
}

void Input::add_bias(const Linear& w, size_t begin, size_t end, float* y, size_t ldy) const {
  if (w.bias.empty()) return;
  w.ranges(begin, end, [&](size_t from, size_t to) {
    for (size_t i = 0; i < m_; ++i)
      for (size_t j = from; j < to; ++j) y[i * ldy + j] += w.bias[j];
  });
}

void Input::multiply_floats(const Linear& w, size_t begin, size_t n, float* y, size_t ldy) const {
  MatrixView rows = w.floats;
  const auto item = static_cast<ptrdiff_t>(rows.type == FloatType::f32 ? 4 : 2);
  rows.data = static_cast<const std::byte*>(rows.data) +
              static_cast<ptrdiff_t>(begin) * rows.row_stride * item;
  const float* bias = w.bias.empty() ? nullptr : w.bias.data() + begin;
  const MatrixView a{x_, FloatType::f32, static_cast<ptrdiff_t>(k_), 1};
  float* to = m_ == 1 ? y + begin : rows_room.reserve(m_ * n);
  matmul_run(a, rows, bias, to, FloatType::f32, m_, n, k_);
  if (m_ > 1)
    for (size_t i = 0; i < m_; ++i) std::memcpy(y + i * ldy + begin, to + i * n, n * sizeof(float));
}

void multiply(const std::vector<Linear>& weights, Input& in, float* y, size_t ldy) {
  for (const Linear& w : weights) in.prepare(w);
  if (std::all_of(weights.begin(), weights.end(), [&](const Linear& w) { return in.whole(w); })) {
    for (const Linear& w : weights) {
      in.multiply(w, y, ldy);
      y += w.rows;
    }
    return;
  }
  size_t units = 0, rows = 0;
  for (const Linear& w : weights) {
    units += w.units();
    rows += w.rows;
  }
  const size_t work = weights.front().cols * in.m() * (rows / units);
  parallel_for(units, quant::chunk_rows(units, work, in.m()), [&](size_t begin, size_t end) {
    size_t first = 0;
    float* to = y;
    for (const Linear& w : weights) {
      const size_t from = std::max(begin, first), until = std::min(end, first + w.units());
      if (from < until) in.multiply(w, from - first, until - first, to, ldy);
      first += w.units();
      to += w.rows;
    }
  });
}

void multiply(const Linear& w, Input& in, float* y) {
  in.prepare(w);
  if (in.whole(w)) return in.multiply(w, y, w.rows);
  const size_t work = w.cols * in.m() * (w.rows / w.units());
  parallel_for(w.units(), quant::chunk_rows(w.units(), work, in.m()),
               [&](size_t begin, size_t end) { in.multiply(w, begin, end, y, w.rows); });
}

void activate(Activation activation, float* gate, const float* up, size_t n) {
  row_kernels().activation[static_cast<size_t>(activation)][kF32](gate, up, gate, n);
}

// ---- Rotation ----

void rotate(const LayerPlan::Step& s, size_t token, std::initializer_list<Turned> heads) {
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
    for (const Turned& t : heads)
      for (size_t h = 0; h < t.count; ++h) {
        float* x = t.data + h * t.stride;
        if (s.traditional) {
          kernels.rotate_pairs[kF32](x + 2 * begin, cosine, sine, x + 2 * begin, n);
        } else {
          float *first = x + begin, *second = x + half + begin;
          kernels.rotate_halves[kF32](first, second, cosine, sine, first, second, n);
        }
      }
  }
}

// ---- Signatures ----

void Signature::number(float x) { numbers_.push_back(std::bit_cast<uint32_t>(x)); }

void Signature::norm(const std::optional<NormPart>& p) {
  number(p.has_value());
  if (!p) return;
  number(p->layer);
  number(p->eps);
  array(p->weight);
  array(p->bias);
}

void Signature::frame(const FramePart& p) {
  norm(p.before);
  norm(p.after);
  number(p.multiplier);
}

void Signature::matrix(const QuantizedMatrix& w) {
  number(static_cast<int>(w.type.mode));
  number(w.type.bits);
  number(w.type.group_size);
  array(w.weight);
  array(w.scales);
  array(w.biases);
}

void Signature::linear(const LinearPart& p) {
  number(p.quantized.has_value());
  if (p.quantized) matrix(*p.quantized);
  number(p.ternary.has_value());
  if (p.ternary) {
    array(p.ternary->packed);
    array(p.ternary->scale);
    number(p.ternary->inverse_scale);
  }
  array(p.weight);
  array(p.bias);
}

void Signature::linears(const std::vector<LinearPart>& all) {
  number(static_cast<int>(all.size()));
  for (const LinearPart& p : all) linear(p);
}

}  // namespace mlxcpp::kernels::step
