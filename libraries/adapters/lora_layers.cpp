#include "adapters/lora_layers.h"

#include <cmath>

#include "kernels/linear.h"
#include "nn/initializers.h"
#include "nn/quantized.h"

namespace mlxcpp::adapters {
namespace {

using nn::QuantizedLayer;

mx::array initial_a(int fan_in, const mx::Shape& shape) {
  const float limit = 1.0f / std::sqrt(static_cast<float>(fan_in));
  return nn::uniform(-limit, limit)(mx::zeros(shape));
}

std::string text(const LowRank& how) {
  return fmt::format(", rank={}, scale={}", how.rank, how.scale);
}

LowRank of(const AdaptedLayer& layer, int rank) { return {rank, layer.scale, 0}; }

[[noreturn]] void throw_not_quantizable() {
  throw Error("an adapted layer cannot be quantised: take the adapter off, or fuse it, first");
}

mx::array scaled(const mx::array& x, float scale) { return x * mx::array(scale, x.dtype()); }

// (x a) b, times scale where the numbers are few.
mx::array low_rank(const mx::array& x, const mx::array& a, const mx::array& b, float scale) {
  return mx::astype(kernels::matmul(scaled(kernels::matmul(x, a), scale), b), x.dtype());
}

// The weight of a layer as floats, in the dtype in which mlx_lm has it.
mx::array float_weight(const nn::Module& layer, const mx::array* weight) {
  if (const auto* q = dynamic_cast<const QuantizedLayer*>(&layer)) {
    const auto matrix = q->matrix();
    const bool affine = matrix.type.mode == kernels::QuantMode::affine;
    return kernels::dequantize(matrix, matrix.type.is_gguf() ? mx::float32
                                       : affine              ? matrix.scales->dtype()
                                                             : mx::bfloat16);
  }
  if (!weight)
    throw Error("a {} cannot hold this adapter: fuse or unload the one that is on it first",
                layer.type_name());
  return *weight;
}

template <class L>
mx::array float_weight(const L& layer) {
  return float_weight(layer, layer.weight ? &*layer.weight : nullptr);
}

mx::array row_lengths(const mx::array& weight) {
  return mx::linalg::norm(mx::astype(weight, mx::float32), 1);
}

// The fused float layer, quantised again as the base was.
template <class L>
std::unique_ptr<nn::Module> like_base(std::unique_ptr<L> fused, const nn::Module& base,
                                      bool dequantize) {
  const auto* q = dynamic_cast<const QuantizedLayer*>(&base);
  if (!q || dequantize || q->matrix().type.is_gguf()) return fused;
  return fused->quantized(q->matrix().type);
}

std::unique_ptr<nn::Linear> linear_with(const nn::Linear& base, mx::array weight) {
  auto out = std::make_unique<nn::Linear>(base.input_dims(), base.output_dims(),
                                          static_cast<bool>(base.bias));
  out->weight.set(std::move(weight));
  if (base.bias) out->bias.set(*base.bias);
  return out;
}

std::unique_ptr<nn::Embedding> embedding_with(const nn::Embedding& base, mx::array weight) {
  auto out = std::make_unique<nn::Embedding>(base.count(), base.dims());
  out->weight.set(std::move(weight));
  return out;
}

// weight + scale (u v), the product in weight's dtype.
mx::array plus(const mx::array& weight, float scale, const mx::array& u, const mx::array& v) {
  return weight + mx::astype(kernels::matmul(scaled(u, scale), v), weight.dtype());
}

mx::array with_row_lengths(const mx::array& weight, const mx::array& m) {
  const auto factor = m / mx::linalg::norm(weight, 1);
  return mx::astype(mx::expand_dims(factor, 1) * weight, weight.dtype());
}

}  // namespace

#define MLXCPP_NOT_QUANTIZABLE(Layer)                                                  \
  std::unique_ptr<nn::Module> Layer::quantized_twin(const kernels::QuantType&) const { \
    throw_not_quantizable();                                                           \
  }                                                                                    \
  std::unique_ptr<nn::Module> Layer::quantized(const kernels::QuantType&) const {      \
    throw_not_quantizable();                                                           \
  }
MLXCPP_NOT_QUANTIZABLE(LoRALinear)
MLXCPP_NOT_QUANTIZABLE(DoRALinear)
MLXCPP_NOT_QUANTIZABLE(LoRAEmbedding)
MLXCPP_NOT_QUANTIZABLE(DoRAEmbedding)
MLXCPP_NOT_QUANTIZABLE(LoRASwitchLinear)
#undef MLXCPP_NOT_QUANTIZABLE

// ---- LoRALinear

LoRALinear::LoRALinear(std::unique_ptr<nn::Linear> base, const LowRank& how)
    : Linear(base->input_dims(), base->output_dims(), std::nullopt),
      AdaptedLayer(how.scale),
      linear(this, "linear", nn::absent),
      dropout(this, "dropout", how.dropout),
      lora_a(this, "lora_a", initial_a(input_dims(), {input_dims(), how.rank})),
      lora_b(this, "lora_b", mx::zeros({how.rank, output_dims()})) {
  linear.set(std::move(base));
}

mx::array LoRALinear::operator()(const mx::array& x) const {
  const auto dropped = dropout(x);
  const bool plain = linear->weight && !dynamic_cast<const QuantizedLayer*>(&*linear);
  if (kernels::AnyOrderScope::active() && plain && dropped.id() == x.id())
    return kernels::low_rank_linear(x, *linear->weight, linear->bias.optional(), *lora_a, *lora_b,
                                    scale);
  return linear(x) + low_rank(dropped, *lora_a, *lora_b, scale);
}

std::string LoRALinear::settings() const {
  return Linear::settings() + text(of(*this, lora_b->shape(0)));
}

std::unique_ptr<nn::Module> LoRALinear::fused(bool dequantize) const {
  auto weight = plus(float_weight(*linear), scale, mx::transpose(*lora_b), mx::transpose(*lora_a));
  return like_base(linear_with(*linear, std::move(weight)), *linear, dequantize);
}

std::vector<std::pair<std::string, nn::Param*>> LoRALinear::adapter_params() {
  return {{"lora_a", &lora_a}, {"lora_b", &lora_b}};
}

// ---- DoRALinear

DoRALinear::DoRALinear(std::unique_ptr<nn::Linear> base, const LowRank& how)
    : Linear(base->input_dims(), base->output_dims(), std::nullopt),
      AdaptedLayer(how.scale),
      linear(this, "linear", nn::absent),
      dropout(this, "dropout", how.dropout),
      lora_a(this, "lora_a", initial_a(input_dims(), {input_dims(), how.rank})),
      lora_b(this, "lora_b", mx::zeros({how.rank, output_dims()})),
      m(this, "m", row_lengths(float_weight(*base))) {
  linear.set(std::move(base));
}

mx::array DoRALinear::row_scale() const {
  if (!training() && cached_ && cached_->a == lora_a->id() && cached_->b == lora_b->id() &&
      cached_->m == m->id())
    return cached_->value;
  const auto weight = float_weight(*linear);
  const auto adapted =
      weight + kernels::matmul(scaled(mx::transpose(*lora_b), scale), mx::transpose(*lora_a));
  const auto value = *m / mx::stop_gradient(mx::linalg::norm(adapted, 1));
  if (!training()) {
    mx::eval(value);  // a constant from here on, not a graph that grows
    cached_ = Cached{lora_a->id(), lora_b->id(), m->id(), value};
  }
  return value;
}

mx::array DoRALinear::operator()(const mx::array& x) const {
  // The base's product without its bias.
  const auto* q = dynamic_cast<const QuantizedLayer*>(&*linear);
  const auto y =
      q ? kernels::quantized_matmul(x, q->matrix()) : kernels::linear(x, float_weight(*linear));
  const auto out =
      mx::astype(row_scale(), x.dtype()) * (y + low_rank(dropout(x), *lora_a, *lora_b, scale));
  return linear->bias ? out + *linear->bias : out;
}

std::string DoRALinear::settings() const {
  return Linear::settings() + text(of(*this, lora_b->shape(0)));
}

std::unique_ptr<nn::Module> DoRALinear::fused(bool dequantize) const {
  const auto weight =
      plus(float_weight(*linear), scale, mx::transpose(*lora_b), mx::transpose(*lora_a));
  return like_base(linear_with(*linear, with_row_lengths(weight, *m)), *linear, dequantize);
}

std::vector<std::pair<std::string, nn::Param*>> DoRALinear::adapter_params() {
  return {{"lora_a", &lora_a}, {"lora_b", &lora_b}, {"m", &m}};
}

// ---- LoRAEmbedding

LoRAEmbedding::LoRAEmbedding(std::unique_ptr<nn::Embedding> base, const LowRank& how)
    : Embedding(base->count(), base->dims(), std::nullopt),
      AdaptedLayer(how.scale),
      embedding(this, "embedding", nn::absent),
      dropout(this, "dropout", how.dropout),
      lora_a(this, "lora_a", initial_a(count(), {count(), how.rank})),
      lora_b(this, "lora_b", mx::zeros({how.rank, dims()})) {
  embedding.set(std::move(base));
}

mx::array LoRAEmbedding::operator()(const mx::array& ids) const {
  const auto y = embedding(ids);
  const auto z = dropout(kernels::matmul(mx::take(*lora_a, ids, 0), *lora_b));
  return y + mx::astype(scaled(z, scale), y.dtype());
}

mx::array LoRAEmbedding::as_linear(const mx::array& x) const {
  return embedding->as_linear(x) +
         low_rank(dropout(x), mx::transpose(*lora_b), mx::transpose(*lora_a), scale);
}

std::string LoRAEmbedding::settings() const {
  return Embedding::settings() + text(of(*this, lora_b->shape(0)));
}

std::unique_ptr<nn::Module> LoRAEmbedding::fused(bool dequantize) const {
  auto weight = plus(float_weight(*embedding), scale, *lora_a, *lora_b);
  return like_base(embedding_with(*embedding, std::move(weight)), *embedding, dequantize);
}

std::vector<std::pair<std::string, nn::Param*>> LoRAEmbedding::adapter_params() {
  return {{"lora_a", &lora_a}, {"lora_b", &lora_b}};
}

// ---- DoRAEmbedding

DoRAEmbedding::DoRAEmbedding(std::unique_ptr<nn::Embedding> base, const LowRank& how)
    : Embedding(base->count(), base->dims(), std::nullopt),
      AdaptedLayer(how.scale),
      embedding(this, "embedding", nn::absent),
      dropout(this, "dropout", how.dropout),
      lora_a(this, "lora_a", initial_a(count(), {count(), how.rank})),
      lora_b(this, "lora_b", mx::zeros({how.rank, dims()})),
      m(this, "m", row_lengths(float_weight(*base))) {
  embedding.set(std::move(base));
}

mx::array DoRAEmbedding::operator()(const mx::array& ids) const {
  const auto y = embedding(ids);
  const auto z = scaled(kernels::matmul(mx::take(*lora_a, ids, 0), *lora_b), scale);
  const auto length = mx::stop_gradient(mx::linalg::norm(y + z, -1));
  const auto factor = mx::expand_dims(mx::take(*m, ids, 0) / length, -1);
  return mx::astype(factor, y.dtype()) * (y + mx::astype(dropout(z), y.dtype()));
}

mx::array DoRAEmbedding::as_linear(const mx::array& x) const {
  const auto y = embedding->as_linear(x) +
                 low_rank(dropout(x), mx::transpose(*lora_b), mx::transpose(*lora_a), scale);
  const auto adapted = float_weight(*embedding) + kernels::matmul(scaled(*lora_a, scale), *lora_b);
  return mx::astype(*m / mx::stop_gradient(mx::linalg::norm(adapted, 1)), y.dtype()) * y;
}

std::string DoRAEmbedding::settings() const {
  return Embedding::settings() + text(of(*this, lora_b->shape(0)));
}

std::unique_ptr<nn::Module> DoRAEmbedding::fused(bool dequantize) const {
  const auto weight = plus(float_weight(*embedding), scale, *lora_a, *lora_b);
  return like_base(embedding_with(*embedding, with_row_lengths(weight, *m)), *embedding,
                   dequantize);
}

std::vector<std::pair<std::string, nn::Param*>> DoRAEmbedding::adapter_params() {
  return {{"lora_a", &lora_a}, {"lora_b", &lora_b}, {"m", &m}};
}

// ---- LoRASwitchLinear

LoRASwitchLinear::LoRASwitchLinear(std::unique_ptr<nn::SwitchLinear> base, const LowRank& how)
    : SwitchLinear(base->input_dims(), base->output_dims(), base->num_experts(), std::nullopt),
      AdaptedLayer(how.scale),
      linear(this, "linear", nn::absent),
      dropout(this, "dropout", how.dropout),
      lora_a(this, "lora_a", initial_a(input_dims(), {num_experts(), how.rank, input_dims()})),
      lora_b(this, "lora_b", mx::zeros({num_experts(), output_dims(), how.rank})) {
  linear.set(std::move(base));
}

mx::array LoRASwitchLinear::operator()(const mx::array& x, const mx::array& experts,
                                       bool sorted) const {
  const auto z = nn::expert_linear(dropout(x), *lora_a, experts, sorted);
  return linear(x, experts, sorted) +
         mx::astype(nn::expert_linear(scaled(z, scale), *lora_b, experts, sorted), x.dtype());
}

std::string LoRASwitchLinear::settings() const {
  return SwitchLinear::settings() + text(of(*this, lora_b->shape(-1)));
}

std::unique_ptr<nn::Module> LoRASwitchLinear::fused(bool dequantize) const {
  auto out = std::make_unique<nn::SwitchLinear>(input_dims(), output_dims(), num_experts(),
                                                static_cast<bool>(linear->bias));
  out->weight.set(plus(float_weight(*linear), scale, *lora_b, *lora_a));
  if (linear->bias) out->bias.set(*linear->bias);
  return like_base(std::move(out), *linear, dequantize);
}

std::vector<std::pair<std::string, nn::Param*>> LoRASwitchLinear::adapter_params() {
  return {{"lora_a", &lora_a}, {"lora_b", &lora_b}};
}

// ---- in the tree

bool is_adaptable(const nn::Module& layer) {
  return dynamic_cast<const nn::Linear*>(&layer) || dynamic_cast<const nn::Embedding*>(&layer) ||
         dynamic_cast<const nn::SwitchLinear*>(&layer);
}

namespace {

// Where a layer waits while its place is taken.
template <class L>
std::unique_ptr<L> put_out(nn::Module& model, const std::string& path,
                           std::unique_ptr<nn::Module> placeholder) {
  return nn::detail::fitting<L>(model.replace(path, std::move(placeholder)), path);
}

template <class Adapted, class L>
AdaptedLayer& adapt(nn::Module& model, const std::string& path, std::unique_ptr<L> placeholder,
                    const LowRank& how) {
  auto base = put_out<L>(model, path, std::move(placeholder));
  const bool training = base->training();
  auto layer = std::make_unique<Adapted>(std::move(base), how);
  Adapted& put = *layer;
  model.replace(path, std::move(layer));
  put.train(training);
  return put;
}

}  // namespace

AdaptedLayer& adapt_layer(nn::Module& model, const std::string& path, const LowRank& how,
                          bool dora) {
  const nn::Module& layer = model.at(path);
  if (dora) {
    if (dynamic_cast<const AdaptedLayer*>(&layer))
      throw Error("{}: DoRA needs a plain or a quantised layer, found a {}", path,
                  layer.type_name());
    if (dynamic_cast<const nn::SwitchLinear*>(&layer))
      throw Error("{}: there is no DoRA for a {}", path, layer.type_name());
  }
  if (const auto* l = dynamic_cast<const nn::Linear*>(&layer)) {
    auto hole = std::make_unique<nn::Linear>(l->input_dims(), l->output_dims());
    return dora ? adapt<DoRALinear>(model, path, std::move(hole), how)
                : adapt<LoRALinear>(model, path, std::move(hole), how);
  }
  if (const auto* e = dynamic_cast<const nn::Embedding*>(&layer)) {
    auto hole = std::make_unique<nn::Embedding>(e->count(), e->dims());
    return dora ? adapt<DoRAEmbedding>(model, path, std::move(hole), how)
                : adapt<LoRAEmbedding>(model, path, std::move(hole), how);
  }
  if (const auto* s = dynamic_cast<const nn::SwitchLinear*>(&layer))
    return adapt<LoRASwitchLinear>(
        model, path,
        std::make_unique<nn::SwitchLinear>(s->input_dims(), s->output_dims(), s->num_experts()),
        how);
  throw Error("{}: a {} cannot be adapted: expected a linear or an embedding layer", path,
              layer.type_name());
}

void restore_layer(nn::Module& model, const std::string& path) {
  auto& layer = dynamic_cast<AdaptedLayer&>(model.at(path));
  auto base = layer.take_base();
  model.replace(path, std::move(base));
}

}  // namespace mlxcpp::adapters
