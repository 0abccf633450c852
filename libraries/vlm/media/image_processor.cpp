#include "vlm/media/image_processor.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::media {
namespace {

Size size_of(const Picture& p) { return {p.height, p.width}; }

Picture resized(const Picture& p, Size size, const PixelConfig& c) {
  return resize(p, size.width, size.height, c.resample, Backend::torchvision);
}

int positive(const ConfigReader& v, const char* key, int value) {
  constexpr int kMost = 1 << 15;
  if (value <= 0 || value > kMost)
    throw Error("{}: '{}' must lie between 1 and {}, found {}", v.where(), key, kMost, value);
  return value;
}

// "size" and its kin: an object of numbers. Calls f with a reader of it, if it is there.
template <class F>
void with_object(ConfigReader& v, const char* key, F f) {
  v.skip(key);
  const auto it = v.json().find(key);
  if (it == v.json().end() || it->is_null()) return;
  ConfigReader inner(*it, v.where() + ": " + key);
  f(inner);
}

// transformers' image_processing_idefics3.py: the longest edge becomes `longest`, the other keeps
// the proportions and is made even.
Size to_longest_edge(Size s, int longest) {
  const double ratio = static_cast<double>(s.width) / s.height;
  if (s.width >= s.height) {
    s.width = longest;
    s.height = static_cast<int>(s.width / ratio);
    s.height += s.height % 2;
  } else {
    s.height = longest;
    s.width = static_cast<int>(s.height * ratio);
    s.width += s.width % 2;
  }
  return {std::max(s.height, 1), std::max(s.width, 1)};
}

constexpr int kMaxSide = 4096;  // of a picture before it is cut into tiles

Size below_bound(Size s) {
  const double ratio = static_cast<double>(s.width) / s.height;
  if (s.width >= s.height && s.width > kMaxSide)
    s = {static_cast<int>(kMaxSide / ratio), kMaxSide};
  else if (s.height > s.width && s.height > kMaxSide)
    s = {kMaxSide, static_cast<int>(kMaxSide * ratio)};
  return {std::max(s.height, 1), std::max(s.width, 1)};
}

int round_up(int n, int to) { return (n + to - 1) / to * to; }

Size to_tiles(Size s, int tile) {
  const double ratio = static_cast<double>(s.width) / s.height;
  if (s.width >= s.height) {
    const int width = round_up(s.width, tile);
    return {round_up(static_cast<int>(width / ratio), tile), width};
  }
  const int height = round_up(s.height, tile);
  return {height, round_up(static_cast<int>(height * ratio), tile)};
}

std::vector<Picture> pan_and_scan(const SquareProcessor& c, const Picture& p) {
  const bool wide = p.width >= p.height;
  const int longer = std::max(p.width, p.height), shorter = std::min(p.width, p.height);
  const double ratio = static_cast<double>(longer) / shorter;
  if (ratio < c.pan_and_scan_min_ratio_to_activate) return {};
  int n = static_cast<int>(std::floor(ratio + 0.5));
  n = std::min(longer / c.pan_and_scan_min_crop_size, n);
  n = std::min(c.pan_and_scan_max_num_crops, std::max(2, n));
  const int side = (longer + n - 1) / n;
  if (std::min(side, shorter) < c.pan_and_scan_min_crop_size) return {};
  std::vector<Picture> crops;
  for (int i = 0; i < n; ++i) {
    const int at = side * i, length = std::min(side, longer - at);
    if (length <= 0) break;
    crops.push_back(wide ? crop(p, at, 0, length, p.height) : crop(p, 0, at, p.width, length));
  }
  return crops;
}

}  // namespace

void PixelConfig::fields(ConfigReader& v) {
  v.maybe("do_resize", do_resize);
  v.maybe("do_rescale", do_rescale);
  v.maybe("do_normalize", do_normalize);
  v.maybe("rescale_factor", rescale_factor);
  v.maybe("image_mean", image_mean);
  v.maybe("image_std", image_std);
  int number = static_cast<int>(resample);
  constexpr int kNumbers[] = {0, 2, 3, 1};  // of Filter's members
  number = kNumbers[number];
  v.maybe("resample", number);
  resample = filter_from_number(number, v.where());
  if (image_mean.size() != 3 || image_std.size() != 3)
    throw Error("{}: 'image_mean' and 'image_std' must have 3 numbers each, found {} and {}",
                v.where(), image_mean.size(), image_std.size());
  for (const float s : image_std)
    if (!(s > 0)) throw Error("{}: 'image_std' must be positive, found {}", v.where(), s);
  if (!(rescale_factor > 0))
    throw Error("{}: 'rescale_factor' must be positive, found {}", v.where(), rescale_factor);
}

PixelConfig::Table PixelConfig::table() const {
  Table t;
  const float unit = do_rescale && do_normalize ? 1.0f / rescale_factor : 1.0f;
  for (size_t c = 0; c < 3; ++c) {
    const float mean = image_mean[c] * unit, deviation = image_std[c] * unit;
    for (int i = 0; i < 256; ++i) {
      const auto x = static_cast<float>(i);
      t[c][i] = do_normalize ? (x - mean) / deviation : do_rescale ? x * rescale_factor : x;
    }
  }
  return t;
}

