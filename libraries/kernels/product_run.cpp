#include "kernels/product_run.h"

#include <algorithm>

#include "kernels/ceil_div.h"
#include "kernels/conv_kernels.h"
#include "kernels/floats.h"
#include "kernels/matmul_kernels.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

// Stretches of k are summed by themselves, which bounds the error of long sums, and keeps a panel
// near the first-level cache. Part of the result's definition.
constexpr size_t kStretch = 640;
constexpr size_t kShort = 64;         // a stretch that goes on with the sums of the one before
constexpr size_t kGroupColumns = 96;  // rows of b that are repacked at once
constexpr size_t kPartRows = 1024;    // of a, in one item of the loop, at most
constexpr size_t kFewestRows = 96;    // that are worth repacking b for
constexpr size_t kBlockTiles = 8;     // whose rows stay in the cache while all panels pass by

// [rows, columns] of v from `row`, `column` on, as f32 with `ld` numbers from row to row.
void pack(const MatrixView& v, size_t row, size_t column, size_t rows, size_t columns, float* to,
          size_t ld) {
  matmul_kernels().pack[static_cast<size_t>(v.type)](v.at(row, column), v.row_stride,
                                                     v.column_stride, rows, columns, to, ld);
}

// Each thread keeps its own for the next product.
struct Scratch {
  Floats panels, rows, sums;
};
thread_local Scratch scratch;

// Rows at multiples of a page would compete for the same lines of the cache.
bool in_place(const MatrixView& a) {
  return a.type == FloatType::f32 && a.column_stride == 1 && a.row_stride > 0 &&
         a.row_stride % 1024 != 0;
}

// A product whose rows of a can be read where they lie, or were repacked once for all columns of y,
// or, where that would take much memory, are for each piece of the work.
struct Prepared : MatrixProduct {
  Floats room;

  // `uses`: how many times the rows will be read.
  Prepared(const MatrixProduct& p, size_t m, size_t uses) : MatrixProduct(p) {
    constexpr size_t kMost = size_t{16} << 20;  // numbers
    const size_t ld = row_distance(k);
    if (in_place(a) || uses < 2 || m * ld > kMost) return;
    float* to = room.reserve(m * ld);
    constexpr size_t kRows = 16;
    parallel_for(m, kRows, [&](size_t begin, size_t end) {
      pack(p.a, begin, 0, end - begin, k, to + begin * ld, ld);
    });
    a = {to, FloatType::f32, static_cast<ptrdiff_t>(ld), 1};
  }
};

// Some rows of a, for one stretch of k.
struct Lines {
  const float* data;
  size_t ld;

  Lines(const MatrixView& a, size_t row, size_t rows, size_t begin, size_t k) {
    if (in_place(a)) {
      data = static_cast<const float*>(a.at(row, begin));
      ld = static_cast<size_t>(a.row_stride);
    } else {
      ld = row_distance(k);
      float* to = scratch.rows.reserve(rows * ld);
      pack(a, row, begin, rows, k, to, ld);
      data = to;
    }
  }
};

struct Job {
  const std::vector<MatrixProduct>& products;
  const float* bias;
  std::byte* y;
  FloatType y_type;
  size_t m, n, ldy;

  const ConvKernels& kernels = conv_kernels();
  const bool narrow = n <= kernels.columns / 2;
  const size_t tile_rows = narrow ? kernels.narrow_rows : kernels.rows;
  const size_t tile_columns = narrow ? kernels.columns / 2 : kernels.columns;

  void run() const {
    const size_t group = std::max<size_t>(1, kGroupColumns / tile_columns) * tile_columns;
    const size_t groups = ceil_div(n, group);
    // As many parts of a as leave enough items for the threads; no sum is split.
    const size_t items = 4 * static_cast<size_t>(num_threads());
    const size_t parts =
        std::max(ceil_div(m, kPartRows),
                 std::min(std::max<size_t>(1, m / kFewestRows), ceil_div(items, groups)));
    std::vector<Prepared> prepared;
    for (const MatrixProduct& p : products) prepared.emplace_back(p, m, groups);
    parallel_for(groups * parts, 1, [&](size_t item, size_t) {
      const size_t part = item % parts, first = part * m / parts, column = item / parts * group;
      block(prepared, first, (part + 1) * m / parts - first, column, std::min(group, n - column));
    });
  }

