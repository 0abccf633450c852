#include "nn/initializers.h"

#include <cmath>

#include "core/error.h"

namespace mlxcpp::nn {
namespace {

struct Fans {
  double in, out;
};

Fans fans(const mx::array& a) {
  if (a.ndim() < 2)
    throw Error("Glorot and He initialisers need at least 2 axes, found shape [{}]",
                fmt::join(a.shape(), ", "));
  double field = 1;
  for (size_t i = 1; i + 1 < a.ndim(); ++i) field *= a.shape(static_cast<int>(i));
  return {a.shape(-1) * field, a.shape(0) * field};
}

double fan_of(const mx::array& a, Fan fan) {
  const Fans f = fans(a);
  return fan == Fan::in ? f.in : f.out;
}

void need_matrix(const char* what, const mx::array& a) {
  if (a.ndim() != 2)
    throw Error("{}: expected a matrix, found shape [{}]", what, fmt::join(a.shape(), ", "));
}

mx::array normal_like(const mx::array& a, double mean, double std, mx::Dtype dtype) {
  return mx::random::normal(a.shape(), dtype, static_cast<float>(mean), static_cast<float>(std));
}

mx::array uniform_like(const mx::array& a, double low, double high, mx::Dtype dtype) {
  return mx::random::uniform(mx::array(static_cast<float>(low)),
                             mx::array(static_cast<float>(high)), a.shape(), dtype);
}

}  // namespace

Initializer constant(float value, mx::Dtype dtype) {
  return [=](const mx::array& a) { return mx::full(a.shape(), value, dtype); };
}

Initializer normal(float mean, float std, mx::Dtype dtype) {
  return [=](const mx::array& a) { return normal_like(a, mean, std, dtype); };
}

Initializer uniform(float low, float high, mx::Dtype dtype) {
  return [=](const mx::array& a) { return uniform_like(a, low, high, dtype); };
}

Initializer identity(mx::Dtype dtype) {
  return [=](const mx::array& a) {
    need_matrix("identity", a);
    if (a.shape(0) != a.shape(1))
      throw Error("identity: expected a square matrix, found shape [{}]",
                  fmt::join(a.shape(), ", "));
    return mx::eye(a.shape(0), dtype);
  };
}

Initializer glorot_normal(float gain, mx::Dtype dtype) {
  return [=](const mx::array& a) {
    const Fans f = fans(a);
    return normal_like(a, 0, gain * std::sqrt(2.0 / (f.in + f.out)), dtype);
  };
}

Initializer glorot_uniform(float gain, mx::Dtype dtype) {
  return [=](const mx::array& a) {
    const Fans f = fans(a);
    const double limit = gain * std::sqrt(6.0 / (f.in + f.out));
    return uniform_like(a, -limit, limit, dtype);
  };
}

Initializer he_normal(Fan fan, float gain, mx::Dtype dtype) {
  return [=](const mx::array& a) {
    return normal_like(a, 0, gain / std::sqrt(fan_of(a, fan)), dtype);
  };
}

Initializer he_uniform(Fan fan, float gain, mx::Dtype dtype) {
  return [=](const mx::array& a) {
    const double limit = gain * std::sqrt(3.0 / fan_of(a, fan));
    return uniform_like(a, -limit, limit, dtype);
  };
}

Initializer sparse(double sparsity, float mean, float std, mx::Dtype dtype) {
  return [=](const mx::array& a) {
    need_matrix("sparse", a);
    const int zeros = static_cast<int>(std::ceil(sparsity * a.shape(1)));
    // A column is zeroed where its random key is among the row's smallest.
    const auto order = mx::argsort(mx::random::uniform(a.shape()), 1);
    const auto values = normal_like(a, mean, std, dtype);
    const auto rank = mx::argsort(order, 1);
    return mx::where(mx::less(rank, mx::array(static_cast<uint32_t>(zeros))), mx::array(0, dtype),
                     values);
  };
}

Initializer orthogonal(float gain, mx::Dtype dtype) {
  return [=](const mx::array& a) {
    need_matrix("orthogonal", a);
    const int rows = a.shape(0), cols = a.shape(1), n = std::max(rows, cols);
    const auto [q, r] = mx::linalg::qr(mx::random::normal({n, n}), mx::Device::cpu);
    const auto whole = q * mx::sign(mx::diag(r));  // the factorisation with a positive diagonal
    return mx::astype(mx::slice(whole, {0, 0}, {rows, cols}) * mx::array(gain), dtype);
  };
}

}  // namespace mlxcpp::nn
