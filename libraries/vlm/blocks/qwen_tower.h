// The vision transformer of Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923): patches
// of any grid, two-dimensional rope, attention within a frame or within windows of it, and a merger
// of neighbouring patches. Reference: transformers modeling_qwen2_vl.py, modeling_qwen2_5_vl.py.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/json.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace mlxcpp::vlm {

namespace mx = mlx::core;

// "vision_config", of both families.
struct QwenTowerConfig {
  bool windows = false;  // Qwen2.5-VL: RMS norms, gated MLP, window attention
  int depth = 32, width = 1280, num_heads = 16, intermediate_size = 0;
  int out_hidden_size = 3584;  // of the text
  std::string hidden_act = "quick_gelu";
  int in_channels = 3, patch_size = 14, spatial_merge_size = 2, temporal_patch_size = 2;
  // Qwen2.5-VL's.
  int window_size = 112, tokens_per_second = 4;
  std::vector<int> fullatt_block_indexes = {7, 15, 23, 31};

  int merge_unit() const { return spatial_merge_size * spatial_merge_size; }
  int patch_length() const { return in_channels * temporal_patch_size * patch_size * patch_size; }
};
struct Qwen2VLTowerConfig : QwenTowerConfig {
  void fields(ConfigReader& v);
};
struct Qwen25VLTowerConfig : QwenTowerConfig {
  Qwen25VLTowerConfig();
  void fields(ConfigReader& v);
};

// Patches in time, height and width of one picture or film.
using Grid = std::array<int, 3>;

// How one grid is computed: the order of its merged tokens, where each patch stands, and which
// stretches of patches see each other.
struct QwenLayout {
  std::vector<int> order;            // of tokens; empty: as they are
  std::vector<int> rows, cols;       // of each patch, in that order
  std::vector<int> frames, windows;  // lengths of the stretches, in patches

  QwenLayout(const Grid& grid, const QwenTowerConfig& c);
};

class QwenPatchEmbed : public nn::Module {
 public:
  explicit QwenPatchEmbed(const QwenTowerConfig& c);
  mx::array operator()(const mx::array& patches) const;

  nn::Param weight;  // [width, channels, time, patch, patch]
};

class QwenVisionAttention : public nn::Module {
 public:
  explicit QwenVisionAttention(const QwenTowerConfig& c);
  // x [N, width], rows and cols int32 [N]; patches of a stretch see each other.
  mx::array operator()(const mx::array& x, const mx::array& rows, const mx::array& cols,
                       const std::vector<int>& stretches) const;

 private:
  const int heads_, head_dim_;
  const mx::array row_frequencies_, col_frequencies_;  // [head_dim/2], those of the other are 0

 public:
  nn::Child<nn::Linear> qkv, proj;
};

class QwenVisionBlock : public nn::Module {
 public:
  explicit QwenVisionBlock(const QwenTowerConfig& c);
  mx::array operator()(const mx::array& x, const mx::array& rows, const mx::array& cols,
                       const std::vector<int>& stretches) const {
    const auto h = x + attn(norm1(x), rows, cols, stretches);
    return h + mlp(norm2(h));
  }

  nn::Child<nn::Layer> norm1, norm2;
  nn::Child<QwenVisionAttention> attn;
  nn::Child<nn::Layer> mlp;
};

class QwenPatchMerger : public nn::Module {
 public:
  explicit QwenPatchMerger(const QwenTowerConfig& c);
  // [N, width] -> [N / merge_unit, out_hidden_size]
  mx::array operator()(const mx::array& x) const;

 private:
  const int width_;  // of the patches that are merged, together

 public:
  nn::Child<nn::Layer> ln_q;
  nn::Child<nn::Linear> first, second;
};

class QwenTower : public nn::Module {
 public:
  explicit QwenTower(const QwenTowerConfig& c);
  // patches f32 [t h w, channels * time * patch^2], merged neighbours together -> [t h w /
  // merge_unit, out_hidden_size]. Error if the grid is not that of the patches.
  mx::array operator()(const mx::array& patches, const Grid& grid) const;

 private:
  const QwenTowerConfig c_;

 public:
  nn::Child<QwenPatchEmbed> patch_embed;
  nn::Children<QwenVisionBlock> blocks;
  nn::Child<QwenPatchMerger> merger;
};

}  // namespace mlxcpp::vlm
