#include "training/loss_curve.h"

#include <array>
#include <cmath>
#include <string_view>

#include "vlm/media/encode_png.h"
#include "vlm/media/picture.h"

namespace mlxcpp::training {
namespace {

using Colour = std::array<uint8_t, 3>;
constexpr Colour kWhite{255, 255, 255}, kGrid{225, 225, 225}, kInk{60, 60, 60}, kBlue{31, 95, 180},
    kOrange{225, 110, 10};
constexpr int kWidth = 900, kHeight = 540, kLeft = 80, kRight = 30, kTop = 40, kBottom = 50;
constexpr int kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;

// Letters of 3 x 5 dots, the rows from the top, each three bits.
struct Glyph {
  char c;
  std::array<uint8_t, 5> rows;
};
constexpr Glyph kGlyphs[] = {
    {'0', {7, 5, 5, 5, 7}}, {'1', {2, 6, 2, 2, 7}}, {'2', {7, 1, 7, 4, 7}}, {'3', {7, 1, 3, 1, 7}},
    {'4', {5, 5, 7, 1, 1}}, {'5', {7, 4, 7, 1, 7}}, {'6', {7, 4, 7, 5, 7}}, {'7', {7, 1, 2, 2, 2}},
    {'8', {7, 5, 7, 5, 7}}, {'9', {7, 5, 7, 1, 7}}, {'.', {0, 0, 0, 0, 2}}, {'a', {0, 7, 1, 7, 7}},
    {'d', {1, 1, 7, 5, 7}}, {'e', {7, 5, 7, 4, 7}}, {'i', {2, 0, 2, 2, 2}}, {'l', {6, 2, 2, 2, 7}},
    {'n', {0, 6, 5, 5, 5}}, {'o', {0, 7, 5, 5, 7}}, {'r', {0, 7, 4, 4, 4}}, {'s', {7, 4, 7, 1, 7}},
    {'t', {2, 7, 2, 2, 3}}, {'v', {0, 5, 5, 5, 2}}, {'-', {0, 0, 7, 0, 0}}};
constexpr int kDot = 2;  // pixels a side

class Canvas {
 public:
  Canvas() : picture_(media::new_picture(kWidth, kHeight)) {
    for (int y = 0; y < kHeight; ++y)
      for (int x = 0; x < kWidth; ++x) set(x, y, kWhite);
  }
  void set(int x, int y, const Colour& c) {
    if (x < 0 || y < 0 || x >= kWidth || y >= kHeight) return;
    std::copy(c.begin(), c.end(), picture_.row(y) + 3 * x);
  }
  void line(double x0, double y0, double x1, double y1, const Colour& c, int thickness) {
    const int n = std::max(1, static_cast<int>(std::max(std::abs(x1 - x0), std::abs(y1 - y0))));
    for (int i = 0; i <= n; ++i) {
      const int x = static_cast<int>(std::lround(x0 + (x1 - x0) * i / n));
      const int y = static_cast<int>(std::lround(y0 + (y1 - y0) * i / n));
      for (int dy = 0; dy < thickness; ++dy)
        for (int dx = 0; dx < thickness; ++dx) set(x + dx, y + dy, c);
    }
  }
  static int width_of(std::string_view s) { return static_cast<int>(s.size()) * 4 * kDot - kDot; }
  void text(int x, int y, std::string_view s, const Colour& c) {
    for (const char letter : s) {
      for (const Glyph& g : kGlyphs) {
        if (g.c != letter) continue;
        for (int row = 0; row < 5; ++row)
          for (int column = 0; column < 3; ++column)
            if (g.rows[static_cast<size_t>(row)] >> (2 - column) & 1)
              for (int dy = 0; dy < kDot; ++dy)
                for (int dx = 0; dx < kDot; ++dx)
                  set(x + column * kDot + dx, y + row * kDot + dy, c);
        break;
      }
      x += 4 * kDot;
    }
  }
  const media::Picture& picture() const { return picture_; }

 private:
  media::Picture picture_;
};

// 1, 2 or 5 times a power of ten, so that `range` has about `count` of them.
double tick_step(double range, int count) {
  const double rough = range / count, power = std::pow(10, std::floor(std::log10(rough)));
  for (const double f : {1.0, 2.0, 5.0})
    if (f * power >= rough) return f * power;
  return 10 * power;
}

std::string number(double v, double step) {
  const int digits = std::clamp(static_cast<int>(-std::floor(std::log10(step))), 0, 6);
  return fmt::format("{:.{}f}", v, digits);
}

}  // namespace

void write_loss_curve(const std::filesystem::path& file, const std::vector<LossPoint>& train,
                      const std::vector<LossPoint>& valid) {
  double low = INFINITY, high = -INFINITY;
  int last = 1;
  for (const auto* curve : {&train, &valid})
    for (const LossPoint& p : *curve) {
      low = std::min(low, p.loss);
      high = std::max(high, p.loss);
      last = std::max(last, p.iteration);
    }
  if (!(low <= high)) return;
  const double margin = std::max(0.05 * (high - low), 1e-3);
  low -= margin;
  high += margin;

  Canvas canvas;
  const auto x_of = [&](double iteration) { return kLeft + iteration / last * kPlotWidth; };
  const auto y_of = [&](double loss) { return kTop + (high - loss) / (high - low) * kPlotHeight; };
  const double y_step = tick_step(high - low, 8);
  for (double v = std::ceil(low / y_step) * y_step; v <= high; v += y_step) {
    canvas.line(kLeft, y_of(v), kLeft + kPlotWidth, y_of(v), kGrid, 1);
    const auto s = number(v, y_step);
    canvas.text(kLeft - 10 - Canvas::width_of(s), static_cast<int>(y_of(v)) - 5, s, kInk);
  }
  const double x_step = std::max(1.0, tick_step(last, 10));
  for (double v = 0; v <= last; v += x_step) {
    canvas.line(x_of(v), kTop, x_of(v), kTop + kPlotHeight, kGrid, 1);
    const auto s = number(v, 1);
    canvas.text(static_cast<int>(x_of(v)) - Canvas::width_of(s) / 2, kTop + kPlotHeight + 12, s,
                kInk);
  }
  canvas.line(kLeft, kTop, kLeft, kTop + kPlotHeight, kInk, 1);
  canvas.line(kLeft, kTop + kPlotHeight, kLeft + kPlotWidth, kTop + kPlotHeight, kInk, 1);
  const auto draw = [&](const std::vector<LossPoint>& curve, const Colour& c) {
    for (size_t i = 0; i < curve.size(); ++i) {
      const LossPoint &a = curve[i > 0 ? i - 1 : 0], &b = curve[i];
      canvas.line(x_of(a.iteration), y_of(a.loss), x_of(b.iteration), y_of(b.loss), c, 2);
    }
  };
  draw(train, kBlue);
  draw(valid, kOrange);
  canvas.text(kLeft, 16, "train loss", kBlue);
  canvas.text(kLeft + 140, 16, "validation loss", kOrange);
  canvas.text(kLeft + kPlotWidth - Canvas::width_of("iterations"), kHeight - 20, "iterations",
              kInk);
  media::write_png(file, canvas.picture().rgb, kWidth, kHeight);
}

}  // namespace mlxcpp::training
