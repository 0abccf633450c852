#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include <mlx/mlx.h>
#include <mlx/primitives.h>

namespace mlxcpp::kernels {

namespace mx = mlx::core;

using Arrays = std::vector<mx::array>;
using Fallback = std::function<Arrays(const Arrays&)>;  // the same maths in plain MLX ops

// Base of our CPU kernels as MLX primitives. Gradients and vmap go through the fallback; other
// devices never get here, since the free functions that build these primitives send them to plain
// ops. (mlx::core::fast::Custom does the same, but the wheel does not export it.)
class CpuPrimitive : public mx::Primitive {
 public:
  CpuPrimitive(mx::Stream s, Fallback f) : Primitive(s), fallback_(std::move(f)) {}

  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::runtime_error(std::string(name()) + " has no GPU kernel");
  }
  Arrays vjp(const Arrays& primals, const Arrays& cotangents, const std::vector<int>& argnums,
             const Arrays&) override {
    auto grads = mx::vjp(fallback_, primals, cotangents).second;
    Arrays out;
    for (int i : argnums) out.push_back(grads[i]);
    return out;
  }

 protected:
  Fallback fallback_;
};

}  // namespace mlxcpp::kernels
