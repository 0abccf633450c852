// Dropout (Srivastava et al., JMLR 2014): in training each element is zero with probability p, and
// the others are scaled by 1/(1-p); otherwise nothing happens. Random numbers come from MLX's
// generator of the thread (mx::random::seed).
#pragma once

#include "nn/module.h"

namespace mlxcpp::nn {

class Dropout : public Layer {
 public:
  explicit Dropout(float p = 0.5f) : Dropout(p, 0) {}
  mx::array operator()(const mx::array& x) const override;
  std::string settings() const override;

 protected:
  Dropout(float p, int spatial_axes);

 private:
  float p_;
  int spatial_axes_;  // before the channels: kept or dropped together
};

// Whole channels: x [N, L, C] or [L, C].
struct Dropout1d final : Dropout {
  explicit Dropout1d(float p = 0.5f) : Dropout(p, 1) {}
};
// x [N, H, W, C] or [H, W, C].
struct Dropout2d final : Dropout {
  explicit Dropout2d(float p = 0.5f) : Dropout(p, 2) {}
};
// x [N, D, H, W, C] or [D, H, W, C].
struct Dropout3d final : Dropout {
  explicit Dropout3d(float p = 0.5f) : Dropout(p, 3) {}
};

}  // namespace mlxcpp::nn
