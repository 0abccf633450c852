#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/primitive.h"
#include "kernels/row_kernels.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

// A vocabulary is searched in pieces of this many logits, by several threads.
constexpr size_t kPiece = 16384;

size_t pieces_of(size_t length) { return (length - 1) / kPiece + 1; }

class ArgmaxPrimitive final : public CpuPrimitive {
 public:
  explicit ArgmaxPrimitive(mx::Stream s) : CpuPrimitive(s, plain) {}

  static Arrays plain(const Arrays& in) { return {mx::argmax(in[0], -1)}; }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const mx::array& x = in[0];
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const auto run = row_kernels().argmax[static_cast<size_t>(*float_type(x.dtype()))];
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, rows = Rows(x), y = out[0].data<uint32_t>()] {
      const size_t n = rows.length(), pieces = pieces_of(n);
      std::vector<std::pair<float, size_t>> best(rows.count() * pieces);
      parallel_for(best.size(), pieces > 1 ? 1 : row_grain(n), [&](size_t b, size_t e) {
        RowBuffer buffer;
        for (size_t i = b; i < e; ++i) {
          const size_t begin = i % pieces * kPiece, m = std::min(kPiece, n - begin);
          run(rows.read(i / pieces, begin, m, buffer), m, &best[i].first, &best[i].second);
          best[i].second += begin;
        }
      });
      for (size_t r = 0; r < rows.count(); ++r) {
        const auto first = best.begin() + static_cast<ptrdiff_t>(r * pieces);
        const auto top =
            std::max_element(first, first + static_cast<ptrdiff_t>(pieces),
                             [](const auto& a, const auto& b) { return a.first < b.first; });
        y[r] = static_cast<uint32_t>(top->second);
      }
    });
  }

  const char* name() const override { return "mlxcpp::Argmax"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    return {mx::Shape(in[0].shape().begin(), in[0].shape().end() - 1)};
  }
};

struct Candidate {
  float value;
  uint32_t index;
};

bool better(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.index < b.index);
}

// Keeps the k best of the candidates, in any order.
void prune(std::vector<Candidate>& c, size_t k) {
  if (c.size() <= k) return;
  std::nth_element(c.begin(), c.begin() + static_cast<ptrdiff_t>(k) - 1, c.end(), better);
  c.resize(k);
}

// The k best of x [n], whose first element is logit `offset`. Once k are found, only what beats the
// worst of them is looked at.
std::vector<Candidate> best_of(const RowKernels& kernels, size_t type, size_t item,
                               const std::byte* x, size_t n, size_t offset, size_t k) {
  const size_t capacity = k + 512;
  std::vector<float> values(capacity);
  std::vector<uint32_t> indices(capacity);
  std::vector<Candidate> kept;
  float threshold = -INFINITY;
  for (size_t begin = 0; begin < n;) {
    size_t end = 0;
    const size_t count = kernels.above[type](x + begin * item, n - begin, threshold,
                                             static_cast<uint32_t>(offset + begin), values.data(),
                                             indices.data(), capacity, &end);
    for (size_t i = 0; i < count; ++i) kept.push_back({values[i], indices[i]});
    begin += end;
    if (kept.size() > k) {
      prune(kept, k);
      threshold = kept.back().value;  // nth_element leaves the worst of them last
    }
  }
  return kept;
}

class TopKPrimitive final : public CpuPrimitive {
 public:
  TopKPrimitive(mx::Stream s, int k)
      : CpuPrimitive(s, [k](const Arrays& in) { return plain(in, k); }), k_(k) {}

  static Arrays plain(const Arrays& in, int k) {
    const mx::array& x = in[0];
    const auto low = mx::array(-INFINITY, x.dtype());
    const auto order = mx::argsort(mx::negative(mx::where(mx::isnan(x), low, x)), -1);
    mx::Shape start(x.ndim(), 0), stop = x.shape();
    stop.back() = k;
    const auto best = mx::slice(order, start, stop);
    return {mx::take_along_axis(x, best, -1), best};
  }

