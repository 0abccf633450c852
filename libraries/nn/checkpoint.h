// Gradient checkpointing (arXiv 1604.06174): what a layer computes inside is not kept for the
// backward pass but computed again.
#pragma once

#include <cstdint>
#include <functional>

#include <mlx/mlx.h>

namespace mlxcpp::nn {

class Module;

namespace mx = mlx::core;

// While it stands, elements of Children that are called through Children::call with one array, and
// give one, are checkpointed. For this thread. Random numbers within a layer (dropout) are drawn
// again when it is computed again: each layer's begin with a seed of its own that follows from
// `seed`.
class CheckpointScope {
 public:
  explicit CheckpointScope(bool on, uint64_t seed = 0);
  ~CheckpointScope();
  CheckpointScope(const CheckpointScope&) = delete;
  CheckpointScope& operator=(const CheckpointScope&) = delete;

  int layers() const;  // that were checkpointed since it began

 private:
  bool before_;
  int count_before_;
  uint64_t seed_before_;
};

namespace detail {
bool checkpointing();
// run(x), whose insides are forgotten. The module's trainable parameters get their gradients.
mx::array checkpointed(const Module& m, const std::function<mx::array(const mx::array&)>& run,
                       const mx::array& x);
}  // namespace detail

}  // namespace mlxcpp::nn
