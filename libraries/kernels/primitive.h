#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
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
  Arrays jvp(const Arrays& primals, const Arrays& tangents,
             const std::vector<int>& argnums) override {
    Arrays all;
    for (const mx::array& p : primals) all.push_back(mx::zeros_like(p));
    for (size_t i = 0; i < argnums.size(); ++i) all[argnums[i]] = tangents[i];
    return mx::jvp(fallback_, primals, all).second;
  }
  std::pair<Arrays, std::vector<int>> vmap(const Arrays& inputs,
                                           const std::vector<int>& axes) override {
    auto out = mx::vmap(fallback_, axes)(inputs);
    std::vector<int> out_axes(out.size(), 0);
    return {std::move(out), std::move(out_axes)};
  }

 protected:
  Fallback fallback_;
};

}  // namespace mlxcpp::kernels
