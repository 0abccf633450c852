#pragma once

#include <random>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "training/dataset.h"

namespace mlxcpp::training {

namespace mx = mlx::core;

// Permutations as numpy.random.RandomState draws them (numpy/random/mtrand.pyx: seed, shuffle), so
// that a run sees the data in mlx_lm's order. One thread at a time.
class DataOrder {
 public:
  explicit DataOrder(uint32_t seed) : engine_(seed) {}
  std::vector<int> permutation(int n);

  std::string state() const;
  void set_state(const std::string& state);  // Error when it is none

 private:
  std::mt19937 engine_;
};

// Examples of one step, padded with 0 to a multiple of 32 tokens and one, but not beyond the
// longest that is allowed.
struct Batch {
  mx::array inputs;   // int32 [B, L]
  mx::array targets;  // int32 [T], those with a loss
  mx::array rows;     // int32 [T], where they stand among the B * L outputs
  int tokens = 0;     // T
  int cut = 0;        // examples that were longer than allowed
};
// Which tokens have a loss is mlx_lm's rule (tuner/trainer.py, default_loss): those after the
// prompt, and where a sequence is padded, the first token of the padding.
Batch make_batch(const std::vector<Example>& examples, const std::vector<int>& which,
                 int max_seq_length);

// Neighbours in the file make a batch; a rest that fills none is left out, as in mlx_lm. Error when
// there are fewer examples than a batch has.
std::vector<std::vector<int>> batches_of(const std::vector<Example>& examples, int batch_size);

}  // namespace mlxcpp::training
