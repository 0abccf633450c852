#pragma once

#include <string_view>
#include <vector>

namespace mlxcpp::kernels {

// Instruction sets that kernels are written for, within each processor family from the least to the
// best, so that `isa() >= Isa::avx512` asks whether a kernel for it may run.
enum class Isa {
  generic,  // plain C++ for the baseline of the platform
  avx2,     // with FMA and F16C
  avx512,   // F, BW, DQ, VL and VNNI, and all of avx2
  neon,     // arm64's baseline
  dotprod,  // 8-bit dot products
  i8mm,     // 8-bit matrix products, and dotprod
};

std::string_view name(Isa isa);

// What this CPU and its operating system support, best last; generic is always there.
const std::vector<Isa>& available_isas();

// The set that kernels use: the best, or the one that MLXCPP_ISA names (an Error lists what there
// is, if it is unknown or this CPU lacks it). Read once.
Isa isa();

// Tests and benchmarks: another set from now on, in the whole process. Work already handed to
// streams must be finished first. Error if the CPU lacks it.
void set_isa(Isa isa);

}  // namespace mlxcpp::kernels
