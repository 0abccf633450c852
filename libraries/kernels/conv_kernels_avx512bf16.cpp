// Products of bf16 pairs, for CPUs with AVX512_BF16: twice the multiplications of f32 an
// instruction, sums in f32.
#include "kernels/conv_tile-inl.h"

namespace mlxcpp::kernels {
namespace {

struct Bf16Product {
  static Vec spread(const float* p) { return set(*p); }
  static Vec add(Vec a, Vec b, Vec sum) {
    return {
        _mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
  }
};

}  // namespace

void conv_multiply_bf16_avx512(const float* const* rows, size_t m, size_t taps, size_t k,
                               const float* panel, float* c, size_t ldc, bool add) {
  conv_multiply<Bf16Product>(rows, m, taps, k, panel, c, ldc, add);
}

}  // namespace mlxcpp::kernels
