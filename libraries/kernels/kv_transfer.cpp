#include "kernels/kv_transfer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/attention_mlx.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

constexpr int kNumbersPerTask = 16384;

// What one token of one head is made of.
struct Width {
  int dim;        // numbers
  size_t data;    // bytes of floats or codes
  size_t scales;  // bytes of scales, and of biases
};

Width width_of(const KvGeometry& g, const std::optional<KvQuantization>& q, bool quantized,
               int dim) {
  const size_t item = mx::size_of(g.dtype);
  if (!quantized) return {dim, dim * item, 0};
  return {dim, static_cast<size_t>(dim) * q->bits / 8, dim / q->group_size * item};
}

std::byte* writable(const std::byte* p) { return const_cast<std::byte*>(p); }

// The bytes of one row, with its scales and biases.
struct Row {
  std::byte *data, *scales, *biases;

  Row(const KvPlane& p, int b, int h, int token)
      : data(writable(p.data) + b * p.batch + h * p.head + token * p.token),
        scales(p.scales ? at(p.scales, p, b, h, token) : nullptr),
        biases(p.biases ? at(p.biases, p, b, h, token) : nullptr) {}

 private:
  static std::byte* at(const std::byte* s, const KvPlane& p, int b, int h, int token) {
    return writable(s) + b * p.scale_batch + h * p.scale_head + token * p.scale_token;
  }
};

// mx::quantize of one row: the end of the range that is larger in magnitude is met exactly.
template <class T>
void quantize_row(const std::byte* from, const Row& to, int dim, const KvQuantization& q) {
  const auto* x = reinterpret_cast<const T*>(from);
  auto* scales = reinterpret_cast<T*>(to.scales);
  auto* biases = reinterpret_cast<T*>(to.biases);
  auto* codes = reinterpret_cast<uint8_t*>(to.data);
  const float bins = static_cast<float>((1 << q.bits) - 1);
  uint8_t unpacked[128];
  for (int g = 0; g < dim / q.group_size; ++g, x += q.group_size) {
    float low = std::numeric_limits<float>::infinity(), high = -low;
    for (int i = 0; i < q.group_size; ++i) {
      high = std::max(high, static_cast<float>(x[i]));
      low = std::min(low, static_cast<float>(x[i]));
    }
    const bool low_is_larger = std::abs(low) > std::abs(high);
    float scale = std::max((high - low) / bins, 1e-7f);
    if (!low_is_larger) scale = -scale;
    const float edge = low_is_larger ? low : high;
    const float steps = std::rint(edge / scale);
    float bias = 0.0f;
    if (steps != 0.0f) {
      scale = edge / steps;
      bias = edge;
    }
    for (int i = 0; i < q.group_size; ++i) {
      const float code = std::rint((static_cast<float>(x[i]) - bias) / scale);
      unpacked[i] = static_cast<uint8_t>(std::min(std::max(code, 0.0f), bins));
    }
    if (q.bits == 8) {
      std::memcpy(codes, unpacked, q.group_size);
      codes += q.group_size;
    } else {
      for (int i = 0; i < q.group_size; i += 2)
        *codes++ = static_cast<uint8_t>(unpacked[i] | unpacked[i + 1] << 4);
    }
    scales[g] = static_cast<T>(scale);
    biases[g] = static_cast<T>(bias);
  }
}

template <class T>
void dequantize_row(const Row& from, std::byte* to, int dim, const KvQuantization& q) {
  const auto* codes = reinterpret_cast<const uint8_t*>(from.data);
  const auto* scales = reinterpret_cast<const T*>(from.scales);
  const auto* biases = reinterpret_cast<const T*>(from.biases);
  auto* y = reinterpret_cast<T*>(to);
  for (int i = 0; i < dim; ++i) {
    const int code = q.bits == 8 ? codes[i] : codes[i / 2] >> (i % 2 * 4) & 15;
    const int g = i / q.group_size;
    y[i] = static_cast<T>(static_cast<float>(scales[g]) * static_cast<float>(code) +
                          static_cast<float>(biases[g]));
  }
}