  void eval_cpu(const Arrays& in, Arrays& out) override {
    const mx::array& x = in[0];
    for (mx::array& o : out) o.set_data(mx::allocator::malloc(o.nbytes()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([=, &kernels = row_kernels(), k = static_cast<size_t>(k_), rows = Rows(x),
                      item = x.itemsize(), type = static_cast<size_t>(*float_type(x.dtype())),
                      values = out[0].data<std::byte>(), indices = out[1].data<uint32_t>()] {
      const size_t n = rows.length(), pieces = pieces_of(n);
      std::vector<std::vector<Candidate>> best(rows.count() * pieces);
      parallel_for(best.size(), pieces > 1 ? 1 : row_grain(n), [&](size_t b, size_t e) {
        RowBuffer buffer;
        for (size_t i = b; i < e; ++i) {
          const size_t begin = i % pieces * kPiece, m = std::min(kPiece, n - begin);
          const void* from = rows.read(i / pieces, begin, m, buffer);
          best[i] = best_of(kernels, type, item, static_cast<const std::byte*>(from), m, begin,
                            std::min(k, m));
        }
      });
      for (size_t r = 0; r < rows.count(); ++r) {
        std::vector<Candidate> all;
        for (size_t p = 0; p < pieces; ++p) {
          const auto& part = best[r * pieces + p];
          all.insert(all.end(), part.begin(), part.end());
        }
        prune(all, k);
        if (all.size() < k) add_missing(all, k);
        std::sort(all.begin(), all.end(), better);
        RowBuffer buffer;
        for (size_t i = 0; i < k; ++i) {
          indices[r * k + i] = all[i].index;
          std::memcpy(values + (r * k + i) * item, rows.read(r, all[i].index, 1, buffer), item);
        }
      }
    });
  }

  const char* name() const override { return "mlxcpp::TopK"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return k_ == static_cast<const TopKPrimitive&>(other).k_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    auto shape = in[0].shape();
    shape.back() = k_;
    return {shape, shape};
  }

 private:
  // Fewer than k logits are above -inf: the first of the others fill the list.
  static void add_missing(std::vector<Candidate>& all, size_t k) {
    std::vector<uint32_t> taken;
    for (const Candidate& c : all) taken.push_back(c.index);
    std::sort(taken.begin(), taken.end());
    for (uint32_t i = 0, next = 0; all.size() < k; ++i) {
      if (next < taken.size() && taken[next] == i)
        ++next;
      else
        all.push_back({-INFINITY, i});
    }
  }

  int k_;
};

}  // namespace

mx::array argmax(const mx::array& logits) {
  if (logits.ndim() == 0 || logits.shape(-1) == 0)
    throw Error("argmax: expected logits of shape [..., V], found {}",
                fmt::join(logits.shape(), "x"));
  const auto stream = cpu_stream();
  if (!stream || !float_type(logits.dtype()) || logits.size() == 0)
    return ArgmaxPrimitive::plain({logits})[0];
  return mx::array(mx::Shape(logits.shape().begin(), logits.shape().end() - 1), mx::uint32,
                   std::make_shared<ArgmaxPrimitive>(*stream), {logits});
}

TopK top_k(const mx::array& logits, int k) {
  if (logits.ndim() == 0 || k < 1 || k > logits.shape(-1))
    throw Error("top_k: cannot take {} of logits of shape {}", k, fmt::join(logits.shape(), "x"));
  const auto stream = cpu_stream();
  if (!stream || !float_type(logits.dtype()) || logits.size() == 0) {
    const auto out = TopKPrimitive::plain({logits}, k);
    return {out[0], out[1]};
  }
  auto shape = logits.shape();
  shape.back() = k;
  auto out = mx::array::make_arrays({shape, shape}, {logits.dtype(), mx::uint32},
                                    std::make_shared<TopKPrimitive>(*stream, k), {logits});
  return {out[0], out[1]};
}

}  // namespace mlxcpp::kernels
