#include "vlm/media/film.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/mapped_file.h"
#include "vlm/media/av_input.h"
#include "vlm/media/decoders.h"

extern "C" {
#include <libavutil/display.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
}

namespace mlxcpp::media {
namespace {

struct FreeScaler {
  void operator()(SwsContext* s) const { sws_freeContext(s); }
};

const int32_t* display_matrix(const AVStream& stream) {
#if LIBAVFORMAT_VERSION_MAJOR >= 61
  const AVPacketSideData* side =
      av_packet_side_data_get(stream.codecpar->coded_side_data, stream.codecpar->nb_coded_side_data,
                              AV_PKT_DATA_DISPLAYMATRIX);
  const uint8_t* data = side ? side->data : nullptr;
  const size_t size = side ? side->size : 0;
#else
  size_t size = 0;
  const uint8_t* data = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
#endif
  return data && size >= 9 * sizeof(int32_t) ? reinterpret_cast<const int32_t*>(data) : nullptr;
}

// The EXIF orientation that turns as the display matrix does, for quarter turns.
int orientation_of(const AVStream& stream) {
  const int32_t* matrix = display_matrix(stream);
  if (!matrix) return 1;
  const double anticlockwise = av_display_rotation_get(matrix);
  if (!std::isfinite(anticlockwise)) return 1;
  switch ((static_cast<int>(std::lround(-anticlockwise / 90)) % 4 + 4) % 4) {  // clockwise
    case 1:
      return 6;
    case 2:
      return 3;
    case 3:
      return 8;
    default:
      return 1;
  }
}

// What FFmpeg has in an enumeration's field: decoders put there what the file says, defined or not.
template <class Enum>
int number_of(const Enum& field) {
  static_assert(sizeof(Enum) == sizeof(int));
  int number;
  std::memcpy(&number, &field, sizeof number);
  return number;
}

// Frames to RGB, at their own size.
class Converter {
 public:
  Picture operator()(const AVFrame& f, const detail::AvInput& input) {
    Picture out = new_picture(f.width, f.height);
    const auto format = static_cast<AVPixelFormat>(f.format);
    if (!scaler_ || f.width != width_ || f.height != height_ || format != format_) {
      scaler_.reset(sws_getContext(f.width, f.height, format, f.width, f.height, AV_PIX_FMT_RGB24,
                                   SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, nullptr,
                                   nullptr, nullptr));
      if (!scaler_) throw input.broken("its pixels have an unknown form");
      width_ = f.width, height_ = f.height, format_ = format;
      const int space = number_of(f.colorspace);
      const int* matrix =
          sws_getCoefficients(space == AVCOL_SPC_UNSPECIFIED ? SWS_CS_DEFAULT : space);
      sws_setColorspaceDetails(scaler_.get(), matrix, number_of(f.color_range) == AVCOL_RANGE_JPEG,
                               sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    }
    // swscale may write a little beyond the end of a row: into rows of its own.
    const int stride = (3 * f.width + 63) / 64 * 64;
    rows_.resize(static_cast<size_t>(stride) * f.height + 64);
    uint8_t* planes[4] = {rows_.data()};
    const int strides[4] = {stride};
    if (sws_scale(scaler_.get(), f.data, f.linesize, 0, f.height, planes, strides) != f.height)
      throw input.broken("a frame cannot be converted to RGB");
    for (int y = 0; y < f.height; ++y)
      std::memcpy(out.row(y), rows_.data() + static_cast<size_t>(stride) * y, size_t{3} * f.width);
    return out;
  }

 private:
  std::unique_ptr<SwsContext, FreeScaler> scaler_;
  int width_ = 0, height_ = 0;
  AVPixelFormat format_ = AV_PIX_FMT_NONE;
  std::vector<uint8_t> rows_;
};

}  // namespace

struct Film::Source {
  std::shared_ptr<const MappedFile> file;  // or the caller keeps the bytes
  std::vector<std::byte> bytes;
  std::unique_ptr<detail::AvInput> input;
};

Film::Film(std::span<const std::byte> bytes, std::string_view where, const FilmOptions& options)
    : source_(std::make_unique<Source>()) {
  source_->input =
      std::make_unique<detail::AvInput>(bytes, where, AVMEDIA_TYPE_VIDEO, options.max_pixels);
  detail::AvInput& input = *source_->input;
  const detail::Packet packet(av_packet_alloc());
  const double unit = av_q2d(input.stream().time_base);
  std::vector<int64_t> stamps;
  while (input.read(*packet)) {
    if (stamps.size() >= static_cast<size_t>(options.max_frames))
      throw Error("{}: the film has more frames than the limit of {}; cut it first", where,
                  options.max_frames);
    const int64_t stamp = packet->pts != AV_NOPTS_VALUE ? packet->pts : packet->dts;
    if (stamp == AV_NOPTS_VALUE) throw input.broken("a frame has no time stamp");
    stamps.push_back(stamp);
  }
  if (stamps.empty()) throw input.broken("it has no frames");
  std::sort(stamps.begin(), stamps.end());
  for (const int64_t s : stamps)
    times_.push_back((static_cast<double>(s) - static_cast<double>(stamps.front())) * unit);

  const AVRational rate = input.stream().avg_frame_rate;
  fps_ = rate.num > 0 && rate.den > 0 ? av_q2d(rate) : 0;
  if (!(fps_ > 0) && times_.back() > 0)
    fps_ = static_cast<double>(times_.size() - 1) / times_.back();
  if (!(fps_ > 0)) fps_ = 1;
}

Film Film::open(const std::filesystem::path& path, const FilmOptions& options) {
  if (path == "-") {
    constexpr size_t kLimit = size_t{1} << 32;
    auto bytes = read_bytes(path, kLimit);
    Film film(bytes, "standard input", options);
    film.source_->bytes = std::move(bytes);  // the address stays
    return film;
  }
  auto file = MappedFile::open(path);
  Film film(file->bytes(), path.string(), options);
  film.source_->file = std::move(file);
  return film;
}

Film::~Film() = default;
Film::Film(Film&&) noexcept = default;

void Film::read(std::span<const int> numbers, const std::function<void(Picture)>& take) {
  detail::AvInput& input = *source_->input;
  input.rewind();
  const int orientation = orientation_of(input.stream());
  const detail::Frame frame(av_frame_alloc());
  Converter convert;
  size_t next = 0;
  for (int i = 0; next < numbers.size() && input.decode(*frame); ++i) {
    if (i == numbers[next]) {
      take(detail::upright(convert(*frame, input), orientation));
      ++next;
    }
    av_frame_unref(frame.get());
  }
  if (next < numbers.size())
    throw input.broken(fmt::format("frame {} of {} is missing", numbers[next], frames()));
}

std::vector<int> FilmSampling::uniform(int frames, double film_fps) const {
  const double most =
      std::floor(static_cast<double>(std::min(max_frames, frames)) / multiple) * multiple;
  double count = frames / film_fps * fps;
  count = std::min({std::max<double>(count, min_frames), most, static_cast<double>(frames)});
  count = std::floor(count / multiple) * multiple;
  if (count < 1)
    throw Error("the film has {} frames: the model looks at {} at a time", frames, multiple);
  std::vector<int> out;
  const double step = frames / count;
  for (int i = 0; i * step < frames && i < static_cast<int>(count); ++i)
    out.push_back(static_cast<int>(i * step));
  return out;
}

std::vector<int> spread_frames(int frames, double film_fps, double fps, int max_frames) {
  constexpr double kSkipSeconds = 1;
  const double seconds = frames / film_fps;
  const int wanted =
      std::max(1, static_cast<int>(std::min<double>(std::nearbyint(fps * seconds), max_frames)));
  int first = 0, last = frames - 1;
  if (seconds - 2 * kSkipSeconds > max_frames * fps) {
    first = static_cast<int>(kSkipSeconds * film_fps);
    last = std::min(last, static_cast<int>(frames - kSkipSeconds * film_fps));
    if (first >= last) first = 0, last = frames - 1;
  }
  std::vector<int> out;
  for (int i = 0; i < wanted; ++i) {
    const double at =
        wanted == 1 ? first : first + i * (static_cast<double>(last - first) / (wanted - 1));
    const int number = i == wanted - 1 && wanted > 1 ? last : static_cast<int>(at);
    if (out.empty() || number > out.back()) out.push_back(number);
  }
  return out;
}

}  // namespace mlxcpp::media
