#include "optimizers/gradients.h"

#include "optimizers/optimizer.h"

namespace mlxcpp::optimizers {

std::pair<nn::Weights, mx::array> clip_grad_norm(const nn::Weights& gradients, double max_norm) {
  if (!(max_norm >= 0)) throw Error("clip_grad_norm: max_norm must be >= 0, found {}", max_norm);
  auto squares = mx::array(0.0f);
  for (const auto& [path, g] : gradients) {
    // The squares of halves overflow in halves.
    const auto x = g.dtype() == mx::float16 ? mx::astype(g, mx::float32) : g;
    squares = squares + mx::sum(mx::square(x));
  }
  const auto norm = mx::sqrt(squares);
  const auto factor =
      mx::minimum(scalar(max_norm, norm) / (norm + scalar(1e-6, norm)), scalar(1, norm));
  nn::Weights clipped;
  for (const auto& [path, g] : gradients) clipped.emplace(path, mx::astype(g * factor, g.dtype()));
  return {std::move(clipped), norm};
}

void GradientAccumulator::add(const nn::Weights& gradients) {
  ++count_;
  if (sum_.empty()) {
    sum_ = gradients;
    return;
  }
  for (const auto& [path, g] : gradients) {
    const auto it = sum_.find(path);
    if (it == sum_.end()) throw Error("gradients: '{}' was not there before", path);
    it->second = it->second + g;
  }
}

nn::Weights GradientAccumulator::take() {
  nn::Weights out = std::move(sum_);
  if (count_ > 1)
    for (auto& [path, g] : out) g = g / scalar(count_, g);
  sum_.clear();
  count_ = 0;
  return out;
}

void GradientAccumulator::restore(nn::Weights sum, int count) {
  sum_ = std::move(sum);
  count_ = count;
}

}  // namespace mlxcpp::optimizers
