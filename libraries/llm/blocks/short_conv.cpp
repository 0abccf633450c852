#include "llm/blocks/short_conv.h"

#include "nn/init.h"

namespace mlxcpp::llm {

CausalConv::CausalConv(int channels, int kernel_size, bool with_bias)
    : kernel_size_(kernel_size),
      weight(this, "weight", nn::detail::uniform_init(kernel_size, {channels, kernel_size, 1})),
      bias(this, "bias", nn::absent) {
  if (with_bias) bias.set(mx::zeros({channels}));
}

mx::array CausalConv::operator()(const mx::array& x, std::optional<mx::array>& state) const {
  const int B = x.shape(0), L = x.shape(1), C = x.shape(2), before = kernel_size_ - 1;
  const auto tokens = [&](const mx::array& a, int from, int count) {
    return mx::slice(a, {0, from, 0}, {B, from + count, C});
  };
  const auto all = mx::concatenate({state ? *state : mx::zeros({B, before, C}, x.dtype()), x}, 1);
  state = mx::contiguous(tokens(all, L, before));  // not a view that keeps a long prompt alive
  const auto taps = mx::astype(mx::squeeze(*weight, -1), x.dtype());  // [C, kernel_size]
  auto y = tokens(all, before, L) * mx::take(taps, before, 1);
  for (int j = 0; j < before; ++j) y = y + tokens(all, j, L) * mx::take(taps, j, 1);
  return bias ? y + *bias : y;
}

mx::array without_padding(const mx::array& x, const KVCache* cache) {
  if (!cache || std::holds_alternative<int>(cache->positions())) return x;
  auto seen = cache->mask(x.shape(1));  // [B, L]
  while (seen.ndim() < x.ndim()) seen = mx::expand_dims(seen, -1);
  return mx::where(seen, x, mx::array(0.0f, x.dtype()));
}

nn::Weights conv_layout(nn::Weights weights, std::string_view suffix) {
  for (auto& [name, w] : weights)
    if (name.ends_with(suffix) && w.ndim() == 3 && w.shape(-1) > w.shape(1))
      w = mx::contiguous(mx::swapaxes(w, 1, 2));
  return weights;
}

}  // namespace mlxcpp::llm
