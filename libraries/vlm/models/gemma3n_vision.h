// Gemma 3n's eyes: MobileNetV5-300m with its multi-scale fusion adapter. Reference: timm,
// mobilenetv5.py, built from the blocks of MobileNetV4 (arXiv 2404.10518).
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "core/json.h"
#include "nn/norm.h"

namespace mlxcpp::vlm {

namespace mx = mlx::core;

// "vision_config". Without model_args the published network.
struct Gemma3nVisionConfig {
  // Blocks in timm's notation, a list for each stage: "uir_r2_a5_k0_s1_e4_c640" is two universal
  // inverted residuals of 640 channels, with depthwise convolutions of 5 x 5 in front.
  struct ModelArgs {
    std::vector<std::vector<std::string>> arch_def;
    int stem_size = 64, num_features = 2048, msfa_output_resolution = 16;

    ModelArgs();  // mobilenetv5_300m_enc
    void fields(ConfigReader& v);
  };

  int hidden_size = 2048, vocab_size = 128, vocab_offset = 262144;
  float rms_norm_eps = 1e-6f;  // of the embedder
  ModelArgs model_args;

  void fields(ConfigReader& v);
  int soft_tokens() const {
    return model_args.msfa_output_resolution * model_args.msfa_output_resolution;
  }
  // Error, which `where` starts, unless the tower takes pictures of this size.
  void check_size(int height, int width, std::string_view where) const;
};

// Several scales made one: the finer ones of the stages' maps, enlarged by whole pixels to the
// first one's size, through an inverted residual, averaged down to `resolution`.
class FusionAdapter final : public nn::Module {
 public:
  FusionAdapter(int in_channels, int out_channels, int resolution);
  // [n, H, W, C1], [n, h, w, C2] -> [n, resolution, resolution, out_channels]. Error unless h
  // divides H, and the resolution does, likewise for the widths.
  mx::array operator()(const mx::array& fine, const mx::array& coarse) const;

 private:
  const int resolution_;

 public:
  nn::Child<nn::Layer> ffn;
  nn::Child<nn::RMSNorm> norm;
};

// Blocks, "0", "1", ..., of which the first halves height and width.
class Stage final : public nn::Module {
 public:
  // Blocks that follow each other; `channels` come in, and are then what goes out.
  Stage(const std::vector<std::string>& arch_def, int& channels, const std::string& where);
  mx::array operator()(const mx::array& x) const;

  std::deque<nn::Child<nn::Layer>> blocks;
};

class MobileNetV5 final : public nn::Module {
 public:
  // Error if the config describes blocks that are not there.
  explicit MobileNetV5(const Gemma3nVisionConfig& config);

  // pixels [n, 3, H, W], 0 to 1 -> [n, resolution, resolution, hidden_size]. Error for sizes where
  // the adapter would interpolate.
  mx::array operator()(const mx::array& pixels) const;

  nn::Child<nn::Layer> conv_stem;
  nn::Children<Stage> blocks;
  nn::Child<FusionAdapter> msfa;
};

// The towers' weights with convolutions as MLX has them, [out, ..., in]; PyTorch's are [out, in,
// ...]. A checkpoint's are all of one kind, which those with a kernel of 1 x 1 tell.
nn::Weights convolutions_channels_last(nn::Weights weights);

}  // namespace mlxcpp::vlm
