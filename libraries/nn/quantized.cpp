#include "nn/quantized.h"

#include "kernels/norm_fused.h"

namespace mlxcpp::nn {
namespace {

using kernels::QuantizedMatrix;
using kernels::QuantMode;
using kernels::QuantType;

// Replaces every Quantizable layer that is picked by what `make` makes of it.
void replace_layers(
    Module& m, const QuantPredicate& which,
    const std::function<std::unique_ptr<Module>(const Quantizable&, const QuantType&)>& make) {
  std::vector<std::pair<std::string, std::unique_ptr<Module>>> twins;
  m.for_each_module([&](const std::string& path, Module& layer) {
    const auto* fits = dynamic_cast<const Quantizable*>(&layer);
    if (!fits || dynamic_cast<const QuantizedLayer*>(&layer)) return;
    const auto type = which(path, layer);
    if (!type) return;
    try {
      twins.emplace_back(path, make(*fits, *type));
    } catch (const Error& e) {
      throw Error("{}: {}", path, e.what());
    }
  });
  for (auto& [path, twin] : twins) m.replace(path, std::move(twin));
}

}  // namespace

QuantizedMatrix detail::empty_matrix(const QuantType& type, mx::Shape shape) {
  const int cols = shape.back();
  const auto with_last = [&](size_t last, mx::Dtype dtype) {
    shape.back() = static_cast<int>(last);
    return mx::zeros(shape, dtype);
  };
  const size_t bytes = kernels::row_bytes(type, cols);  // throws unless whole groups
  if (type.is_gguf()) return {type, with_last(bytes, mx::uint8), std::nullopt, std::nullopt};
  kernels::quant_type(type.mode, type.group_size, type.bits);  // throws unless MLX has it
  const size_t groups = static_cast<size_t>(cols) / type.group_size;
  const bool affine = type.mode == QuantMode::affine;
  const auto scales = with_last(groups, affine ? mx::float32 : mx::uint8);
  return {type, with_last(bytes / 4, mx::uint32), scales,
          affine ? std::optional(scales) : std::nullopt};
}

std::string detail::quant_settings(const QuantType& type) {
  return fmt::format("group_size={}, bits={}, mode={}", type.group_size, type.bits,
                     kernels::name(type.mode));
}

void quantize(Module& m, const QuantPredicate& which) {
  replace_layers(m, which,
                 [](const Quantizable& l, const QuantType& t) { return l.quantized_twin(t); });
}

void quantize_weights(Module& m, const QuantPredicate& which) {
  replace_layers(m, which, [](const Quantizable& l, const QuantType& t) { return l.quantized(t); });
}

void quantize_weights(Module& m, const QuantType& type) {
  quantize_weights(m, [&](const std::string&, const Module&) { return std::optional(type); });
}

void dequantize_weights(Module& m, mx::Dtype dtype) {
  std::vector<std::pair<std::string, std::unique_ptr<Module>>> layers;
  m.for_each_module([&](const std::string& path, Module& layer) {
    if (const auto* q = dynamic_cast<const QuantizedLayer*>(&layer))
      layers.emplace_back(path, q->dequantized(dtype));
  });
  for (auto& [path, layer] : layers) m.replace(path, std::move(layer));
}

// ---- Linear

std::unique_ptr<Module> Linear::quantized_twin(const QuantType& type) const {
  return std::make_unique<QuantizedLinear>(input_dims_, output_dims_, type,
                                           static_cast<bool>(bias));
}

std::unique_ptr<Module> Linear::quantized(const QuantType& type) const {
  return std::make_unique<QuantizedLinear>(kernels::quantize(*weight, type), bias.optional());
}

QuantizedLinear::QuantizedLinear(int input_dims, int output_dims, const QuantType& type,
                                 bool with_bias)
    : QuantizedLinear(detail::empty_matrix(type, {output_dims, input_dims}),
                      with_bias ? std::optional(mx::zeros({output_dims})) : std::nullopt) {}

QuantizedLinear::QuantizedLinear(QuantizedMatrix matrix, std::optional<mx::array> bias_values)
    : Linear(matrix.cols(), matrix.rows(), matrix.weight),
      type_(matrix.type),
      scales(this, "scales", absent, Param::Kind::fixed),
      biases(this, "biases", absent, Param::Kind::fixed) {
  if (bias_values) bias.set(std::move(*bias_values));
  if (matrix.scales) scales.set(*matrix.scales);
  if (matrix.biases) biases.set(*matrix.biases);
}

mx::array QuantizedLinear::operator()(const mx::array& x) const {
  auto y = kernels::quantized_matmul(x, matrix());
  return bias ? kernels::add_bias(y, *bias) : y;
}

QuantizedMatrix QuantizedLinear::matrix() const {
  return {type_, *weight, scales.optional(), biases.optional()};
}

std::unique_ptr<Module> QuantizedLinear::dequantized(mx::Dtype dtype) const {
  auto out = std::make_unique<Linear>(input_dims(), output_dims(), static_cast<bool>(bias));
  out->weight.set(kernels::dequantize(matrix(), dtype));
  if (bias) out->bias.set(*bias);
  return out;
}

std::string QuantizedLinear::settings() const {
  return Linear::settings() + ", " + detail::quant_settings(type_);
}

size_t QuantizedLinear::num_own_parameters() const {
  return static_cast<size_t>(input_dims()) * output_dims() + (bias ? bias->size() : 0);
}

// ---- Embedding

std::unique_ptr<Module> Embedding::quantized_twin(const QuantType& type) const {
  return std::make_unique<QuantizedEmbedding>(count_, dims_, type);
}

std::unique_ptr<Module> Embedding::quantized(const QuantType& type) const {
  return std::make_unique<QuantizedEmbedding>(kernels::quantize(*weight, type));
}

QuantizedEmbedding::QuantizedEmbedding(int count, int dims, const QuantType& type)
    : QuantizedEmbedding(detail::empty_matrix(type, {count, dims})) {}

QuantizedEmbedding::QuantizedEmbedding(QuantizedMatrix matrix)
    : Embedding(matrix.rows(), matrix.cols(), matrix.weight),
      type_(matrix.type),
      scales(this, "scales", absent, Param::Kind::fixed),
      biases(this, "biases", absent, Param::Kind::fixed) {
  if (matrix.scales) scales.set(*matrix.scales);
  if (matrix.biases) biases.set(*matrix.biases);
}

mx::Dtype QuantizedEmbedding::dtype() const {
  if (dtype_) return *dtype_;
  if (type_.is_gguf()) return mx::float32;
  return type_.mode == QuantMode::affine ? scales->dtype() : mx::bfloat16;
}

mx::array QuantizedEmbedding::operator()(const mx::array& ids) const {
  return kernels::quantized_rows(matrix(), ids, dtype());
}

mx::array QuantizedEmbedding::as_linear(const mx::array& x) const {
  return kernels::quantized_matmul(x, matrix());
}

QuantizedMatrix QuantizedEmbedding::matrix() const {
  return {type_, *weight, scales.optional(), biases.optional()};
}

std::unique_ptr<Module> QuantizedEmbedding::dequantized(mx::Dtype dtype) const {
  auto out = std::make_unique<Embedding>(count(), dims());
  out->weight.set(kernels::dequantize(matrix(), dtype));
  return out;
}

std::string QuantizedEmbedding::settings() const {
  return Embedding::settings() + ", " + detail::quant_settings(type_);
}

size_t QuantizedEmbedding::num_own_parameters() const {
  return static_cast<size_t>(count()) * dims();
}

}  // namespace mlxcpp::nn
