#include "llm-tool/media_options.h"

#include <filesystem>

#include "core/error.h"
#include "support/options.h"
#include "vlm/media/film.h"
#include "vlm/media/picture.h"
#include "vlm/media/sound.h"

namespace mlxcpp::tools {

void MediaInputOptions::add(CLI::App& app) {
  app.add_option("--image", images,
                 "a picture for models that see (repeatable; -: standard input)");
  app.add_option("--video", videos, "a film for models that see them (repeatable)");
  app.add_option("--audio", audio, "a sound for models that hear (repeatable)");
  app.add_option("--resize", resize,
                 "W [H]: pictures and frames to this size before the model's own processing")
      ->expected(1, 2)
      ->check(positive_number());
  app.add_flag("--icc", media.icc, "convert pictures from their colour profile to sRGB");
  app.add_option("--fps", media.fps, "frames of a film to look at, each second")
      ->check(positive_number());
  app.add_option("--max-frames", media.max_frames, "and at most that many")
      ->check(positive_number());
  app.add_option("--max-pixels", media.max_pixels,
                 fmt::format("refuse larger pictures [{}] and frames of films [{}]",
                             media::PictureOptions().max_pixels, media::FilmOptions().max_pixels))
      ->check(positive_number());
  app.add_option("--max-film-frames", media.max_film_frames,
                 fmt::format("refuse longer films [{}]", media::FilmOptions().max_frames))
      ->check(positive_number());
  app.add_option("--max-sound-seconds", media.max_sound_seconds,
                 fmt::format("refuse longer sounds [{}]", media::SoundOptions().max_seconds))
      ->check(positive_number());
}

void MediaInputOptions::check(bool may_read_standard_input) const {
  int standard = 0;
  for (const auto* files : {&images, &videos, &audio})
    for (const std::string& file : *files) {
      if (file != "-") {
        if (!std::filesystem::exists(file)) throw Error("{}: there is no such file", file);
        continue;
      }
      if (!may_read_standard_input)
        throw Error("-: standard input holds the conversation: name a file");
      if (++standard > 1)
        throw Error("standard input (-) can be one picture, film or sound, not several");
    }
}

void MediaInputOptions::attach(chat::Message& message) const {
  message.images.insert(message.images.end(), images.begin(), images.end());
  message.videos.insert(message.videos.end(), videos.begin(), videos.end());
  message.audio.insert(message.audio.end(), audio.begin(), audio.end());
}

MediaOptions MediaInputOptions::options() const {
  MediaOptions o = media;
  if (!resize.empty()) o.resize = {resize.front(), resize.back()};
  return o;
}

}  // namespace mlxcpp::tools
