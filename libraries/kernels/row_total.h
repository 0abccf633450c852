#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/row_kernels.h"

namespace mlxcpp::kernels {

// Rows longer than this are summed in pieces. Part of the results' definition: it must not depend
// on the number of threads.
inline constexpr size_t kRowPiece = 16384;

// What a row, or a piece of it, adds up to: sum = sum of exp(x - largest).
struct RowTotal {
  float largest = -INFINITY;
  double sum = 0;

  void add(float other_largest, double other_sum) {
    if (other_largest == -INFINITY && !std::isnan(other_sum)) return;  // nothing in it
    const float both = std::max(largest, other_largest);
    const double kept = sum == 0 ? 0 : sum * std::exp(static_cast<double>(largest) - both);
    sum = kept + other_sum * std::exp(static_cast<double>(other_largest) - both);
    largest = both;
  }
};

}  // namespace mlxcpp::kernels