  // These rows and columns of y, which themselves serve for the sums where nothing is left to do.
  void block(const std::vector<Prepared>& prepared, size_t first, size_t rows, size_t column,
             size_t columns) const {
    const size_t tiles = ceil_div(rows, tile_rows), panels = ceil_div(columns, tile_columns);
    // Tiles of nearly equal height: none of one row beside full ones.
    const auto begin_of = [&](size_t t) { return t * rows / tiles; };
    std::byte* to = y + (first * ldy + column) * size_of(y_type);
    const bool finished = y_type == FloatType::f32 && !bias && columns % tile_columns == 0;
    const size_t ld = finished ? ldy : panels * tile_columns;
    float* sums = finished ? reinterpret_cast<float*>(to) : scratch.sums.reserve(rows * ld);
    bool is_first = true;
    for (const Prepared& p : prepared) {
      const size_t stretches = ceil_div(p.k, kStretch);
      for (size_t s = 0; s < stretches; ++s) {
        const size_t begin = s * p.k / stretches, k = (s + 1) * p.k / stretches - begin;
        float* packed = scratch.panels.reserve(panels * tile_columns * k);
        pack_panels(p.b, column, columns, begin, k, packed);
        for (size_t t = 0; t < tiles; t += kBlockTiles) {
          const size_t end = std::min(tiles, t + kBlockTiles), r = begin_of(t);
          const Lines a(p.a, first + r, begin_of(end) - r, begin, k);
          for (size_t q = 0; q < panels; ++q)
            for (size_t i = t; i < end; ++i)
              multiply(a.data + (begin_of(i) - r) * a.ld, a.ld, begin_of(i + 1) - begin_of(i), k,
                       packed + q * tile_columns * k, sums + begin_of(i) * ld + q * tile_columns,
                       ld, is_first);
        }
        is_first = false;
      }
    }
    if (is_first)  // there was nothing to sum
      for (size_t r = 0; r < rows; ++r) std::fill_n(sums + r * ld, columns, 0.0f);
    if (finished) return;
    for (size_t r = 0; r < rows; ++r)
      kernels.finish[static_cast<size_t>(y_type)](sums + r * ld, bias ? bias + column : nullptr,
                                                  nullptr, to + r * ldy * size_of(y_type), columns);
  }

  // Some rows of b to panels [k][tile_columns]; columns without a row are zero. Read along b's
  // lines of memory: all of k for one panel, or a few lines for all panels.
  void pack_panels(const MatrixView& b, size_t column, size_t columns, size_t begin, size_t k,
                   float* to) const {
    const size_t most = b.column_stride == 1 ? k : 16;
    for (size_t i = 0; i < k; i += most)
      for (size_t c = 0; c < columns; c += tile_columns) {
        const size_t lines = std::min(most, k - i), used = std::min(tile_columns, columns - c);
        float* panel = to + c * k + i * tile_columns;
        if (used < tile_columns) std::fill_n(panel, lines * tile_columns, 0.0f);
        pack(transposed(b), begin + i, column + c, lines, used, panel, tile_columns);
      }
  }

  // A tile of one stretch: to the sums, or added to those that are there.
  void multiply(const float* a, size_t ld, size_t rows, size_t k, const float* panel, float* sums,
                size_t ldc, bool is_first) const {
    const float* lines[kMostConvRows];
    for (size_t i = 0; i < rows; ++i) lines[i] = a + i * ld;
    const auto multiply = narrow ? kernels.multiply_narrow : kernels.multiply;
    if (is_first || k < kShort) return multiply(lines, rows, 1, k, panel, sums, ldc, !is_first);
    alignas(64) float room[kMostConvRows * kMostConvColumns];
    multiply(lines, rows, 1, k, panel, room, tile_columns, false);
    for (size_t i = 0; i < rows; ++i)
      for (size_t j = 0; j < tile_columns; ++j) sums[i * ldc + j] += room[i * tile_columns + j];
  }
};

}  // namespace

void sum_of_products_run(const std::vector<MatrixProduct>& products, const float* bias, void* y,
                         FloatType y_type, size_t m, size_t n, size_t ldy) {
  if (m == 0 || n == 0) return;
  Job{products, bias, static_cast<std::byte*>(y), y_type, m, n, ldy}.run();
}

}  // namespace mlxcpp::kernels
