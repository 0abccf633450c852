#include "nn/embedding.h"

#include <cmath>

#include "kernels/linear.h"

namespace mlxcpp::nn {

Embedding::Embedding(int count, int dims)
    : count_(count),
      dims_(dims),
      weight(this, "weight",
             mx::random::normal({count, dims}, mx::float32, 0.0f,
                                std::sqrt(1.0f / static_cast<float>(dims)))) {}

Embedding::Embedding(int count, int dims, std::optional<mx::array> stored_weight)
    : count_(count),
      dims_(dims),
      weight(this, "weight", std::move(stored_weight), Param::Kind::fixed) {}

mx::array Embedding::operator()(const mx::array& ids) const { return mx::take(*weight, ids, 0); }

mx::array Embedding::as_linear(const mx::array& x) const { return kernels::linear(x, *weight); }

std::string Embedding::settings() const { return fmt::format("{}, {}", count_, dims_); }

}  // namespace mlxcpp::nn
