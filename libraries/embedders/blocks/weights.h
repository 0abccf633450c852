#pragma once

#include <initializer_list>
#include <string_view>

#include "nn/module.h"

namespace mlxcpp::embedders {

// Takes `prefix` off the names that have it: checkpoints of a model with a head keep the encoder
// under a name of its own.
nn::Weights without_prefix(nn::Weights weights, std::string_view prefix);

// Leaves out tensors whose names begin so.
nn::Weights without(nn::Weights weights, std::initializer_list<std::string_view> beginnings);

}  // namespace mlxcpp::embedders