mx::array to_floats(std::span<const Picture> pictures, const PixelConfig& config) {
  const int n = static_cast<int>(pictures.size());
  if (n == 0) throw Error("there is no picture to process");
  const int h = pictures[0].height, w = pictures[0].width;
  for (const Picture& p : pictures)
    if (p.height != h || p.width != w)
      throw Error("pictures of one call must have one size, found {} x {} and {} x {}", w, h,
                  p.width, p.height);
  const auto table = config.table();
  mx::array out = mx::zeros({n, 3, h, w});
  out.eval();
  float* data = out.data<float>();
  const size_t plane = static_cast<size_t>(h) * w;
  kernels::parallel_for(static_cast<size_t>(n) * h, 16, [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      const size_t i = r / h, y = r % h;
      const uint8_t* from = pictures[i].row(static_cast<int>(y));
      for (size_t c = 0; c < 3; ++c) {
        float* to = data + (i * 3 + c) * plane + y * w;
        for (int x = 0; x < w; ++x) to[x] = table[c][from[3 * x + c]];
      }
    }
  });
  return out;
}

void SquareProcessor::fields(ConfigReader& v) {
  PixelConfig::fields(v);
  with_object(v, "size", [&](ConfigReader& size) {
    size.need("height", height);
    size.need("width", width);
    positive(size, "height", height);
    positive(size, "width", width);
  });
  v.maybe("do_pan_and_scan", do_pan_and_scan);
  v.maybe("pan_and_scan_min_crop_size", pan_and_scan_min_crop_size);
  v.maybe("pan_and_scan_max_num_crops", pan_and_scan_max_num_crops);
  v.maybe("pan_and_scan_min_ratio_to_activate", pan_and_scan_min_ratio_to_activate);
  positive(v, "pan_and_scan_min_crop_size", pan_and_scan_min_crop_size);
  positive(v, "pan_and_scan_max_num_crops", pan_and_scan_max_num_crops);
  bool centre_crop = false;
  v.maybe("do_center_crop", centre_crop);
  if (centre_crop) throw Error("{}: 'do_center_crop' is not supported here", v.where());
}

Pixels SquareProcessor::operator()(const Picture& picture) const {
  std::vector<Picture> all = {picture};
  if (do_pan_and_scan)
    for (Picture& crop : pan_and_scan(*this, picture)) all.push_back(std::move(crop));
  if (do_resize)
    for (Picture& p : all) p = resized(p, {height, width}, *this);
  else if (picture.width != width || picture.height != height)
    throw Error(
        "the model takes pictures of {} x {} and its processor does not resize, found {} x {}",
        width, height, picture.width, picture.height);
  return {.values = to_floats(all, *this), .crops = static_cast<int>(all.size()) - 1};
}

void TileProcessor::fields(ConfigReader& v) {
  PixelConfig::fields(v);
  with_object(v, "size", [&](ConfigReader& size) {
    size.need("longest_edge", longest_edge);
    positive(size, "longest_edge", longest_edge);
  });
  with_object(v, "max_image_size", [&](ConfigReader& size) {
    size.need("longest_edge", tile);
    positive(size, "longest_edge", tile);
  });
  v.maybe("do_image_splitting", do_image_splitting);
}

Size tile_grid(Size size, int longest_edge, int tile) {
  const Size s = to_tiles(below_bound(to_longest_edge(size, longest_edge)), tile);
  if (s.height <= tile && s.width <= tile) return {};
  return {s.height / tile, s.width / tile};
}

Pixels TileProcessor::operator()(const Picture& picture) const {
  Picture whole = picture;
  if (do_resize)
    whole = resized(whole, below_bound(to_longest_edge(size_of(picture), longest_edge)), *this);
  if (!do_image_splitting) {
    whole = resized(whole, {tile, tile}, *this);
    return {.values = to_floats(std::span(&whole, 1), *this)};
  }
  whole = resized(whole, to_tiles(size_of(whole), tile), *this);
  std::vector<Picture> all;
  int rows = 0, cols = 0;
  if (whole.height > tile || whole.width > tile) {
    rows = whole.height / tile;
    cols = whole.width / tile;
    for (int y = 0; y < rows; ++y)
      for (int x = 0; x < cols; ++x) all.push_back(crop(whole, x * tile, y * tile, tile, tile));
  }
  all.push_back(resized(whole, {tile, tile}, *this));
  return {.values = to_floats(all, *this), .rows = rows, .cols = cols};
}

Picture TileProcessor::whole(const Picture& frame) const {
  if (!do_resize) return resized(frame, {tile, tile}, *this);
  const Size size = to_longest_edge(size_of(frame), std::min(kMaxSide, longest_edge));
  return resized(resized(frame, size, *this), {tile, tile}, *this);
}

