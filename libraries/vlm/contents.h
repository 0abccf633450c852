// Media as files hold them, read into memory.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "lm_common/lm_input.h"
#include "lm_common/user_input.h"
#include "vlm/media/film.h"
#include "vlm/media/picture.h"
#include "vlm/media/sound.h"

namespace mlxcpp::vlm {

// Some of a film's frames, made smaller as the model wants them.
struct Frames {
  std::vector<media::Picture> pictures = {};
  std::vector<double> times = {};  // of each, in seconds from the film's first frame
  double seconds = 0;              // of the whole film
  double fps = 1;                  // of the frames here
};

// A picture, film or sound, and a key: what has the same key is the same.
struct Content {
  std::variant<media::Picture, Frames, media::Sound> data;
  std::string key = {};

  Medium::Kind kind() const { return static_cast<Medium::Kind>(data.index()); }
};

// How a model looks at a film.
struct FilmReading {
  // The numbers of the frames to look at.
  std::function<std::vector<int>(const media::Film& film)> choose;
  // Makes each smaller as it is read (given how many there will be), so that a long film does not
  // lie in memory at its full size.
  std::function<media::Picture(media::Picture frame, int frames)> shrink;
};

// Read a file ("-": standard input). The key holds the SHA-256 of its bytes and the options. Error,
// naming the file, if it is not what is wanted, or larger than the options' limits.
Content read_picture(const std::filesystem::path& file, const MediaOptions& options);
Content read_film(const std::filesystem::path& file, const MediaOptions& options,
                  const FilmReading& reading);
Content read_sound(const std::filesystem::path& file, const MediaOptions& options, int rate);

}  // namespace mlxcpp::vlm
