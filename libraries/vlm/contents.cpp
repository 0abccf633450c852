#include "vlm/contents.h"

#include "core/mapped_file.h"
#include "hub/digest.h"
#include "vlm/media/resize.h"

namespace mlxcpp::vlm {
namespace {

// A file's bytes: mapped, or read from standard input.
class Bytes {
 public:
  explicit Bytes(const std::filesystem::path& file)
      : name_(file == "-" ? "standard input" : file.string()) {
    constexpr size_t kLimit = size_t{1} << 30;  // of what has no file
    if (file == "-")
      read_ = media::read_bytes(file, kLimit);
    else
      mapped_ = MappedFile::open(file);
  }
  std::span<const std::byte> bytes() const { return mapped_ ? mapped_->bytes() : read_; }
  const std::string& name() const { return name_; }

  std::string key(std::string_view settings) const {
    auto digest = hub::Digest::sha256();
    const auto b = bytes();
    digest.update({reinterpret_cast<const char*>(b.data()), b.size()});
    return digest.hex() + std::string(settings);
  }

 private:
  std::string name_;
  std::shared_ptr<const MappedFile> mapped_;
  std::vector<std::byte> read_;
};

std::string settings_of(const MediaOptions& o) {
  std::string text = o.icc ? " icc" : "";
  if (o.resize) text += fmt::format(" {}x{}", o.resize->first, o.resize->second);
  if (o.fps) text += fmt::format(" {} fps", *o.fps);
  if (o.max_frames) text += fmt::format(" {} frames", *o.max_frames);
  return text;
}

media::Picture resized(media::Picture picture, const MediaOptions& options) {
  if (!options.resize) return picture;
  const auto [width, height] = *options.resize;
  constexpr int kMost = 1 << 14;
  if (width < 1 || height < 1 || width > kMost || height > kMost)
    throw Error("--resize: expected sides between 1 and {}, found {} x {}", kMost, width, height);
  return media::resize(picture, width, height, media::Filter::bicubic);
}

}  // namespace

Content read_picture(const std::filesystem::path& file, const MediaOptions& options) {
  const Bytes in(file);
  media::PictureOptions o{.icc = options.icc};
  o.max_pixels = options.max_pixels.value_or(o.max_pixels);
  auto picture = media::decode_picture(in.bytes(), in.name(), o);
  return {resized(std::move(picture), options), in.key(settings_of(options))};
}

Content read_film(const std::filesystem::path& file, const MediaOptions& options,
                  const FilmReading& reading) {
  const Bytes in(file);
  media::FilmOptions o;
  o.max_frames = options.max_film_frames.value_or(o.max_frames);
  o.max_pixels = options.max_pixels.value_or(o.max_pixels);
  media::Film film(in.bytes(), in.name(), o);
  const std::vector<int> numbers = reading.choose(film);
  Frames frames{.seconds = film.seconds()};
  for (const int n : numbers) frames.times.push_back(film.times()[static_cast<size_t>(n)]);
  frames.fps = static_cast<double>(numbers.size()) / film.frames() * film.fps();
  const int count = static_cast<int>(numbers.size());
  film.read(numbers, [&](media::Picture frame) {
    frames.pictures.push_back(reading.shrink(resized(std::move(frame), options), count));
  });
  return {std::move(frames), in.key(settings_of(options))};
}

Content read_sound(const std::filesystem::path& file, const MediaOptions& options, int rate) {
  const Bytes in(file);
  media::SoundOptions o{.rate = rate};
  o.max_seconds = options.max_sound_seconds.value_or(o.max_seconds);
  return {media::decode_sound(in.bytes(), in.name(), o), in.key("")};
}

}  // namespace mlxcpp::vlm