Pixels TileProcessor::film(std::span<const Picture> frames) const {
  std::vector<Picture> all;
  for (const Picture& frame : frames) all.push_back(whole(frame));
  return {.values = to_floats(all, *this)};
}

void PatchProcessor::fields(ConfigReader& v) {
  PixelConfig::fields(v);
  with_object(v, "size", [&](ConfigReader& size) {
    size.maybe("shortest_edge", min_pixels);
    size.maybe("longest_edge", max_pixels);
  });
  v.maybe("min_pixels", min_pixels);
  v.maybe("max_pixels", max_pixels);
  v.maybe("patch_size", patch_size);
  v.maybe("merge_size", merge_size);
  v.maybe("temporal_patch_size", temporal_patch_size);
  constexpr int kMostPatch = 256;
  for (const auto& [key, value] :
       {std::pair("patch_size", patch_size), std::pair("merge_size", merge_size),
        std::pair("temporal_patch_size", temporal_patch_size)})
    if (value <= 0 || value > kMostPatch)
      throw Error("{}: '{}' must lie between 1 and {}, found {}", v.where(), key, kMostPatch,
                  value);
  if (min_pixels <= 0 || max_pixels < min_pixels)
    throw Error("{}: expected 0 < min_pixels <= max_pixels, found {} and {}", v.where(), min_pixels,
                max_pixels);
}

Size smart_resize(Size size, int factor, int min_pixels, int max_pixels) {
  const double h = size.height, w = size.width;
  constexpr double kMaxRatio = 200;
  if (std::max(h, w) / std::min(h, w) > kMaxRatio)
    throw Error("a picture of {} x {} is too long: its sides may differ by a factor of {}",
                size.width, size.height, kMaxRatio);
  // To the nearest multiple, halves to the even one, as Python's round.
  double height = std::nearbyint(h / factor) * factor, width = std::nearbyint(w / factor) * factor;
  if (height * width > max_pixels) {
    const double beta = std::sqrt(h * w / max_pixels);
    height = std::max<double>(factor, std::floor(h / beta / factor) * factor);
    width = std::max<double>(factor, std::floor(w / beta / factor) * factor);
  } else if (height * width < min_pixels) {
    const double beta = std::sqrt(min_pixels / (h * w));
    height = std::ceil(h * beta / factor) * factor;
    width = std::ceil(w * beta / factor) * factor;
  }
  return {static_cast<int>(height), static_cast<int>(width)};
}

Pixels PatchProcessor::operator()(std::span<const Picture> given) const {
  if (given.empty()) throw Error("there is no frame to process");
  const int factor = patch_size * merge_size;
  std::vector<Picture> frames;
  for (const Picture& p : given) {
    if (size_of(p) != size_of(given[0])) throw Error("the frames of a film must have one size");
    const Size size =
        do_resize ? smart_resize(size_of(p), factor, min_pixels, max_pixels) : size_of(p);
    if (size.height % factor != 0 || size.width % factor != 0)
      throw Error("expected a picture whose sides are multiples of {}, found {} x {}", factor,
                  size.width, size.height);
    frames.push_back(resized(p, size, *this));
  }
  const int t = (static_cast<int>(frames.size()) + temporal_patch_size - 1) / temporal_patch_size;
  const int gh = frames[0].height / patch_size, gw = frames[0].width / patch_size;
  const auto table = this->table();
  const size_t patch = static_cast<size_t>(patch_size) * patch_size;
  const size_t length = 3 * temporal_patch_size * patch;
  mx::array out = mx::zeros({t * gh * gw, static_cast<int>(length)});
  out.eval();
  float* data = out.data<float>();
  // A row of merged tokens at a time: merge_size rows of patches, in the order block, row, column.
  const int bands = gh / merge_size, blocks = gw / merge_size;
  kernels::parallel_for(static_cast<size_t>(t) * bands, 1, [&](size_t begin, size_t end) {
    for (size_t band = begin; band < end; ++band) {
      const int time = static_cast<int>(band) / bands, y0 = static_cast<int>(band) % bands;
      float* to = data + band * blocks * merge_size * merge_size * length;
      for (int block = 0; block < blocks; ++block)
        for (int down = 0; down < merge_size; ++down)
          for (int across = 0; across < merge_size; ++across, to += length) {
            const int top = (y0 * merge_size + down) * patch_size;
            const int left = (block * merge_size + across) * patch_size;
            for (int f = 0; f < temporal_patch_size; ++f) {
              const size_t frame =
                  std::min(frames.size() - 1, static_cast<size_t>(time) * temporal_patch_size + f);
              for (int y = 0; y < patch_size; ++y) {
                const uint8_t* from = frames[frame].row(top + y) + size_t{3} * left;
                for (size_t c = 0; c < 3; ++c) {
                  float* row = to + (c * temporal_patch_size + f) * patch + y * patch_size;
                  for (int x = 0; x < patch_size; ++x) row[x] = table[c][from[3 * x + c]];
                }
              }
            }
          }
    }
  });
  return {.values = out, .grid = {t, gh, gw}};
}

}  // namespace mlxcpp::media
