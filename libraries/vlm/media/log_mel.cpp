#include "vlm/media/log_mel.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "kernels/spectrum_kernels.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::media {
namespace {

constexpr size_t kLanes = kernels::kSpectrumLanes;

// Band filters: each a run of bins.
struct Bands {
  struct Run {
    size_t first, offset, count;
  };
  std::vector<Run> runs;
  std::vector<float> weights;
};

// triangle(bin's frequency, low, centre, high) for each band between its neighbours' centres.
template <class Weight>
Bands make_bands(const std::vector<double>& edges, size_t bins, double bin_width, Weight weight) {
  Bands out;
  for (size_t b = 0; b + 2 < edges.size(); ++b) {
    Bands::Run run{0, out.weights.size(), 0};
    for (size_t i = 0; i < bins; ++i) {
      const double w =
          weight(static_cast<double>(i) * bin_width, edges[b], edges[b + 1], edges[b + 2]);
      if (w <= 0) continue;
      if (run.count == 0) run.first = i;
      // Between two bins of a band there is none without weight.
      out.weights.push_back(static_cast<float>(w));
      ++run.count;
    }
    out.runs.push_back(run);
  }
  return out;
}

double triangle(double f, double low, double centre, double high) {
  return std::max(0.0, std::min((f - low) / (centre - low), (high - f) / (high - centre)));
}

class Transform {
 public:
  explicit Transform(int n) : n_(n) {
    int left = n;
    for (const int f : {4, 2, 3, 5})
      while (left % f == 0) {
        factors_.push_back(f);
        left /= f;
      }
    if (n <= 0 || left != 1)
      throw Error("a spectrum of {} samples is not supported: expected factors 2, 3 and 5", n);
    for (int i = 0; i < n; ++i) {
      const double angle = 2 * std::numbers::pi * i / n;
      cosine_.push_back(static_cast<float>(std::cos(angle)));
      sine_.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  int size() const { return n_; }
  kernels::SpectrumTables tables() const {
    return {factors_.data(), static_cast<int>(factors_.size()), n_, cosine_.data(), sine_.data()};
  }

 private:
  int n_;
  std::vector<int> factors_;
  std::vector<float> cosine_, sine_;
};

// frame(i, at) writes sample t of frame i to at[t * kLanes]; the rest of the transform's length is
// zero. out(i, b) takes band b of frame i.
template <class Frame, class Out>
void band_powers(const Transform& transform, const Bands& bands, size_t frames, bool root,
                 const Frame& frame, const Out& out) {
  const auto& k = kernels::spectrum_kernels();
  const auto n = static_cast<size_t>(transform.size());
  const size_t bins = n / 2 + 1;
  kernels::parallel_for((frames + kLanes - 1) / kLanes, 4, [&](size_t begin, size_t end) {
    std::vector<float> re(n * kLanes), im(n * kLanes), work(2 * n * kLanes);
    float sums[kLanes];
    for (size_t block = begin; block < end; ++block) {
      std::fill(re.begin(), re.end(), 0.0f);
      std::fill(im.begin(), im.end(), 0.0f);
      const size_t first = block * kLanes, count = std::min(kLanes, frames - first);
      for (size_t l = 0; l < count; ++l) frame(first + l, re.data() + l);
      k.transform(transform.tables(), re.data(), im.data(), work.data());
      k.power(re.data(), im.data(), bins, root, work.data());
      for (size_t b = 0; b < bands.runs.size(); ++b) {
        const auto [from, offset, size] = bands.runs[b];
        k.filter(work.data() + from * kLanes, bands.weights.data() + offset, size, sums);
        for (size_t l = 0; l < count; ++l) out(first + l, b, sums[l]);
      }
    }
  });
}

std::vector<float> periodic_hann(int n) {
  std::vector<float> w;
  for (int i = 0; i < n; ++i)
    w.push_back(static_cast<float>(0.5 * (1 - std::cos(2 * std::numbers::pi * i / n))));
  return w;
}

mx::array new_features(size_t frames, int mels) {
  mx::array a = mx::zeros({static_cast<int>(frames), mels});
  a.eval();
  return a;
}

double htk_mel(double hertz) { return 2595.0 * std::log10(1.0 + hertz / 700.0); }
double htk_hertz(double mel) { return 700.0 * (std::pow(10.0, mel / 2595.0) - 1.0); }

// Slaney's scale: linear up to 1000 Hz, then logarithmic.
constexpr double kLinearStep = 200.0 / 3, kBreak = 1000.0, kBreakMel = kBreak / kLinearStep;
const double kLogStep = std::log(6.4) / 27.0;
double slaney_mel(double hertz) {
  return hertz < kBreak ? hertz / kLinearStep : kBreakMel + std::log(hertz / kBreak) / kLogStep;
}
double slaney_hertz(double mel) {
  return mel < kBreakMel ? mel * kLinearStep : kBreak * std::exp(kLogStep * (mel - kBreakMel));
}

std::vector<double> band_edges(int mels, double low, double high, double (*hertz)(double)) {
  std::vector<double> edges;
  for (int i = 0; i < mels + 2; ++i) edges.push_back(hertz(low + (high - low) * i / (mels + 1)));
  return edges;
}

}  // namespace

void Gemma3nLogMel::fields(ConfigReader& v) {
  v.maybe("feature_size", feature_size);
  v.maybe("sampling_rate", sampling_rate);
  v.maybe("frame_length", frame_length);
  v.maybe("hop_length", hop_length);
  v.maybe("fft_length", fft_length);
  v.maybe("min_frequency", min_frequency);
  v.maybe("max_frequency", max_frequency);
  v.maybe("preemphasis", preemphasis);
  v.maybe("preemphasis_htk_flavor", preemphasis_htk_flavor);
  v.maybe("input_scale_factor", input_scale_factor);
  v.maybe("mel_floor", mel_floor);
  v.maybe("per_bin_mean", per_bin_mean);
  v.maybe("per_bin_stddev", per_bin_stddev);
  float dither = 0;
  v.maybe("dither", dither);
  if (dither != 0) throw Error("{}: 'dither' is not supported, found {}", v.where(), dither);
  constexpr int kMost = 1 << 16;
  for (const auto& [key, value] :
       {std::pair("feature_size", feature_size), std::pair("frame_length", frame_length),
        std::pair("hop_length", hop_length), std::pair("fft_length", fft_length)})
    if (value <= 0 || value > kMost)
      throw Error("{}: '{}' must lie between 1 and {}, found {}", v.where(), key, kMost, value);
  if (fft_length < frame_length)
    throw Error("{}: 'fft_length' {} is less than 'frame_length' {}", v.where(), fft_length,
                frame_length);
  if (!(min_frequency >= 0 && max_frequency > min_frequency && mel_floor > 0))
    throw Error("{}: expected 0 <= min_frequency < max_frequency and mel_floor > 0", v.where());
  for (const auto* bins : {&per_bin_mean, &per_bin_stddev})
    if (!bins->empty() && bins->size() != static_cast<size_t>(feature_size))
      throw Error("{}: 'per_bin_mean' and 'per_bin_stddev' need {} numbers, found {}", v.where(),
                  feature_size, bins->size());
}

LogMel Gemma3nLogMel::operator()(std::span<const float> samples, size_t at_least) const {
  constexpr size_t kMultiple = 128;
  samples = samples.first(std::min(samples.size(), kMostSamples));
  const size_t length =
      (std::max(samples.size(), at_least) + kMultiple - 1) / kMultiple * kMultiple;
  const size_t span = static_cast<size_t>(frame_length) + 1, hop = static_cast<size_t>(hop_length);
  if (length < span)
    throw Error("a sound of {} samples is too short: expected at least {}", samples.size(), span);
  std::vector<float> wave(length);
  for (size_t i = 0; i < samples.size(); ++i) wave[i] = samples[i] * input_scale_factor;

  const size_t frames = (length - span) / hop + 1;
  const Transform transform(fft_length);
  const Bands bands = make_bands(
      band_edges(feature_size, htk_mel(min_frequency), htk_mel(max_frequency), htk_hertz),
      static_cast<size_t>(fft_length) / 2 + 1, static_cast<double>(sampling_rate) / fft_length,
      triangle);
  const auto window = periodic_hann(frame_length);
  LogMel out{new_features(frames, feature_size)};
  float* data = out.features.data<float>();
  const auto frame = [&](size_t i, float* at) {
    const float* x = wave.data() + i * hop;
    for (int t = 0; t < frame_length; ++t) {
      float y = x[t];
      if (preemphasis > 0) {
        if (!preemphasis_htk_flavor)
          y = x[t + 1] - preemphasis * x[t];
        else
          y = t == 0 ? x[0] * (1 - preemphasis) : x[t] - preemphasis * x[t - 1];
      }
      at[static_cast<size_t>(t) * kLanes] = y * window[t];
    }
  };
  band_powers(transform, bands, frames, true, frame, [&](size_t i, size_t b, float power) {
    float y = std::log(std::max(power, mel_floor));
    if (!per_bin_mean.empty()) y -= per_bin_mean[b];
    if (!per_bin_stddev.empty()) y /= per_bin_stddev[b];
    data[i * feature_size + b] = y;
  });
  out.frames = static_cast<int>(std::min(frames, (samples.size() + hop - 1) / hop));
  return out;
}

LogMel WhisperLogMel::operator()(std::span<const float> samples) const {
  constexpr int kRate = 16000, kWindow = 400, kHop = 160, kSeconds = 30;
  constexpr size_t kLength = size_t{kRate} * kSeconds, kFrames = kLength / kHop;
  constexpr int kPad = kWindow / 2;
  std::vector<float> wave(kLength + 2 * kPad);  // mirrored at both ends, the ends not repeated
  std::copy_n(samples.begin(), std::min(samples.size(), kLength), wave.begin() + kPad);
  for (int i = 0; i < kPad; ++i) {
    wave[i] = wave[2 * kPad - i];
    wave[kLength + kPad + i] = wave[kLength + kPad - 2 - i];
  }
  const Transform transform(kWindow);
  const auto weight = [](double f, double low, double centre, double high) {
    return triangle(f, low, centre, high) * 2 / (high - low);  // of equal area
  };
  const Bands bands =
      make_bands(band_edges(feature_size, slaney_mel(0), slaney_mel(kRate / 2.0), slaney_hertz),
                 kWindow / 2 + 1, static_cast<double>(kRate) / kWindow, weight);
  const auto window = periodic_hann(kWindow);
  LogMel out{new_features(kFrames, feature_size)};
  float* data = out.features.data<float>();
  band_powers(
      transform, bands, kFrames, false,
      [&](size_t i, float* at) {
        for (int t = 0; t < kWindow; ++t)
          at[static_cast<size_t>(t) * kLanes] = wave[i * kHop + t] * window[t];
      },
      [&](size_t i, size_t b, float power) {
        data[i * feature_size + b] = std::log10(std::max(power, 1e-10f));
      });
  const size_t n = kFrames * static_cast<size_t>(feature_size);
  const float floor = *std::max_element(data, data + n) - 8.0f;
  for (size_t i = 0; i < n; ++i) data[i] = (std::max(data[i], floor) + 4.0f) / 4.0f;
  out.frames = static_cast<int>(std::min(kFrames, (samples.size() + kHop - 1) / kHop));
  return out;
}

}  // namespace mlxcpp::media
