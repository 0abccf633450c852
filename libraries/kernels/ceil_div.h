#pragma once

#include <cstddef>

namespace mlxcpp::kernels {

// How many parts of b hold a.
constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

}  // namespace mlxcpp::kernels
