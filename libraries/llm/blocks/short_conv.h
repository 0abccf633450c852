#pragma once

#include <optional>

#include "lm_common/kv_cache.h"
#include "nn/module.h"

namespace mlxcpp::llm {

// A convolution of each channel for itself over the last `kernel_size` tokens, the present one
// among them: y[t] = sum over j of w[j] * x[t - kernel_size + 1 + j]. Weight [channels,
// kernel_size, 1], the layout of MLX's Conv1d.
class CausalConv : public nn::Module {
 public:
  CausalConv(int channels, int kernel_size, bool with_bias);

  // x [B, L, channels]. `state` [B, kernel_size - 1, channels] is what came before (nothing: zeros)
  // and becomes what the next step needs.
  mx::array operator()(const mx::array& x, std::optional<mx::array>& state) const;

 private:
  const int kernel_size_;

 public:
  nn::Param weight, bias;
};

// x [B, L, ...] with zeros at the tokens that are padding of a batch; x itself when none is.
mx::array without_padding(const mx::array& x, const KVCache* cache);

// Published [channels, 1, kernel_size] -> [channels, kernel_size, 1], for names that end so.
nn::Weights conv_layout(nn::Weights weights, std::string_view suffix);

}  // namespace mlxcpp::llm
