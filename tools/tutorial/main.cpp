// Scalars, arrays and automatic differentiation with MLX in C++.
#include <iostream>

#include <mlx/mlx.h>

#include "support/program.h"

namespace mx = mlx::core;

namespace {

void scalars() {
  const mx::array x(1.0f);
  std::cout << "a scalar: " << x << "\n";
  // item() evaluates the array and hands its value out; the type must be the array's own.
  std::cout << "  value " << x.item<float>() << ", dtype " << x.dtype() << ", size " << x.size()
            << ", dimensions " << x.ndim() << "\n";
}

void arrays() {
  // Row by row: the shape [2, 2] makes two rows of two.
  const mx::array x({1.0f, 2.0f, 3.0f, 4.0f}, {2, 2});
  const mx::array y = mx::ones({2, 2});
  // MLX is lazy: z is a node of a graph with a shape and a dtype, and nothing is computed yet ...
  mx::array z = mx::add(x, y);
  // ... until its value is wanted. eval() asks for it; printing and item() do so by themselves.
  z.eval();
  std::cout << "x + 1:\n" << z << "\n";
}

void differentiation() {
  const auto square = [](const mx::array& x) { return mx::square(x); };
  // grad() makes a function of a function, so it can be applied twice.
  const auto first = mx::grad(square), second = mx::grad(first);
  const mx::array x(1.5f);
  std::cout << "x^2 at 1.5: derivative " << first(x) << ", second derivative " << second(x) << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Shows scalars, arrays and automatic differentiation.", "tutorial");
  return mlxcpp::tools::run_program(app, argc, argv, [] {
    mx::set_default_device(mx::Device::cpu);
    scalars();
    arrays();
    differentiation();
    if (!std::cout.flush()) throw mlxcpp::Error("standard output: cannot be written");
    return 0;
  });
}
