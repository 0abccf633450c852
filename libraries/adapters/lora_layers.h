// Layers that add a low-rank product to a frozen one: LoRA (arXiv 2106.09685) and DoRA (arXiv
// 2402.09353), in the form of mlx_lm (mlx_lm/tuner/lora.py, dora.py). Each stands in the tree where
// the layer stood that it holds, as "linear" or "embedding", so "q_proj.lora_a" and
// "q_proj.linear.weight" are the paths.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nn/dropout.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/switch_layers.h"

namespace mlxcpp::adapters {

namespace mx = mlx::core;

// How the product is made: the rank, the factor, and in training the dropout before it.
struct LowRank {
  int rank = 8;
  float scale = 20.0f;
  float dropout = 0.0f;
};

// What the layers below have in common.
class AdaptedLayer {
 public:
  explicit AdaptedLayer(float scale) : scale(scale) {}
  virtual ~AdaptedLayer() = default;

  virtual nn::Module& base() const = 0;
  // Gives the base away; this layer is then good for nothing.
  virtual std::unique_ptr<nn::Module> take_base() = 0;
  // One layer with the weights of both: quantised as the base is, unless `dequantize` or the base
  // has a type that cannot be written (GGUF's): then float. An Error when the base is adapted
  // itself.
  virtual std::unique_ptr<nn::Module> fused(bool dequantize) const = 0;
  virtual std::vector<std::pair<std::string, nn::Param*>> adapter_params() = 0;

  const void* owner = nullptr;  // who put it in the tree, and may take it away
  const float scale;
};

// y = base(x) + scale (dropout(x) a) b. lora_a [in, r] is uniform in +-1/sqrt(in), lora_b [r, out]
// zero.
class LoRALinear final : public nn::Linear, public AdaptedLayer {
 public:
  LoRALinear(std::unique_ptr<nn::Linear> base, const LowRank& how);
  mx::array operator()(const mx::array& x) const override;
  std::string settings() const override;
  nn::Module& base() const override { return *linear; }
  std::unique_ptr<nn::Module> take_base() override { return linear.take(); }
  std::unique_ptr<nn::Module> fused(bool dequantize) const override;
  std::vector<std::pair<std::string, nn::Param*>> adapter_params() override;
  std::unique_ptr<Module> quantized_twin(const kernels::QuantType& type) const override;
  std::unique_ptr<Module> quantized(const kernels::QuantType& type) const override;

  nn::Child<nn::Linear> linear;
  nn::Child<nn::Dropout> dropout;
  nn::Param lora_a, lora_b;
};

// y = m / |W + scale b^T a^T| (x W^T + scale (dropout(x) a) b) + bias: direction and length of each
// row apart. The length is a constant to the gradient, as in the paper's section 4.3. m [out]
// starts as the rows' lengths.
class DoRALinear final : public nn::Linear, public AdaptedLayer {
 public:
  DoRALinear(std::unique_ptr<nn::Linear> base, const LowRank& how);
  mx::array operator()(const mx::array& x) const override;
  std::string settings() const override;
  nn::Module& base() const override { return *linear; }
  std::unique_ptr<nn::Module> take_base() override { return linear.take(); }
  std::unique_ptr<nn::Module> fused(bool dequantize) const override;
  std::vector<std::pair<std::string, nn::Param*>> adapter_params() override;
  std::unique_ptr<Module> quantized_twin(const kernels::QuantType& type) const override;
  std::unique_ptr<Module> quantized(const kernels::QuantType& type) const override;

  nn::Child<nn::Linear> linear;
  nn::Child<nn::Dropout> dropout;
  nn::Param lora_a, lora_b, m;

 private:
  mx::array row_scale() const;  // m / |W + ...|, [out]

  // What row_scale() gave for these arrays, outside of training: it costs a product of the weight's
  // size.
  struct Cached {
    std::uintptr_t a, b, m;
    mx::array value;
  };
  mutable std::optional<Cached> cached_;
};

// Rows get scale (lora_a[ids] lora_b); lora_a [count, r], lora_b [r, dims].
class LoRAEmbedding final : public nn::Embedding, public AdaptedLayer {
 public:
  LoRAEmbedding(std::unique_ptr<nn::Embedding> base, const LowRank& how);
  mx::array operator()(const mx::array& ids) const override;
  mx::array as_linear(const mx::array& x) const override;
  std::string settings() const override;
  nn::Module& base() const override { return *embedding; }
  std::unique_ptr<nn::Module> take_base() override { return embedding.take(); }
  std::unique_ptr<nn::Module> fused(bool dequantize) const override;
  std::vector<std::pair<std::string, nn::Param*>> adapter_params() override;
  std::unique_ptr<Module> quantized_twin(const kernels::QuantType& type) const override;
  std::unique_ptr<Module> quantized(const kernels::QuantType& type) const override;

  nn::Child<nn::Embedding> embedding;
  nn::Child<nn::Dropout> dropout;
  nn::Param lora_a, lora_b;
};

class DoRAEmbedding final : public nn::Embedding, public AdaptedLayer {
 public:
  DoRAEmbedding(std::unique_ptr<nn::Embedding> base, const LowRank& how);
  mx::array operator()(const mx::array& ids) const override;
  mx::array as_linear(const mx::array& x) const override;
  std::string settings() const override;
  nn::Module& base() const override { return *embedding; }
  std::unique_ptr<nn::Module> take_base() override { return embedding.take(); }
  std::unique_ptr<nn::Module> fused(bool dequantize) const override;
  std::vector<std::pair<std::string, nn::Param*>> adapter_params() override;
  std::unique_ptr<Module> quantized_twin(const kernels::QuantType& type) const override;
  std::unique_ptr<Module> quantized(const kernels::QuantType& type) const override;

  nn::Child<nn::Embedding> embedding;
  nn::Child<nn::Dropout> dropout;
  nn::Param lora_a, lora_b, m;
};

// One pair of matrices an expert: lora_a [E, r, in], lora_b [E, out, r].
class LoRASwitchLinear final : public nn::SwitchLinear, public AdaptedLayer {
 public:
  LoRASwitchLinear(std::unique_ptr<nn::SwitchLinear> base, const LowRank& how);
  mx::array operator()(const mx::array& x, const mx::array& experts, bool sorted) const override;
  std::string settings() const override;
  nn::Module& base() const override { return *linear; }
  std::unique_ptr<nn::Module> take_base() override { return linear.take(); }
  std::unique_ptr<nn::Module> fused(bool dequantize) const override;
  std::vector<std::pair<std::string, nn::Param*>> adapter_params() override;
  std::unique_ptr<Module> quantized_twin(const kernels::QuantType& type) const override;
  std::unique_ptr<Module> quantized(const kernels::QuantType& type) const override;

  nn::Child<nn::SwitchLinear> linear;
  nn::Child<nn::Dropout> dropout;
  nn::Param lora_a, lora_b;
};

// Whether adapt_layer() has a layer for it.
bool is_adaptable(const nn::Module& layer);

// Puts an adapted layer in place of the one at `path`, which it holds from then on. Error when
// there is none for its type.
AdaptedLayer& adapt_layer(nn::Module& model, const std::string& path, const LowRank& how,
                          bool dora);
// Puts the base back in the place of the adapted layer at `path`.
void restore_layer(nn::Module& model, const std::string& path);

}  // namespace mlxcpp::adapters
