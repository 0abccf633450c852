// Between pictures and latents: AutoencoderKL of diffusers (models/autoencoders/
// autoencoder_kl.py, vae.py), channels last.
#pragma once

#include <optional>
#include <stop_token>

#include "nn/conv.h"
#include "stable_diffusion/blocks.h"
#include "stable_diffusion/config.h"

namespace mlxcpp::sd {

namespace mx = mlx::core;

class VaeEncoder;
class VaeDecoder;

// Tiles of a decode: edge in latents and the share of it that neighbours overlap. Peak memory is
// that of one tile. Tiles are blended linearly where they overlap, as diffusers does; pictures of
// at most one tile are the same with and without.
struct Tiling {
  int edge = 64;
  float overlap = 0.25f;
};

class Autoencoder final : public nn::Module {
 public:
  explicit Autoencoder(const AutoencoderConfig& config);
  ~Autoencoder() override;

  struct Posterior {
    mx::array mean, logvar;  // f32 [N, H/s, W/s, latent_channels], unscaled; logvar in [-30, 20]
  };
  // x [N, H, W, in_channels] in [-1, 1], H and W multiples of config().scale().
  Posterior encode(const mx::array& x) const;
  // The latents that the UNet works on: the mean times scaling_factor.
  mx::array encode_scaled(const mx::array& x) const;

  // z [N, h, w, latent_channels], scaled -> f32 [N, h*s, w*s, out_channels], about [-1, 1].
  // Throws an Error after the tile at which `stop` was asked for.
  mx::array decode_scaled(const mx::array& z, const std::optional<Tiling>& tiling = {},
                          const std::stop_token& stop = {}) const;

  const AutoencoderConfig& config() const { return config_; }
  mx::Dtype dtype() const;

 private:
  mx::array decode(const mx::array& z) const;
  mx::array decode_tiled(const mx::array& z, const Tiling& tiling,
                         const std::stop_token& stop) const;

  AutoencoderConfig config_;

 public:
  nn::Child<VaeEncoder> encoder;
  nn::Child<VaeDecoder> decoder;
  nn::Child<nn::Linear> quant_conv, post_quant_conv;  // 1x1
};

}  // namespace mlxcpp::sd
