#include "optimizers/multi_optimizer.h"

namespace mlxcpp::optimizers {
namespace {

std::string prefix(size_t i) { return "states." + std::to_string(i) + "."; }

}  // namespace

MultiOptimizer::MultiOptimizer(std::vector<std::unique_ptr<Optimizer>> optimizers,
                               std::vector<Filter> filters)
    : optimizers_(std::move(optimizers)), filters_(std::move(filters)) {
  if (optimizers_.size() != filters_.size() + 1)
    throw Error("MultiOptimizer: {} optimizers need one filter less, found {}", optimizers_.size(),
                filters_.size());
}

Weights MultiOptimizer::apply(const Weights& gradients, const Weights& parameters) {
  std::vector<Weights> parts(optimizers_.size());
  for (const auto& [path, g] : gradients) {
    size_t i = 0;
    while (i < filters_.size() && !filters_[i](path, g)) ++i;
    parts[i].emplace(path, g);
  }
  Weights out;
  for (size_t i = 0; i < parts.size(); ++i) out.merge(optimizers_[i]->apply(parts[i], parameters));
  return out;
}

Weights MultiOptimizer::state() const {
  Weights out;
  for (size_t i = 0; i < optimizers_.size(); ++i)
    for (const auto& [key, value] : optimizers_[i]->state()) out.emplace(prefix(i) + key, value);
  return out;
}

void MultiOptimizer::set_state(const Weights& state) {
  std::vector<Weights> parts(optimizers_.size());
  for (const auto& [key, value] : state) {
    size_t i = 0;
    while (i < parts.size() && !key.starts_with(prefix(i))) ++i;
    if (i == parts.size())
      throw Error("optimizer state: '{}' belongs to none of {} optimizers", key, parts.size());
    parts[i].emplace(key.substr(prefix(i).size()), value);
  }
  for (size_t i = 0; i < parts.size(); ++i) optimizers_[i]->set_state(parts[i]);
}

}  // namespace mlxcpp::optimizers
