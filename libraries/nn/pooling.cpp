#include "nn/pooling.h"

#include <cmath>

#include "kernels/pool.h"

namespace mlxcpp::nn {

template <int N, Pooling P>
Pool<N, P>::Pool(Extents<N> kernel_size, std::optional<Extents<N>> stride, Extents<N> padding)
    : kernel_size_(kernel_size), stride_(stride.value_or(kernel_size)), padding_(padding) {
  for (int i = 0; i < N; ++i)
    if (kernel_size_.values[i] <= 0 || stride_.values[i] <= 0 || padding_.values[i] < 0)
      throw Error("{}: sizes and strides must be positive and padding not negative; found {}",
                  Pool::type_name(), Pool::settings());
}

template <int N, Pooling P>
mx::array Pool<N, P>::operator()(const mx::array& input) const {
  if (input.ndim() != N + 2)
    throw Error("{}: expected {} axes, found [{}]", type_name(), N + 2,
                fmt::join(input.shape(), ", "));
  const auto outside = mx::array(P == Pooling::max ? -INFINITY : 0.0f, input.dtype());
  std::vector<std::pair<int, int>> around(N + 2);
  for (int i = 0; i < N; ++i) around[i + 1] = {padding_.values[i], padding_.values[i]};
  const bool padded =
      std::any_of(padding_.values.begin(), padding_.values.end(), [](int p) { return p > 0; });
  const auto x = padded ? mx::pad(input, around, outside) : input;
  for (int i = 0; i < N; ++i)
    if (x.shape(i + 1) < kernel_size_.values[i])
      throw Error("{}: the window {} is larger than the input [{}]", type_name(),
                  kernel_size_.text(), fmt::join(x.shape(), ", "));
  if constexpr (N == 2) {
    const auto pool = P == Pooling::max ? kernels::max_pool2d : kernels::mean_pool2d;
    return pool(x, kernel_size_.values, stride_.values);
  }

  // Every window as a view: [N, positions..., window..., C], strides counted in elements of x.
  mx::Strides element(N + 2, 1);
  for (int i = N; i >= 0; --i) element[i] = element[i + 1] * x.shape(i + 1);
  mx::Shape shape{x.shape(0)};
  mx::Strides strides{element[0]};
  for (int i = 0; i < N; ++i) {
    shape.push_back((x.shape(i + 1) - kernel_size_.values[i]) / stride_.values[i] + 1);
    strides.push_back(element[i + 1] * stride_.values[i]);
  }
  std::vector<int> window_axes;
  for (int i = 0; i < N; ++i) {
    window_axes.push_back(static_cast<int>(shape.size()));
    shape.push_back(kernel_size_.values[i]);
    strides.push_back(element[i + 1]);
  }
  shape.push_back(x.shape(-1));
  strides.push_back(1);
  const auto windows = mx::as_strided(x, std::move(shape), std::move(strides), 0);
  return P == Pooling::max ? mx::max(windows, window_axes) : mx::mean(windows, window_axes);
}

template <int N, Pooling P>
std::string Pool<N, P>::type_name() const {
  return fmt::format("{}Pool{}d", P == Pooling::max ? "Max" : "Avg", N);
}

template <int N, Pooling P>
std::string Pool<N, P>::settings() const {
  return fmt::format("kernel_size={}, stride={}, padding={}", kernel_size_.text(), stride_.text(),
                     padding_.text());
}

template class Pool<1, Pooling::max>;
template class Pool<2, Pooling::max>;
template class Pool<3, Pooling::max>;
template class Pool<1, Pooling::average>;
template class Pool<2, Pooling::average>;
template class Pool<3, Pooling::average>;

}  // namespace mlxcpp::nn
