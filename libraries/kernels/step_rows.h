#pragma once

#include "kernels/decoder_step.h"

namespace mlxcpp::kernels {

// What of a prompt is computed at a time, at most, in one step.
inline constexpr int kPromptRows = 1024;

// Rows (batch times tokens) that a step of this plan may have: kStepRows, or kPromptRows where all
// of its products are quantised or ternary. Those of floats, whose loops pack weights for many
// rows, and experts, which are sorted then, go operation by operation beyond kStepRows.
int max_step_rows(const LayerPlan& plan);

}  // namespace mlxcpp::kernels
