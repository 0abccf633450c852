// From a prompt to what the UNet is conditioned on.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "stable_diffusion/clip_text.h"
#include "stable_diffusion/unet.h"
#include "text/tokenizer.h"

namespace mlxcpp::sd {

// CLIP's tokenizer with its padding, as the pipelines of diffusers use it.
class PromptTokenizer {
 public:
  explicit PromptTokenizer(const std::filesystem::path& folder);

  // Exactly `length` ids: beginning, text, end, padding. What does not fit is left out, and a
  // warning in the log quotes it.
  std::vector<int> encode(const std::string& text, int length) const;
  // The whole text, in as many such windows as it takes; at least one.
  std::vector<std::vector<int>> encode_windows(const std::string& text, int length) const;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  int pad_ = 0;
};

// int32 [1, ids]
mx::array ids_array(const std::vector<int>& ids);

// One encoder (SD 1, 2): its normed last state. Two (SDXL): the last states but one side by side,
// and the second's projection.
Conditioning condition(const std::vector<const ClipTextModel*>& encoders,
                       const std::vector<std::vector<int>>& ids);

// Windows of a long text, each encoded by itself: their states one after the other, the projection
// of the first.
Conditioning joined_windows(const std::vector<Conditioning>& windows);

}  // namespace mlxcpp::sd
