// Losses of mlx.nn (mlx/nn/losses.py), with their defaults. Shapes that do not fit are an Error.
#pragma once

#include <optional>

#include <mlx/mlx.h>

namespace mlxcpp::nn {

namespace mx = mlx::core;

enum class Reduction { none, mean, sum };

struct CrossEntropyOptions {
  std::optional<mx::array> weights = {};  // of the loss's shape
  int axis = -1;                          // of the classes
  float label_smoothing = 0;              // in [0, 1)
  Reduction reduction = Reduction::none;
};
// logits [..., C, ...]; targets: class indices without that axis, or probabilities of logits'
// shape. Over the last axis with indices and no smoothing one kernel computes it on a CPU
// (kernels/cross_entropy.h).
mx::array cross_entropy(const mx::array& logits, const mx::array& targets,
                        const CrossEntropyOptions& options = {});

// with_logits: inputs are logits, else probabilities, whose logarithms are kept above -100.
mx::array binary_cross_entropy(const mx::array& inputs, const mx::array& targets,
                               const std::optional<mx::array>& weights = {},
                               bool with_logits = true, Reduction reduction = Reduction::mean);

mx::array l1_loss(const mx::array& predictions, const mx::array& targets,
                  Reduction reduction = Reduction::mean);
mx::array mse_loss(const mx::array& predictions, const mx::array& targets,
                   Reduction reduction = Reduction::mean);
// inputs: logarithms of probabilities; targets: class indices.
mx::array nll_loss(const mx::array& inputs, const mx::array& targets, int axis = -1,
                   Reduction reduction = Reduction::none);
mx::array gaussian_nll_loss(const mx::array& inputs, const mx::array& targets,
                            const mx::array& variances, bool full = false, float eps = 1e-6f,
                            Reduction reduction = Reduction::mean);
// Both are logarithms of probabilities; targets first in the divergence.
mx::array kl_div_loss(const mx::array& inputs, const mx::array& targets, int axis = -1,
                      Reduction reduction = Reduction::none);
mx::array smooth_l1_loss(const mx::array& predictions, const mx::array& targets, float beta = 1,
                         Reduction reduction = Reduction::mean);
struct TripletOptions {
  int axis = -1;
  int p = 2;
  float margin = 1, eps = 1e-6f;
  Reduction reduction = Reduction::none;
};
mx::array triplet_loss(const mx::array& anchors, const mx::array& positives,
                       const mx::array& negatives, const TripletOptions& options = {});
mx::array hinge_loss(const mx::array& inputs, const mx::array& targets,
                     Reduction reduction = Reduction::none);
mx::array huber_loss(const mx::array& inputs, const mx::array& targets, float delta = 1,
                     Reduction reduction = Reduction::none);
mx::array log_cosh_loss(const mx::array& inputs, const mx::array& targets,
                        Reduction reduction = Reduction::none);
mx::array cosine_similarity_loss(const mx::array& x1, const mx::array& x2, int axis = 1,
                                 float eps = 1e-8f, Reduction reduction = Reduction::none);
mx::array margin_ranking_loss(const mx::array& inputs1, const mx::array& inputs2,
                              const mx::array& targets, float margin = 0,
                              Reduction reduction = Reduction::none);

}  // namespace mlxcpp::nn
