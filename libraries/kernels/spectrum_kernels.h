#pragma once

#include <cstddef>

namespace mlxcpp::kernels {

// Discrete Fourier transforms of kSpectrumLanes signals side by side; loops that know nothing of
// sound, one table for each instruction set.
inline constexpr size_t kSpectrumLanes = 8;

// Factors and roots of unity of a transform of length n, made by SpectrumPlan (spectrum.h).
struct SpectrumTables {
  const int* factors;  // 2, 3, 4 or 5, whose product is n
  int stages;
  int n;
  const float* cosine;  // of 2 pi i / n, i < n
  const float* sine;
};

struct SpectrumKernels {
  // re and im [n][kSpectrumLanes]: transformed, in order; work is twice as large.
  void (*transform)(const SpectrumTables& tables, float* re, float* im, float* work);
  // Bins [0, bins): out = re^2 + im^2, or its root.
  void (*power)(const float* re, const float* im, size_t bins, bool root, float* out);
  // out = sum of weights[i] * spectrum[i], i < n, for each lane.
  void (*filter)(const float* spectrum, const float* weights, size_t n, float* out);
};

extern const SpectrumKernels kSpectrumKernelsGeneric, kSpectrumKernelsAvx2, kSpectrumKernelsAvx512;

// Those of isa().
const SpectrumKernels& spectrum_kernels();

}  // namespace mlxcpp::kernels
