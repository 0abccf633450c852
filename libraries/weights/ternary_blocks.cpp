#include "weights/ternary_blocks.h"

#include <array>
#include <cstring>

#include <mlx/allocator.h>

#include "core/error.h"
#include "kernels/thread_pool.h"

namespace mlxcpp {
namespace {

constexpr int kBlock = kTernaryBlockWeights, kGroup = 128, kGroups = kBlock / kGroup;
using Codes = std::array<uint8_t, kBlock>;  // values plus one

// Fields as in ggml-common.h. qs[64], d.
void unpack_tq2(const uint8_t* qs, Codes& out) {
  for (int i = 0; i < kBlock; ++i) out[i] = qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}

// qs[48], qh[4], d. A byte is a fraction of 256 in base 3, rounded up: times 3, what passes 256 is
// its next digit. Digits of the same place lie side by side: 5 of 32 bytes, 5 of 16, 4 of 4.
void unpack_tq1(const uint8_t* qs, Codes& out) {
  uint8_t* to = out.data();
  const auto digits = [&](int bytes, int places) {
    for (int place = 0, power = 1; place < places; ++place, power *= 3)
      for (int i = 0; i < bytes; ++i)
        *to++ = static_cast<uint8_t>(static_cast<uint8_t>(qs[i] * power) * 3 >> 8);
    qs += bytes;
  };
  digits(32, 5);
  digits(16, 5);
  digits(4, 4);
}

float f16_at(const uint8_t* p) {
  mx::float16_t h;
  std::memcpy(&h, p, sizeof h);
  return static_cast<float>(h);
}

mx::array room(const mx::Shape& shape, mx::Dtype dtype) {
  size_t n = mx::size_of(dtype);
  for (const int d : shape) n *= d;
  return mx::array(mx::allocator::malloc(n), shape, dtype);
}

}  // namespace

size_t block_bytes(TernaryBlocks kind) { return kind == TernaryBlocks::tq1_0 ? 54 : 66; }

kernels::QuantizedMatrix repack(TernaryBlocks kind, std::span<const std::byte> blocks,
                                mx::Shape shape) {
  const size_t size = block_bytes(kind), count = blocks.size() / size;
  size_t weights = 1;
  for (const int d : shape) weights *= d;
  if (shape.empty() || shape.back() % kBlock != 0 || weights != count * kBlock)
    throw Error("ternary blocks: {} bytes are no [{}]", blocks.size(), fmt::join(shape, ", "));
  const int cols = shape.back();
  shape.back() = cols / 16;
  mx::array words = room(shape, mx::uint32);
  shape.back() = cols / kGroup;
  mx::array scales = room(shape, mx::float32), biases = room(shape, mx::float32);
  kernels::parallel_for(
      count, 1024,
      [&, from = reinterpret_cast<const uint8_t*>(blocks.data()), w = words.data<uint32_t>(),
       s = scales.data<float>(), b = biases.data<float>()](size_t begin, size_t end) {
        Codes codes;
        for (size_t i = begin; i < end; ++i) {
          const uint8_t* block = from + i * size;
          kind == TernaryBlocks::tq1_0 ? unpack_tq1(block, codes) : unpack_tq2(block, codes);
          for (int word = 0; word < kBlock / 16; ++word) {
            uint32_t bits = 0;  // the first of sixteen is lowest
            for (int j = 0; j < 16; ++j) bits |= uint32_t{codes[word * 16 + j]} << (2 * j);
            w[i * (kBlock / 16) + word] = bits;
          }
          const float d = f16_at(block + size - 2);
          for (size_t g = i * kGroups; g < (i + 1) * kGroups; ++g) {
            s[g] = d;
            b[g] = -d;
          }
        }
      });
  return {kernels::quant_type(kernels::QuantMode::affine, kGroup, 2), words, scales, biases};
}

}  // namespace mlxcpp
