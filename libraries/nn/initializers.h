// Initialisers of mlx.nn.init (mlx/nn/init.py): functions that take an array for its shape alone.
// Random numbers come from MLX's generator of the thread (mx::random::seed).
#pragma once

#include <functional>

#include <mlx/mlx.h>

namespace mlxcpp::nn {

namespace mx = mlx::core;

using Initializer = std::function<mx::array(const mx::array& like)>;
enum class Fan { in, out };

Initializer constant(float value, mx::Dtype dtype = mx::float32);
Initializer normal(float mean = 0, float std = 1, mx::Dtype dtype = mx::float32);
Initializer uniform(float low = 0, float high = 1, mx::Dtype dtype = mx::float32);
Initializer identity(mx::Dtype dtype = mx::float32);  // square matrices only

// Glorot and Bengio, AISTATS 2010; He et al., arXiv 1502.01852. At least two axes: [out, ..., in].
Initializer glorot_normal(float gain = 1, mx::Dtype dtype = mx::float32);
Initializer glorot_uniform(float gain = 1, mx::Dtype dtype = mx::float32);
Initializer he_normal(Fan fan = Fan::in, float gain = 1, mx::Dtype dtype = mx::float32);
Initializer he_uniform(Fan fan = Fan::in, float gain = 1, mx::Dtype dtype = mx::float32);

// Matrices: normal numbers, of which this part of each row (rounded up) is zero.
Initializer sparse(double sparsity, float mean = 0, float std = 1, mx::Dtype dtype = mx::float32);
// Matrices with orthonormal rows or columns, times gain.
Initializer orthogonal(float gain = 1, mx::Dtype dtype = mx::float32);

}  // namespace mlxcpp::nn
