#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace mlxcpp::media {

// A sound with one channel, samples around -1..1.
struct Sound {
  int rate = 0;  // samples a second
  std::vector<float> samples;

  double seconds() const { return rate > 0 ? static_cast<double>(samples.size()) / rate : 0; }
};

struct SoundOptions {
  int rate = 16000;           // to resample to; 0: as the file has it
  double max_seconds = 1800;  // longer sounds are refused: what models hear is much less
};

// WAV, MP3, FLAC, Ogg, AAC, MP4 and others, by FFmpeg; of several channels the mean. Integers are
// divided by 2^(bits - 1). Error, which `where` starts, if it is none of these, holds no sound, is
// broken or too long.
Sound decode_sound(std::span<const std::byte> bytes, std::string_view where,
                   const SoundOptions& options = {});

// The same from a file; "-" is standard input.
Sound read_sound(const std::filesystem::path& file, const SoundOptions& options = {});

// At another rate: scipy.signal.resample_poly, a Kaiser-windowed sinc (beta 5, ten zero crossings
// to a side). Runs on the kernels' threads. Error unless both rates are positive.
Sound resample(const Sound& sound, int rate);

}  // namespace mlxcpp::media
