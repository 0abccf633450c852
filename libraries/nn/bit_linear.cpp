#include "nn/bit_linear.h"

#include "kernels/ternary.h"

namespace mlxcpp::nn {
namespace {

int packed_rows(int output_dims) {
  if (output_dims % 4 != 0)
    throw Error("a ternary layer holds four rows in a byte: {} outputs are no multiple of 4",
                output_dims);
  return output_dims / 4;
}

// x as int8 would hold it, token by token; 1e-5 stands in for the magnitude of silence.
mx::array rounded_to_int8(const mx::array& x) {
  const auto peak = mx::maximum(mx::max(mx::abs(x), -1, true), mx::array(1e-5f, x.dtype()));
  const auto scale = mx::array(127.0f, x.dtype()) / peak;
  const auto q =
      mx::clip(mx::round(x * scale), mx::array(-128.0f, x.dtype()), mx::array(127.0f, x.dtype()));
  return q / scale;
}

}  // namespace

BitLinear::BitLinear(int input_dims, int output_dims, bool with_bias, const Options& options)
    : Linear(input_dims, output_dims, mx::zeros({packed_rows(output_dims), input_dims}, mx::uint8)),
      options_(options),
      weight_scale(this, "weight_scale", mx::ones({1}), Param::Kind::fixed) {
  if (with_bias) bias.set(mx::zeros({output_dims}));
}

mx::array BitLinear::scale() const {
  return options_.inverse_scale ? mx::reciprocal(*weight_scale) : *weight_scale;
}

mx::array BitLinear::operator()(const mx::array& x) const {
  const auto y = kernels::ternary_matmul(options_.quantize_activations ? rounded_to_int8(x) : x,
                                         *weight, scale());
  return bias ? y + *bias : y;
}

std::optional<kernels::TernaryPart> BitLinear::step_part() const {
  if (options_.quantize_activations) return std::nullopt;
  return kernels::TernaryPart{*weight, *weight_scale, options_.inverse_scale};
}

kernels::QuantizedMatrix BitLinear::matrix() const {
  constexpr int kInWord = 16, kGroup = 32;
  if (input_dims() % kGroup != 0)
    throw Error("a ternary layer of {} inputs has no 2-bit form: that needs a multiple of {}",
                input_dims(), kGroup);
  // Codes are values plus one, sixteen in a word, the first in its lowest bits.
  const auto codes =
      mx::astype(kernels::unpack_ternary(*weight, mx::float32) + mx::array(1.0f), mx::uint32);
  const auto words = mx::left_shift(mx::reshape(codes, {output_dims(), -1, kInWord}),
                                    mx::arange(0, 2 * kInWord, 2, mx::uint32));
  const auto scales = mx::broadcast_to(scale(), {output_dims(), input_dims() / kGroup});
  return {kernels::quant_type(kernels::QuantMode::affine, kGroup, 2),
          mx::astype(mx::sum(words, -1), mx::uint32), mx::contiguous(scales),
          mx::contiguous(mx::negative(scales))};
}

std::unique_ptr<Module> BitLinear::dequantized(mx::Dtype dtype) const {
  auto out = std::make_unique<Linear>(input_dims(), output_dims(), static_cast<bool>(bias));
  out->weight.set(mx::astype(
      kernels::unpack_ternary(*weight, mx::float32) * mx::astype(scale(), mx::float32), dtype));
  if (bias) out->bias.set(*bias);
  return out;
}

std::string BitLinear::settings() const { return Linear::settings() + ", ternary"; }

size_t BitLinear::num_own_parameters() const {
  return static_cast<size_t>(input_dims()) * output_dims() + (bias ? bias->size() : 0);
}

void make_ternary(Module& m, const std::string& path, const BitLinear::Options& options) {
  std::vector<std::pair<std::string, std::unique_ptr<Module>>> layers;
  m.for_each_module([&](const std::string& at, Module& layer) {
    if (at != path && !at.starts_with(path + ".")) return;
    if (const auto* linear = dynamic_cast<const Linear*>(&layer))
      layers.emplace_back(at,
                          std::make_unique<BitLinear>(linear->input_dims(), linear->output_dims(),
                                                      static_cast<bool>(linear->bias), options));
  });
  for (auto& [at, layer] : layers) m.replace(at, std::move(layer));
}

}  // namespace mlxcpp::nn
