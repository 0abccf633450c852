#include "nn/bit_linear.h"

#include <mlx/allocator.h>

#include "kernels/ternary.h"
#include "kernels/thread_pool.h"
#include "nn/quantized.h"

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

namespace {

// Codes of four in a byte along the row as those of four rows.
mx::array packed_by_rows(mx::array words) {
  words = mx::contiguous(words);
  words.eval();
  const size_t rows = words.shape(0) / 4, row_bytes = 4 * static_cast<size_t>(words.shape(1));
  mx::array packed(mx::allocator::malloc(rows * row_bytes * 4),
                   {words.shape(0) / 4, 16 * words.shape(1)}, mx::uint8);
  kernels::parallel_for(rows, 16,
                        [=, from = reinterpret_cast<const uint8_t*>(words.data<uint32_t>()),
                         to = packed.data<uint8_t>()](size_t begin, size_t end) {
                          for (size_t i = begin * row_bytes; i < end * row_bytes; ++i)
                            for (size_t column = 0; column < 4; ++column) {
                              unsigned codes = 0;
                              for (size_t j = 0; j < 4; ++j)
                                codes |= (from[j * rows * row_bytes + i] >> (2 * column) & 3u)
                                         << (2 * j);
                              to[4 * i + column] = static_cast<uint8_t>(codes);
                            }
                        });
  return packed;
}

std::unique_ptr<BitLinear> ternary_twin(const QuantizedLinear& layer) {
  const auto w = layer.matrix();
  if (w.type.mode != kernels::QuantMode::affine || w.type.bits != 2 || w.rows() % 4 != 0 ||
      w.scales->dtype() != mx::float32 || w.weight.size() == 0)
    return nullptr;
  const auto scale = mx::slice(mx::flatten(*w.scales), {0}, {1});
  auto same = mx::logical_and(mx::all(mx::equal(*w.scales, scale)),
                              mx::all(mx::equal(*w.biases, mx::negative(scale))));
  if (!same.item<bool>()) return nullptr;
  auto out = std::make_unique<BitLinear>(w.cols(), w.rows(), static_cast<bool>(layer.bias),
                                         BitLinear::Options());
  out->weight.set(packed_by_rows(w.weight));
  out->weight_scale.set(mx::contiguous(scale));
  if (layer.bias) out->bias.set(*layer.bias);
  return out;
}

}  // namespace

void make_ternary_where_equal(Module& m) {
  std::vector<std::pair<std::string, std::unique_ptr<Module>>> twins;
  m.for_each_module([&](const std::string& at, Module& layer) {
    if (const auto* quantized = dynamic_cast<const QuantizedLinear*>(&layer))
      if (auto twin = ternary_twin(*quantized)) twins.emplace_back(at, std::move(twin));
  });
  for (auto& [at, twin] : twins) m.replace(at, std::move(twin));
}

}  // namespace mlxcpp::nn
