// SigLIP's vision transformer (arXiv 2303.15343), as PaliGemma, Gemma 3, Idefics3 and SmolVLM have
// it. Reference: transformers modeling_siglip.py, modeling_idefics3.py.
#pragma once

#include <string>

#include "core/json.h"
#include "nn/embedding.h"
#include "nn/norm.h"
#include "vlm/blocks/mlp.h"
#include "vlm/media/image_processor.h"

namespace mlxcpp::vlm {

namespace mx = mlx::core;

// "vision_config". A family that has other defaults sets them before it is read.
struct SiglipConfig {
  int hidden_size = 768, intermediate_size = 3072;
  int num_hidden_layers = 12, num_attention_heads = 12;
  int num_channels = 3, image_size = 224, patch_size = 16;
  std::string hidden_act = "gelu_pytorch_tanh";
  float layer_norm_eps = 1e-6f;

  void fields(ConfigReader& v);
  int side() const { return image_size / patch_size; }  // patches along an edge
};

// A convolution whose windows touch, as a matrix product: pixels [n, C, H, W] ->
// [n, H/patch * W/patch, width], patches row by row; what is left at the edges is not seen.
class PatchEmbedding : public nn::Module {
 public:
  PatchEmbedding(int channels, int width, int patch_size);
  mx::array operator()(const mx::array& pixels) const;

 private:
  const int patch_size_;

 public:
  nn::Param weight, bias;  // [width, channels, patch, patch], [width]
};

// mlx_vlm keeps weights of convolutions with the channels last: [out, h, w, in] -> [out, in, h, w],
// or as it is if it is that already.
mx::array channels_first(const mx::array& weight, int channels);

class SiglipEmbeddings : public nn::Module {
 public:
  explicit SiglipEmbeddings(const SiglipConfig& c);
  mx::array operator()(const mx::array& pixels) const;

  nn::Child<PatchEmbedding> patch_embedding;
  nn::Child<nn::Embedding> position_embedding;
};

class SiglipAttention : public nn::Module {
 public:
  explicit SiglipAttention(const SiglipConfig& c);
  mx::array operator()(const mx::array& x) const;

 private:
  const int heads_, head_dim_;

 public:
  nn::Child<nn::Linear> q_proj, k_proj, v_proj, out_proj;
};

class SiglipLayer : public nn::Module {
 public:
  explicit SiglipLayer(const SiglipConfig& c);
  mx::array operator()(const mx::array& x) const {
    const auto h = x + self_attn(layer_norm1(x));
    return h + mlp(layer_norm2(h));
  }

  nn::Child<SiglipAttention> self_attn;
  nn::Child<nn::LayerNorm> layer_norm1, layer_norm2;
  nn::Child<MLP> mlp;
};

// pixels f32 [n, 3, image_size, image_size] -> [n, patches, hidden_size], after the last norm.
class SiglipTower : public nn::Module {
 public:
  explicit SiglipTower(const SiglipConfig& c);
  // Error if the pictures have another size.
  mx::array operator()(const mx::array& pixels) const;

 private:
  const int image_size_;

 public:
  nn::Child<SiglipEmbeddings> embeddings;
  nn::Children<SiglipLayer> layers;
  nn::Child<nn::LayerNorm> post_layernorm;
};

// A tower's weights as a PatchEmbedding wants them, without what it does not use.
nn::Weights siglip_weights(nn::Weights weights);

// Error, which `where` starts, unless the processor makes pictures that the tower takes.
void check_size(const media::SquareProcessor& processor, const SiglipConfig& tower,
                std::string_view where);

}  // namespace mlxcpp::vlm
