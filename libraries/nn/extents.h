#pragma once

#include <array>
#include <string>
#include <vector>

#include <fmt/ranges.h>

namespace mlxcpp::nn {

// One number for each of N spatial axes, or the same for all.
template <int N>
struct Extents {
  Extents(int same) { values.fill(same); }  // NOLINT: implicit, so that 3 means 3x3
  Extents(const std::array<int, N>& each) : values(each) {}  // NOLINT

  std::vector<int> vector() const { return {values.begin(), values.end()}; }
  std::string text() const {
    return N == 1 ? std::to_string(values[0]) : fmt::format("({})", fmt::join(values, ", "));
  }

  std::array<int, N> values;
};

}  // namespace mlxcpp::nn
