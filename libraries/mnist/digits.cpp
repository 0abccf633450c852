#include "mnist/digits.h"

#include <cmath>

#include "core/error.h"

#include "vlm/media/resize.h"

namespace mlxcpp::mnist {
namespace {

constexpr int kSide = 28, kInk = 20;
constexpr int kVisible = 64;  // lighter pixels belong to the digit

struct Grey {
  int width, height;
  std::vector<int> values;
  int at(int x, int y) const { return values[static_cast<size_t>(y) * width + x]; }
};

Grey to_grey(const media::Picture& p) {
  Grey g{p.width, p.height, {}};
  for (size_t i = 0; i < p.rgb.size(); i += 3)  // ITU-R 601
    g.values.push_back((299 * p.rgb[i] + 587 * p.rgb[i + 1] + 114 * p.rgb[i + 2]) / 1000);
  return g;
}

// The ground is what the border shows.
bool light_ground(const Grey& g) {
  int64_t sum = 0, count = 0;
  for (int y = 0; y < g.height; ++y)
    for (int x = 0; x < g.width; ++x)
      if (x == 0 || y == 0 || x == g.width - 1 || y == g.height - 1) sum += g.at(x, y), ++count;
  return sum > 127 * count;
}

struct Box {
  int left, top, right, bottom;  // right and bottom are outside
};

Box ink(const Grey& g, std::string_view where) {
  Box b{g.width, g.height, 0, 0};
  for (int y = 0; y < g.height; ++y)
    for (int x = 0; x < g.width; ++x)
      if (g.at(x, y) >= kVisible)
        b = {std::min(b.left, x), std::min(b.top, y), std::max(b.right, x + 1),
             std::max(b.bottom, y + 1)};
  if (b.right == 0) throw Error("{}: there is no digit to be seen", where);
  return b;
}

media::Picture as_picture(const Grey& g) {
  auto p = media::new_picture(g.width, g.height);
  for (size_t i = 0; i < g.values.size(); ++i)
    std::fill_n(p.rgb.begin() + static_cast<std::ptrdiff_t>(3 * i), 3,
                static_cast<uint8_t>(g.values[i]));
  return p;
}

}  // namespace

mx::array digit(const media::Picture& picture, std::string_view where) {
  Grey g = to_grey(picture);
  if (light_ground(g))
    for (int& v : g.values) v = 255 - v;
  const Box b = ink(g, where);
  if (g.width != kSide || g.height != kSide) {
    const int w = b.right - b.left, h = b.bottom - b.top;
    const double scale = static_cast<double>(kInk) / std::max(w, h);
    const auto scaled = [&](int n) {
      return std::max(1, static_cast<int>(std::lround(n * scale)));
    };
    const Grey small = to_grey(media::resize(media::crop(as_picture(g), b.left, b.top, w, h),
                                             scaled(w), scaled(h), media::Filter::bilinear));
    double mass = 0, cx = 0, cy = 0;
    for (int y = 0; y < small.height; ++y)
      for (int x = 0; x < small.width; ++x)
        mass += small.at(x, y), cx += small.at(x, y) * (x + 0.5), cy += small.at(x, y) * (y + 0.5);
    const auto place = [&](double moment, int size) {
      const auto at = static_cast<int>(std::lround(kSide / 2.0 - (mass > 0 ? moment / mass : 0)));
      return std::clamp(at, 0, kSide - size);
    };
    const int left = place(cx, small.width), top = place(cy, small.height);
    g = {kSide, kSide, std::vector<int>(kSide * kSide)};
    for (int y = 0; y < small.height; ++y)
      for (int x = 0; x < small.width; ++x)
        g.values[static_cast<size_t>(top + y) * kSide + left + x] = small.at(x, y);
  }
  const std::vector<uint8_t> bytes(g.values.begin(), g.values.end());
  return mx::array(bytes.data(), {1, kSide, kSide, 1}, mx::uint8);
}

}  // namespace mlxcpp::mnist
