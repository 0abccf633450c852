#include "vlm/media/sound.h"

#include <cmath>
#include <numbers>
#include <numeric>

#include "core/error.h"
#include "core/mapped_file.h"
#include "kernels/thread_pool.h"
#include "vlm/media/av_input.h"
#include "vlm/media/picture.h"

namespace mlxcpp::media {
namespace {

constexpr int kMostRate = 768'000;

template <class T>
void add_plane(const uint8_t* plane, int stride, int n, double scale, double shift, float* sum) {
  const T* p = reinterpret_cast<const T*>(plane);
  for (int i = 0; i < n; ++i)
    sum[i] += static_cast<float>((static_cast<double>(p[static_cast<size_t>(stride) * i]) - shift) *
                                 scale);
}

// One channel of a decoded frame onto sum[0, n).
bool add_channel(const AVFrame& frame, int channel, int channels, float* sum) {
  const auto format = static_cast<AVSampleFormat>(frame.format);
  const bool planar = av_sample_fmt_is_planar(format);
  const int n = frame.nb_samples, stride = planar ? 1 : channels;
  const uint8_t* p = frame.extended_data[planar ? channel : 0];
  if (!planar) p += static_cast<size_t>(channel) * av_get_bytes_per_sample(format);
  switch (av_get_packed_sample_fmt(format)) {
    case AV_SAMPLE_FMT_U8:
      add_plane<uint8_t>(p, stride, n, 1.0 / 128, 128, sum);
      return true;
    case AV_SAMPLE_FMT_S16:
      add_plane<int16_t>(p, stride, n, 1.0 / (1 << 15), 0, sum);
      return true;
    case AV_SAMPLE_FMT_S32:  // 24 bits, too, in the upper ones
      add_plane<int32_t>(p, stride, n, 1.0 / (int64_t{1} << 31), 0, sum);
      return true;
    case AV_SAMPLE_FMT_S64:
      add_plane<int64_t>(p, stride, n, std::ldexp(1.0, -63), 0, sum);
      return true;
    case AV_SAMPLE_FMT_FLT:
      add_plane<float>(p, stride, n, 1, 0, sum);
      return true;
    case AV_SAMPLE_FMT_DBL:
      add_plane<double>(p, stride, n, 1, 0, sum);
      return true;
    default:
      return false;
  }
}

int channels_of(const AVFrame& frame) {
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(57, 24, 100)
  return frame.ch_layout.nb_channels;
#else
  return frame.channels;
#endif
}

// The modified Bessel function of order 0, by its series.
double bessel_i0(double x) {
  double sum = 1, term = 1;
  for (int k = 1; k < 64; ++k) {
    term *= (x / (2 * k)) * (x / (2 * k));
    sum += term;
  }
  return sum;
}

// scipy.signal.firwin(2 half + 1, 1 / rate, window=("kaiser", 5)), times `gain`.
std::vector<double> low_pass(int half, int rate, double gain) {
  constexpr double kBeta = 5.0;
  std::vector<double> h;
  double sum = 0;
  for (int i = -half; i <= half; ++i) {
    const double x = static_cast<double>(i) / rate, at = static_cast<double>(i) / half;
    const double sinc = i == 0 ? 1 : std::sin(std::numbers::pi * x) / (std::numbers::pi * x);
    h.push_back(sinc * bessel_i0(kBeta * std::sqrt(std::max(0.0, 1 - at * at))));
    sum += h.back();
  }
  for (double& x : h) x *= gain / sum;
  return h;
}

}  // namespace

Sound resample(const Sound& sound, int rate) {
  if (sound.rate <= 0 || rate <= 0 || sound.rate > kMostRate || rate > kMostRate)
    throw Error("a sound cannot be brought from {} to {} samples a second: expected 1 to {}",
                sound.rate, rate, kMostRate);
  if (sound.rate == rate) return sound;
  const int divisor = std::gcd(sound.rate, rate);
  const int64_t up = rate / divisor, down = sound.rate / divisor;
  const int most = static_cast<int>(std::max(up, down)), half = 10 * most;
  const auto h = low_pass(half, most, static_cast<double>(up));
  const auto n = static_cast<int64_t>(sound.samples.size());
  Sound out{rate, std::vector<float>(static_cast<size_t>((n * up + down - 1) / down))};
  kernels::parallel_for(out.samples.size(), 1 << 12, [&](size_t begin, size_t end) {
    for (size_t m = begin; m < end; ++m) {
      // Input i stands at i * up of the fine grid, output m at m * down.
      const int64_t centre = static_cast<int64_t>(m) * down;
      const int64_t first = std::max<int64_t>(0, (centre - half + up - 1) / up);
      const int64_t last = std::min<int64_t>(n - 1, (centre + half) / up);
      double sum = 0;
      for (int64_t i = first; i <= last; ++i)
        sum +=
            sound.samples[static_cast<size_t>(i)] * h[static_cast<size_t>(half + centre - i * up)];
      out.samples[m] = static_cast<float>(sum);
    }
  });
  return out;
}

Sound decode_sound(std::span<const std::byte> bytes, std::string_view where,
                   const SoundOptions& options) {
  detail::AvInput input(bytes, where, AVMEDIA_TYPE_AUDIO);
  const detail::Frame frame(av_frame_alloc());
  Sound sound;
  while (input.decode(*frame)) {
    const int channels = channels_of(*frame);
    if (channels <= 0 || frame->sample_rate <= 0 || frame->nb_samples < 0)
      throw input.broken("a frame without samples");
    if (sound.rate == 0) sound.rate = frame->sample_rate;
    if (sound.rate != frame->sample_rate || sound.rate > kMostRate)
      throw input.broken("its sampling rate changes, or is beyond all sense");
    const size_t have = sound.samples.size();
    const size_t all = have + static_cast<size_t>(frame->nb_samples);
    if (static_cast<double>(all) > options.max_seconds * sound.rate)
      throw Error("{}: the sound is longer than the limit of {} s; cut it first", where,
                  options.max_seconds);
    sound.samples.resize(all);
    for (int c = 0; c < channels; ++c)
      if (!add_channel(*frame, c, channels, sound.samples.data() + have))
        throw input.broken("its samples have an unknown form");
    if (channels > 1)
      for (size_t i = have; i < all; ++i) sound.samples[i] /= static_cast<float>(channels);
    av_frame_unref(frame.get());
  }
  if (sound.samples.empty()) throw input.broken("it has no samples");
  for (float& x : sound.samples)
    if (!std::isfinite(x)) throw input.broken("a sample is not a number");
  return options.rate > 0 ? resample(sound, options.rate) : sound;
}

Sound read_sound(const std::filesystem::path& file, const SoundOptions& options) {
  if (file != "-") return decode_sound(MappedFile::open(file)->bytes(), file.string(), options);
  constexpr size_t kLimit = size_t{1} << 30;
  return decode_sound(read_bytes(file, kLimit), "standard input", options);
}

}  // namespace mlxcpp::media
