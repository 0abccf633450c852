#include "nn/conv.h"

#include <fmt/ranges.h>

#include "nn/init.h"

namespace mlxcpp::nn {
namespace {

template <int N>
mx::array init_weight(int in_channels, int out_channels, const Extents<N>& kernel, int groups) {
  int fan_in = in_channels / groups;
  mx::Shape shape{out_channels};
  for (const int k : kernel.values) {
    shape.push_back(k);
    fan_in *= k;
  }
  shape.push_back(in_channels / groups);
  return detail::uniform_init(fan_in, shape);
}

void check_sizes(const std::string& layer, int in_channels, int out_channels, int groups) {
  if (in_channels <= 0 || out_channels <= 0 || groups <= 0 || in_channels % groups != 0 ||
      out_channels % groups != 0)
    throw Error("{}: {} input and {} output channels do not divide into {} groups", layer,
                in_channels, out_channels, groups);
}

template <int N>
void check_input(const std::string& layer, const mx::array& x, int in_channels) {
  if (x.ndim() != N + 2 || x.shape(-1) != in_channels)
    throw Error("{}: expected {} axes, the last one {}; found [{}]", layer, N + 2, in_channels,
                fmt::join(x.shape(), ", "));
}

// The part of settings() that both kinds share.
template <int N, class Options>
std::string common_settings(int in_channels, const mx::array& weight, const Options& o, bool bias) {
  Extents<N> kernel = 0;
  for (int i = 0; i < N; ++i) kernel.values[i] = weight.shape(1 + i);
  return fmt::format(
      "{}, {}, kernel_size={}, stride={}, padding={}, dilation={}, groups={}, bias={}", in_channels,
      weight.shape(0), kernel.text(), o.stride.text(), o.padding.text(), o.dilation.text(),
      o.groups, bias);
}

}  // namespace

template <int N>
Conv<N>::Conv(int in_channels, int out_channels, Extents<N> kernel_size, ConvOptions<N> options)
    : in_channels_(in_channels),
      options_(options),
      weight(this, "weight",
             (check_sizes(Conv::type_name(), in_channels, out_channels, options.groups),
              init_weight(in_channels, out_channels, kernel_size, options.groups))),
      bias(this, "bias", absent) {
  if (options.bias) bias.set(mx::zeros({out_channels}));
}

template <int N>
mx::array Conv<N>::operator()(const mx::array& x) const {
  if constexpr (N == 2) {
    return with(x, {});
  } else {
    check_input<N>(type_name(), x, in_channels_);
    const auto y =
        mx::conv_general(x, *weight, options_.stride.vector(), options_.padding.vector(),
                         options_.dilation.vector(), std::vector<int>(N, 1), options_.groups);
    return bias ? y + *bias : y;
  }
}

template <int N>
mx::array Conv<N>::with(const mx::array& x, kernels::ConvAddends addends) const
  requires(N == 2)
{
  check_input<N>(type_name(), x, in_channels_);
  addends.bias = bias.optional();
  return kernels::conv2d(x, *weight,
                         {.stride = options_.stride.values,
                          .padding = options_.padding.values,
                          .dilation = options_.dilation.values,
                          .groups = options_.groups},
                         addends);
}

template <int N>
std::string Conv<N>::type_name() const {
  return fmt::format("Conv{}d", N);
}

template <int N>
std::string Conv<N>::settings() const {
  return common_settings<N>(in_channels_, *weight, options_, static_cast<bool>(bias));
}

template <int N>
ConvTranspose<N>::ConvTranspose(int in_channels, int out_channels, Extents<N> kernel_size,
                                ConvTransposeOptions<N> options)
    : in_channels_(in_channels),
      options_(options),
      weight(this, "weight",
             (check_sizes(ConvTranspose::type_name(), in_channels, out_channels, options.groups),
              init_weight(in_channels, out_channels, kernel_size, options.groups))),
      bias(this, "bias", absent) {
  if (options.bias) bias.set(mx::zeros({out_channels}));
}

template <int N>
mx::array ConvTranspose<N>::operator()(const mx::array& x) const {
  check_input<N>(type_name(), x, in_channels_);
  const auto& [stride, padding, dilation, output_padding, groups, with_bias] = options_;
  const auto y = [&] {
    if constexpr (N == 1) {
      return mx::conv_transpose1d(x, *weight, stride.values[0], padding.values[0],
                                  dilation.values[0], output_padding.values[0], groups);
    } else if constexpr (N == 2) {
      const auto pair = [](const Extents<2>& e) { return std::pair(e.values[0], e.values[1]); };
      return mx::conv_transpose2d(x, *weight, pair(stride), pair(padding), pair(dilation),
                                  pair(output_padding), groups);
    } else {
      const auto triple = [](const Extents<3>& e) { return std::tuple_cat(e.values); };
      return mx::conv_transpose3d(x, *weight, triple(stride), triple(padding), triple(dilation),
                                  triple(output_padding), groups);
    }
  }();
  return bias ? y + *bias : y;
}

template <int N>
std::string ConvTranspose<N>::type_name() const {
  return fmt::format("ConvTranspose{}d", N);
}

template <int N>
std::string ConvTranspose<N>::settings() const {
  return common_settings<N>(in_channels_, *weight, options_, static_cast<bool>(bias)) +
         fmt::format(", output_padding={}", options_.output_padding.text());
}

template class Conv<1>;
template class Conv<2>;
template class Conv<3>;
template class ConvTranspose<1>;
template class ConvTranspose<2>;
template class ConvTranspose<3>;

}  // namespace mlxcpp::nn
