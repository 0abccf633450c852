#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "vlm/media/picture.h"

namespace mlxcpp::media {

struct FilmOptions {
  int max_frames = 1 << 18;             // of the film; more are refused
  size_t max_pixels = size_t{1} << 26;  // of a frame; larger ones are refused before decoding
};

// A film: the frames of its first picture stream, by FFmpeg, turned as the file says.
class Film {
 public:
  // A file, or bytes that must outlive the object. Error if it is no film, broken, or too long.
  static Film open(const std::filesystem::path& file, const FilmOptions& options = {});
  Film(std::span<const std::byte> bytes, std::string_view where, const FilmOptions& options = {});
  ~Film();
  Film(Film&&) noexcept;

  // When each frame is shown, in seconds from the first, ascending.
  const std::vector<double>& times() const { return times_; }
  int frames() const { return static_cast<int>(times_.size()); }
  double fps() const { return fps_; }  // on average
  double seconds() const { return frames() / fps_; }

  // Decodes, and hands out the frames of these numbers (ascending, no number twice), one after the
  // other.
  void read(std::span<const int> numbers, const std::function<void(Picture)>& take);

 private:
  struct Source;
  std::unique_ptr<Source> source_;
  std::vector<double> times_;
  double fps_ = 1;
};

// Numbers of frames to look at, as the processors of transformers choose them.
struct FilmSampling {
  double fps = 2;
  int min_frames = 4, max_frames = 768;
  int multiple = 2;  // of frames: temporal_patch_size

  // Qwen2VLVideoProcessor.sample_frames: uniformly, `fps` of them a second. Error when the film is
  // shorter than one multiple.
  std::vector<int> uniform(int frames, double film_fps) const;
};
// SmolVLMVideoProcessor.sample_frames: at most max_frames, from the first to the last, long films
// without their first and last second.
std::vector<int> spread_frames(int frames, double film_fps, double fps, int max_frames);

}  // namespace mlxcpp::media
