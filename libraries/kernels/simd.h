#pragma once

// Vectors of f32 for the instruction set that this file is compiled for, with one interface:
// kFloatLanes lanes; bf16 and f16 are converted when loaded and (to nearest even) when stored.
// For kernel files only (see CMakeLists.txt). The anonymous namespaces keep each file's copy to
// itself: the same names mean other machine code in the next file.

#include <cstddef>
#include <cstdint>

#include "kernels/float_type.h"

#if defined(__AVX512F__)
#include "kernels/simd_avx512.h"
#elif defined(__AVX2__)
#include "kernels/simd_avx2.h"
#else
#include "kernels/simd_generic.h"
#endif

namespace mlxcpp::kernels {
namespace {

inline Vec operator-(Vec a) { return zero() - a; }

// f(i, n) for each vector of [0, size): n is kFloatLanes but for the last, which may be shorter.
template <class F>
inline void for_vectors(size_t size, F f) {
  size_t i = 0;
  for (; i + kFloatLanes <= size; i += kFloatLanes) f(i, size_t{kFloatLanes});
  if (i < size) f(i, size - i);
}

// Whole vectors take the path without a mask.
template <class T>
inline Vec load_up_to(const T* p, size_t n) {
  return n == kFloatLanes ? load(p) : load_n(p, n);
}
template <class T>
inline void store_up_to(T* p, Vec v, size_t n) {
  if (n == kFloatLanes)
    store(p, v);
  else
    store_n(p, v, n);
}

}  // namespace
}  // namespace mlxcpp::kernels
