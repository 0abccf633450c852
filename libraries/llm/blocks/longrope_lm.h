#pragma once

#include "lm_common/position_switch.h"
#include "nn/rope.h"

namespace mlxcpp::llm {

// A CausalLM whose config.json may ask for LongRoPE (arXiv 2402.13753).
template <class Model>
struct LongRopeLM : Model, PositionSwitch {
  using Model::Model;

  std::optional<int> switch_length() const override {
    const nn::RopeConfig& rope = this->c.rope;
    if (rope.type != nn::RopeType::longrope) return std::nullopt;
    return rope.original_max_position_embeddings;
  }
};

}  // namespace mlxcpp::llm
