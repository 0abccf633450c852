// What steps are made of (decoder_step.h): norms and linear layers prepared from their arrays, and
// products that share what their input is rounded to. Pointers and sizes; on the stream's thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <vector>

#include "kernels/decoder_step.h"
#include "kernels/floats.h"
#include "kernels/matmul_run.h"
#include "kernels/quant_ops.h"
#include "kernels/quant_types.h"
#include "kernels/ternary_run.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels::step {

// What does not fit a step; caught where plans are made.
struct Misfit {};
void require(bool fits);

struct Norm {
  bool layer = false;
  float eps = 0.0f;
  std::vector<float> weight, bias;  // empty: none

  void run(const float* x, float* y, size_t n) const;  // y may be x
  void rows(const float* x, float* y, size_t m, size_t n) const;
};

struct Frame {
  std::optional<Norm> before, after;
  float multiplier = 1.0f;

  // before(x), or x itself.
  const float* normed(const float* x, size_t m, size_t n, Floats& room) const;
  // y = residual + multiplier * after(y)
  void finish(const float* residual, float* y, size_t m, size_t n) const;
};

struct Linear {
  size_t rows = 0, cols = 0;
  std::optional<QuantType> type;  // of quantized; or
  quant::Matrix quantized{};
  MatrixView floats{};
  std::optional<TernaryMatrix> ternary;
  std::vector<float> bias;  // empty: none

  // A unit is what one turn of the loops computes: a row, or four at equal distances.
  size_t units() const { return ternary ? ternary->packed_rows : rows; }
  // f(begin, end) for the rows of some units.
  template <class F>
  void ranges(size_t begin, size_t end, F&& f) const {
    for (size_t at = 0; at < rows; at += units()) f(at + begin, at + end);
  }
};

// A stack of quantised matrices.
struct Stack {
  QuantType type;
  quant::Matrix first{};
  size_t count = 0, rows = 0, data_step = 0, scale_step = 0;

  size_t cols() const { return first.cols; }
  quant::Matrix at(size_t i) const;
};

// Evaluates arrays and keeps them in `held`. Throws Misfit.
class Planner {
 public:
  explicit Planner(std::vector<mx::array>& held) : held_(held) {}

  std::vector<float> vector(const std::optional<mx::array>& a, size_t n);
  std::optional<Norm> norm(const std::optional<NormPart>& p, size_t n);
  Frame frame(const FramePart& p, size_t hidden) {
    return {norm(p.before, hidden), norm(p.after, hidden), p.multiplier};
  }
  Linear linear(const LinearPart& p);
  Stack stack(const QuantizedMatrix& w);

 private:
  mx::array dense(const mx::array& a);
  QuantizedMatrix dense(const QuantizedMatrix& w);

  std::vector<mx::array>& held_;
};

// Activations [m, k] as the weights of some products take them. Each form is made once, in the
// room, which must last.
class Input {
 public:
  using Room = std::array<Floats, 4>;
  Input(const float* x, size_t m, size_t k, Precision precision, Room& room)
      : x_(x), m_(m), k_(k), precision_(precision), room_(room) {}

  size_t m() const { return m_; }

  void prepare(const Linear& w);
  void prepare(const QuantType& type, const quant::Matrix& w);

  // Units [begin, end) of w, which was prepared for: y[i * ldy + row].
  void multiply(const Linear& w, size_t begin, size_t end, float* y, size_t ldy) const;
  // Whether a whole product with w is faster than its parts; one, which is shared out here.
  bool whole(const Linear& w) const;
  void multiply(const Linear& w, float* y, size_t ldy) const;
  // Of rows [first, first + count) of x by rows [begin, end) of w: y[i * ldy + row], y being that
  // of row `first`.
  void multiply(const QuantType& type, const quant::Matrix& w, size_t first, size_t count,
                size_t begin, size_t end, float* y, size_t ldy) const;

 private:
  const uint8_t* packed(const std::optional<QuantType>& type) const;  // none: ternary
  TernaryInput ternary() const;
  void add_bias(const Linear& w, size_t begin, size_t end, float* y, size_t ldy) const;
  void multiply_floats(const Linear& w, size_t begin, size_t n, float* y, size_t ldy) const;

  const float* x_;
  size_t m_, k_;
  Precision precision_;
  Room& room_;
  size_t forms_ = 0;
  std::array<std::optional<QuantType>, 4> types_{};
  std::array<const uint8_t*, 4> data_{};
};

// All of the products with one input, [m, sum of rows] at y, side by side.
void multiply(const std::vector<Linear>& weights, Input& in, float* y, size_t ldy);
void multiply(const Linear& w, Input& in, float* y);

// gate = activation(gate, up); up is not read by activations that are not gated.
void activate(Activation activation, float* gate, const float* up, size_t n);

// f(job, begin, end) over the rows [0, rows) of each of `jobs` jobs, in chunks.
template <class F>
void for_chunks(size_t jobs, size_t rows, size_t work_per_row, F&& f) {
  const size_t chunk = quant::chunk_rows(rows * jobs, work_per_row, 1);
  const size_t chunks = (rows - 1) / chunk + 1;
  parallel_for(jobs * chunks, 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const size_t from = i % chunks * chunk;
      f(i / chunks, from, std::min(from + chunk, rows));
    }
  });
}

// Rotates heads of a token in place, [count] of them `stride` floats apart. Nothing without a
// table.
struct Turned {
  float* data;
  size_t count, stride;
};
void rotate(const LayerPlan::Step& s, size_t token, std::initializer_list<Turned> heads);

// What a plan was made of, as numbers.
class Signature {
 public:
  Signature() { numbers_.reserve(192); }
  void number(int n) { numbers_.push_back(static_cast<uintptr_t>(n)); }
  void number(float x);
  void address(const void* p) { numbers_.push_back(reinterpret_cast<uintptr_t>(p)); }
  void array(const std::optional<mx::array>& a) { numbers_.push_back(a ? a->id() : 0); }
  void norm(const std::optional<NormPart>& p);
  void frame(const FramePart& p);
  void matrix(const QuantizedMatrix& w);
  void linear(const LinearPart& p);
  void linears(const std::vector<LinearPart>& all);
  bool operator==(const Signature&) const = default;

 private:
  std::vector<uintptr_t> numbers_;
};

}  // namespace mlxcpp::kernels::step
