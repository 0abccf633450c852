#pragma once

#include "golden/kinds.h"

namespace mlxcpp::golden {

// The kind of golden/vlm: models that take pictures, films or sound.
void compare_vision_language_model(const fs::path& folder, const Options& options, Comparison& out);

// Of those, a vision tower alone: no model of text, no tokenizer.
void compare_vision_tower(const fs::path& folder, const Options& options, Comparison& out);

}  // namespace mlxcpp::golden
