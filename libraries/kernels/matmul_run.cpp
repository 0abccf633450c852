#include "kernels/matmul_run.h"

#include <algorithm>

#include "kernels/ceil_div.h"
#include "kernels/conv_run.h"
#include "kernels/floats.h"
#include "kernels/matmul_kernels.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

size_t round_up(size_t a, size_t b) { return ceil_div(a, b) * b; }

// Each thread keeps its own for the next product.
struct Scratch {
  Floats weights, sums;
};
thread_local Scratch scratch;

// Sums run over k in stretches of about this length, which keeps a tile's rows in the first-level
// cache. Part of the result's definition.
constexpr size_t kStretch = 1024;
constexpr size_t kBlockRows = 120;    // rows of a that stay in the second-level cache for a stretch
constexpr size_t kBlockColumns = 48;  // rows of b repacked at once
constexpr size_t kItems = 64;
constexpr size_t kSlabRows = 1920;  // bounds the memory for the repacked a

struct Product {
  const MatmulKernels& kernels;
  MatrixView a, b;
  const float* bias;
  void* y;
  FloatType y_type;
  size_t m, n, k, stretch;

  void pack(const MatrixView& v, size_t r, size_t column, size_t rows, size_t columns, float* dst,
            size_t ld) const {
    kernels.pack[static_cast<size_t>(v.type)](v.at(r, column), v.row_stride, v.column_stride, rows,
                                              columns, dst, ld);
  }
  void finish(const float* sums, size_t ld, size_t r, size_t rows, size_t column,
              size_t columns) const {
    for (size_t i = 0; i < rows; ++i)
      kernels.finish[static_cast<size_t>(y_type)](
          sums + i * ld, bias ? bias + column : nullptr,
          static_cast<std::byte*>(y) + ((r + i) * n + column) * size_of(y_type), columns);
  }
  // f(begin, length, first) for each stretch of k.
  template <class F>
  void for_stretches(F f) const {
    for (size_t i = 0; i < k; i += stretch) f(i, std::min(stretch, k - i), i == 0);
  }
};

// Few rows: the time goes into reading b, once and in place.
void run_few_rows(const Product& p) {
  const size_t ld = row_distance(p.k);
  const Floats a(p.m * ld);
  p.pack(p.a, 0, 0, p.m, p.k, a.data(), ld);
  const auto multiply = p.kernels.multiply[static_cast<size_t>(p.b.type)];
  constexpr size_t kGroup = 2 * kTileColumns;
  constexpr size_t kBytes = 1 << 16;  // of b, in a chunk of the loop
  const size_t groups = std::max<size_t>(1, kBytes / (kGroup * p.k * size_of(p.b.type)));
  parallel_for(p.n, groups * kGroup, [&](size_t begin, size_t end) {
    const size_t columns = end - begin;
    float* sums = scratch.sums.reserve(p.m * columns);
    for (size_t c = 0; c < columns; c += kGroup)
      p.for_stretches([&](size_t i, size_t length, bool first) {
        multiply(a.data() + i, ld, p.m, p.b.at(begin + c, i), p.b.row_stride,
                 std::min(kGroup, columns - c), length, sums + c, columns, !first);
      });
    p.finish(sums, columns, 0, p.m, begin, columns);
  });
}

// Rows [first, first + rows) of y, by blocks.
void run_slab(const Product& p, size_t first, size_t rows) {
  // a serves in place if it is what the loops read, and its rows do not compete in the cache.
  Floats packed;
  const float* a = nullptr;
  size_t lda = static_cast<size_t>(p.a.row_stride);
  if (p.a.type == FloatType::f32 && p.a.column_stride == 1 && p.a.row_stride >= 0 &&
      lda % 256 != 0) {
    a = static_cast<const float*>(p.a.at(first, 0));
  } else {
    lda = row_distance(p.k);
    float* to = packed.reserve(rows * lda);
    constexpr size_t kRows = 16;
    parallel_for(rows, kRows, [&](size_t b, size_t e) {
      p.pack(p.a, first + b, 0, e - b, p.k, to + b * lda, lda);
    });
    a = to;
  }

  const size_t block_rows =
      round_up(ceil_div(rows, ceil_div(rows, kBlockRows)), p.kernels.tile_rows);
  const size_t row_blocks = ceil_div(rows, block_rows);
  const size_t column_blocks = ceil_div(p.n, kBlockColumns);
  // An item of the loop repacks kBlockColumns rows of b for several row blocks: as many as leave
  // enough items for the threads of a large machine.
  const size_t parts = std::min(row_blocks, ceil_div(kItems, column_blocks));
  const size_t part_rows = ceil_div(row_blocks, parts) * block_rows;
  const size_t ldw = row_distance(p.stretch);
  const auto multiply = p.kernels.multiply[static_cast<size_t>(FloatType::f32)];
  parallel_for(ceil_div(rows, part_rows) * column_blocks, 1, [&](size_t item, size_t) {
    const size_t r = item / column_blocks * part_rows, c = item % column_blocks * kBlockColumns;
    const size_t m = std::min(part_rows, rows - r), n = std::min(kBlockColumns, p.n - c);
    float* sums = scratch.sums.reserve(m * n);
    float* weights = scratch.weights.reserve(kBlockColumns * ldw);
    p.for_stretches([&](size_t i, size_t length, bool is_first) {
      p.pack(p.b, c, i, n, length, weights, ldw);
      for (size_t j = 0; j < m; j += block_rows)
        multiply(a + (r + j) * lda + i, lda, std::min(block_rows, m - j), weights, ldw, n, length,
                 sums + j * n, n, !is_first);
    });
    p.finish(sums, n, first + r, m, c, n);
  });
}

// Products of bf16 with bf16, where the CPU has an instruction for pairs of them.
bool run_pairs(const Product& p) {
  const auto dense = [](const MatrixView& v) {
    return v.type == FloatType::bf16 && v.column_stride == 1 && v.row_stride >= 0;
  };
  return dense(p.a) && dense(p.b) &&
         run_bf16_matmul(p.a.data, static_cast<size_t>(p.a.row_stride), p.b.data,
                         static_cast<size_t>(p.b.row_stride), p.bias, p.y, p.y_type, p.m, p.n, p.k);
}

}  // namespace

void matmul_run(const MatrixView& a, const MatrixView& b, const float* bias, void* y,
                FloatType y_type, size_t m, size_t n, size_t k) {
  if (m == 0 || n == 0) return;
  const size_t stretches = std::max<size_t>(1, ceil_div(k, kStretch));
  const Product p{
      matmul_kernels(), a, b, bias, y,
      y_type,           m, n, k,    std::max<size_t>(64, round_up(ceil_div(k, stretches), 64))};
  if (k == 0) {
    const Floats zeros(n);
    std::fill_n(zeros.data(), n, 0.0f);
    for (size_t r = 0; r < m; ++r) p.finish(zeros.data(), n, r, 1, 0, n);
  } else if (m <= 2 * p.kernels.tile_rows && b.column_stride == 1 && b.row_stride >= 0) {
    run_few_rows(p);
  } else if (run_pairs(p)) {
    return;
  } else {
    for (size_t r = 0; r < m; r += kSlabRows) run_slab(p, r, std::min(kSlabRows, m - r));
  }
}

}  // namespace mlxcpp::kernels
