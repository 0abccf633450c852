#pragma once

// What this machine can do at most, by loops that do nothing else: what kernels are measured
// against. On the kernels' thread pool, with the instruction set that the kernels use.
namespace mlxcpp::bench {

struct MachineLimits {
  double read_bytes;  // a second, from memory, of more than the caches hold
  double f32;         // multiplications and additions in f32 a second
  double int8;        // and in int8, with sums in int32
};

// Takes about two seconds.
MachineLimits measure_limits();

}  // namespace mlxcpp::bench