// f(T{}) for the C++ type of a float dtype.
template <class F>
void with_float(mx::Dtype dtype, F&& f) {
  if (dtype == mx::float32)
    f(float{});
  else if (dtype == mx::bfloat16)
    f(mx::bfloat16_t{});
  else
    f(mx::float16_t{});
}

void transfer_plane(const KvGeometry& g, const std::optional<KvQuantization>& q,
                    const KvPlane& from, bool from_quantized, const KvPlane& to, bool to_quantized,
                    int dim, const std::vector<KvCopy>& copies) {
  const bool encode = to_quantized && !from_quantized;
  const Width w = width_of(g, q, to_quantized, dim);
  const int heads = g.batch * g.heads;
  for (const KvCopy& c : copies) {
    const size_t rows = static_cast<size_t>(heads) * c.count;
    parallel_for(rows, std::max(1, kNumbersPerTask / std::max(1, dim)), [&](size_t i, size_t end) {
      for (; i < end; ++i) {
        const int head = static_cast<int>(i / c.count), n = static_cast<int>(i % c.count);
        const Row source(from, head / g.heads, head % g.heads, c.from + n);
        const Row target(to, head / g.heads, head % g.heads, c.to + n);
        if (encode) {
          with_float(g.dtype, [&]<class T>(T) { quantize_row<T>(source.data, target, dim, *q); });
          continue;
        }
        std::memcpy(target.data, source.data, w.data);
        if (w.scales > 0) {
          std::memcpy(target.scales, source.scales, w.scales);
          std::memcpy(target.biases, source.biases, w.scales);
        }
      }
    });
  }
}

void read_plane(const KvGeometry& g, const std::optional<KvQuantization>& q, const KvPlane& main,
                const KvPlane& tail, const std::vector<KvRun>& runs, int dim, std::byte* out) {
  const size_t row_bytes = dim * mx::size_of(g.dtype);
  int count = 0;
  for (const KvRun& r : runs) count += r.count;
  parallel_for(static_cast<size_t>(g.batch) * g.heads, 1, [&](size_t head, size_t end) {
    for (; head < end; ++head) {
      std::byte* y = out + head * count * row_bytes;
      for (const KvRun& r : runs)
        for (int n = 0; n < r.count; ++n, y += row_bytes) {
          const Row row(r.tail ? tail : main, static_cast<int>(head) / g.heads,
                        static_cast<int>(head) % g.heads, r.begin + n);
          if (q)
            with_float(g.dtype, [&]<class T>(T) { dequantize_row<T>(row, y, dim, *q); });
          else
            std::memcpy(y, row.data, row_bytes);
        }
    }
  });
}

}  // namespace

KvMemory memory_of(const KvBuffer& buffer) {
  KvMemory m;
  m.quantized = buffer.quantized();
  const auto fill = [&](KvPlane& p, size_t i) {
    p = plane_of(buffer.planes[i]);
    if (!m.quantized) return;
    const auto scales = plane_of(buffer.planes[i + 1]);
    p.scales = scales.data;
    p.biases = buffer.planes[i + 2].data<std::byte>();
    p.scale_batch = scales.batch;
    p.scale_head = scales.head;
    p.scale_token = scales.token;
  };
  fill(m.k, 0);
  fill(m.v, m.quantized ? 3 : 1);
  return m;
}

void transfer(const KvGeometry& g, const std::optional<KvQuantization>& q, const KvMemory& from,
              const KvMemory& to, const std::vector<KvCopy>& copies) {
  transfer_plane(g, q, from.k, from.quantized, to.k, to.quantized, g.dim, copies);
  transfer_plane(g, q, from.v, from.quantized, to.v, to.quantized, g.value_dim, copies);
}

void read_floats(const KvGeometry& g, const std::optional<KvQuantization>& q, const KvMemory& main,
                 const KvMemory& tail, const std::vector<KvRun>& runs, std::byte* keys,
                 std::byte* values) {
  read_plane(g, q, main.k, tail.k, runs, g.dim, keys);
  read_plane(g, q, main.v, tail.v, runs, g.value_dim, values);
}

}  // namespace mlxcpp::kernels
