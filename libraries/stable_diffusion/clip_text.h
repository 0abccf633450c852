// CLIP's text encoder (Radford et al., arXiv 2103.00020): ViT-L, OpenCLIP H and bigG in the form of
// transformers' CLIPTextModel and CLIPTextModelWithProjection.
#pragma once

#include <vector>

#include "nn/activations.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "stable_diffusion/config.h"

namespace mlxcpp::sd {

namespace mx = mlx::core;

struct ClipTextOutput {
  std::vector<mx::array> hidden_states;  // embeddings, then after each layer: [B, L, hidden]
  mx::array last_hidden_state;           // the last of them, normed
  mx::array pooled;                      // last_hidden_state at the end of the text: [B, hidden]
  std::optional<mx::array> text_embeds;  // its projection [B, projection], with_projection only
};

class ClipText;  // the part under "text_model"

class ClipTextModel : public nn::Module {
 public:
  explicit ClipTextModel(const ClipTextConfig& config);
  ~ClipTextModel() override;

  // ids int32 [B, L], L at most max_position_embeddings.
  ClipTextOutput operator()(const mx::array& ids) const;
  const ClipTextConfig& config() const { return config_; }

 private:
  ClipTextConfig config_;

 public:
  nn::Child<ClipText> text_model;
  nn::Child<nn::Linear> text_projection;
};

}  // namespace mlxcpp::sd
