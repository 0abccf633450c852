// Names of single-file checkpoints (LDM, CompVis and Stability AI's own layout) as those of
// diffusers' folders. Reference: diffusers, loaders/single_file_utils.py.
#pragma once

#include <map>
#include <optional>
#include <string>

#include <mlx/mlx.h>

#include "stable_diffusion/config.h"

namespace mlxcpp::sd {

namespace mx = mlx::core;
using Tensors = std::map<std::string, mx::array>;

enum class ModelFamily { sd1, sd2, sdxl };

// By the text encoder that the file holds. An Error names the file when it is none of these.
ModelFamily ldm_family(const Tensors& file, const std::string& where);

// The file's tensors of one part under diffusers' names; others are left out. Convolution weights
// stay as they lie.
Tensors ldm_unet(const Tensors& file, const UNetConfig& config);
Tensors ldm_autoencoder(const Tensors& file, const AutoencoderConfig& config);
// index 0, or 1 for SDXL's second. OpenCLIP's packed projections are cut up.
Tensors ldm_text_encoder(const Tensors& file, ModelFamily family, int index,
                         const ClipTextConfig& config);

}  // namespace mlxcpp::sd
