// Gemma 3n's ears: the conformer of the Universal Speech Model (arXiv 2303.01037). Reference:
// transformers modeling_gemma3n.py.
#pragma once

#include <vector>

#include "core/json.h"
#include "nn/linear.h"
#include "nn/norm.h"

namespace mlxcpp::vlm {

namespace mx = mlx::core;

// "audio_config"
struct Gemma3nAudioConfig {
  int hidden_size = 1536, input_feat_size = 128;
  int vocab_size = 128, vocab_offset = 262272;
  float rms_norm_eps = 1e-6f;
  float gradient_clipping = 1e10f;  // bounds what flows forward, too
  int conf_attention_chunk_size = 12, conf_attention_context_left = 13,
      conf_attention_context_right = 0;
  float conf_attention_logit_cap = 50;
  int conf_num_attention_heads = 8, conf_num_hidden_layers = 12, conf_conv_kernel_size = 5,
      conf_reduction_factor = 4;
  float conf_residual_weight = 0.5f;
  // Of the two convolutions in front, pairs of time and frequency.
  std::vector<int> sscp_conv_channel_size = {128, 32};
  std::vector<std::vector<int>> sscp_conv_kernel_size = {{3, 3}, {3, 3}},
                                sscp_conv_stride_size = {{2, 2}, {2, 2}};
  float sscp_conv_group_norm_eps = 1e-3f;

  void fields(ConfigReader& v);
  // How many soft tokens come of so many frames.
  int soft_tokens(int frames) const;

  int past() const { return std::max(0, conf_attention_context_left - 1); }
  // Frequencies after the first i convolutions.
  int bands(size_t i) const;
};

class SubsampleConvProjection;  // two strided convolutions over time and frequency
class ConformerBlock;

class Conformer final : public nn::Module {
 public:
  explicit Conformer(const Gemma3nAudioConfig& config);
  ~Conformer() override;

  // features [n, frames, input_feat_size], valid: bool [n, frames], false for padding ->
  // [n, soft tokens, hidden_size], zero where nothing is heard.
  mx::array operator()(const mx::array& features, const mx::array& valid) const;
  // In which of the soft tokens something is heard: bool [n, soft tokens].
  mx::array heard(const mx::array& valid) const;

 private:
  mx::array subsampled(const mx::array& valid) const;

  const Gemma3nAudioConfig config_;

 public:
  nn::Child<SubsampleConvProjection> subsample_conv_projection;
  nn::Children<ConformerBlock> conformer;
};

}  // namespace mlxcpp::vlm
