#pragma once

#include <span>
#include <vector>

#include <mlx/mlx.h>

#include "core/json.h"

namespace mlxcpp::media {

namespace mx = mlx::core;

// The spectrum of a sound in bands of the mel scale, as the feature extractors of transformers
// compute it. Runs on the kernels' threads.
struct LogMel {
  mx::array features;  // f32 [frames, mels]
  int frames = 0;      // of these, that begin within the sound and not in its padding
};

// Gemma3nAudioFeatureExtractor: magnitudes of frames with pre-emphasis, natural logarithm. Its
// preprocessor_config.json; other values than these defaults are honoured or refused.
struct Gemma3nLogMel {
  static constexpr size_t kMostSamples = 480'000;  // what is behind them is not heard

  int feature_size = 128, sampling_rate = 16000;
  int frame_length = 512, hop_length = 160, fft_length = 1024;
  float min_frequency = 125, max_frequency = 7600;
  float preemphasis = 0.97f;
  bool preemphasis_htk_flavor = true;
  float input_scale_factor = 1, mel_floor = 1e-5f;
  std::vector<float> per_bin_mean, per_bin_stddev;  // empty: none

  void fields(ConfigReader& v);
  // Cut after kMostSamples, filled up with silence to `at_least` samples and a multiple of 128.
  LogMel operator()(std::span<const float> samples, size_t at_least = 0) const;
};

// WhisperFeatureExtractor: power of centred frames, log10, at most 8 below the largest; cut or
// filled to 30 s, which gives 3000 frames.
struct WhisperLogMel {
  int feature_size = 80;

  LogMel operator()(std::span<const float> samples) const;
};

}  // namespace mlxcpp::media
