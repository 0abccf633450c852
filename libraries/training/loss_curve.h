#pragma once

#include <filesystem>
#include <vector>

#include "training/trainer.h"

namespace mlxcpp::training {

// A picture (PNG) of the losses over the iterations, train in blue and validation in orange. The
// file is replaced whole. Nothing is written when there is no point at all.
void write_loss_curve(const std::filesystem::path& file, const std::vector<LossPoint>& train,
                      const std::vector<LossPoint>& valid);

}  // namespace mlxcpp::training
