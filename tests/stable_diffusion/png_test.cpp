#include "stable_diffusion/png.h"

#include <png.h>

#include <cstring>

#include "support/temp_folder.h"
#include "support/throws.h"

namespace mlxcpp::sd {
namespace {

using mlxcpp::test::error_of;
using mlxcpp::test::read_all;
using mlxcpp::test::TempFolder;
using ::testing::HasSubstr;

std::vector<uint8_t> decoded(const std::filesystem::path& file, int& width, int& height) {
  png_image image;
  std::memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  EXPECT_TRUE(png_image_begin_read_from_file(&image, file.c_str())) << image.message;
  image.format = PNG_FORMAT_RGB;
  std::vector<uint8_t> pixels(PNG_IMAGE_SIZE(image));
  EXPECT_TRUE(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr)) << image.message;
  width = static_cast<int>(image.width);
  height = static_cast<int>(image.height);
  return pixels;
}

TEST(Png, RoundTripAndSameBytes) {
  const TempFolder folder;
  const auto pixels = mx::reshape(mx::astype(mx::arange(5 * 7 * 3), mx::uint8), {5, 7, 3});
  // Strided, as well as dense.
  for (const auto& x : {pixels, mx::transpose(pixels, {1, 0, 2})}) {
    write_png(folder / "a.png", x);
    write_png(folder / "b.png", x);
    EXPECT_EQ(read_all(folder / "a.png"), read_all(folder / "b.png"));
    int width = 0, height = 0;
    const auto got = decoded(folder / "a.png", width, height);
    ASSERT_EQ(width, x.shape(1));
    ASSERT_EQ(height, x.shape(0));
    EXPECT_TRUE(mx::array_equal(mx::array(got.data(), x.shape(), mx::uint8), x).item<bool>());
  }
}

TEST(Png, TextEntries) {
  const TempFolder folder;
  write_png(folder / "a.png", mx::zeros({1, 1, 3}, mx::uint8),
            {{"parameters", "ein Würfel\nSteps: 4"}, {"Software", "test"}});
  const std::string bytes = read_all(folder / "a.png");
  EXPECT_THAT(bytes, HasSubstr("iTXtparameters"));
  EXPECT_THAT(bytes, HasSubstr("ein Würfel\nSteps: 4"));
}

TEST(Png, Errors) {
  const TempFolder folder;
  const auto pixels = mx::zeros({2, 2, 3}, mx::uint8);
  EXPECT_THAT(error_of([&] { write_png(folder / "no/a.png", pixels); }), HasSubstr("no/a.png"));
  EXPECT_THAT(error_of([&] { write_png(folder.path(), pixels); }),
              HasSubstr(folder.path().string()));
  EXPECT_THAT(error_of([&] { write_png(folder / "a.png", mx::zeros({2, 2, 4}, mx::uint8)); }),
              HasSubstr("[2, 2, 4]"));
  EXPECT_THAT(error_of([&] { write_png(folder / "a.png", pixels, {{"", "empty key"}}); }),
              HasSubstr("a.png"));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.png"));
  EXPECT_THAT(error_of([&] { check_writable(folder / "no/a.png"); }), HasSubstr("no/a.png"));
  EXPECT_THAT(error_of([&] { check_writable(folder.path()); }), HasSubstr("is a folder"));
  EXPECT_THAT(error_of([&] { check_writable(""); }), HasSubstr("empty"));
  check_writable(folder / "a.png");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "nothing is left behind";
}

TEST(Grid, FramesRowByRow) {
  const auto floats =
      mx::ones({3, 4, 6, 3}) * mx::reshape(mx::array({0.2f, 0.6f, 1.0f}), {3, 1, 1, 1});
  const auto images = to_pixels(floats);
  const auto x = grid(images, 2);
  ASSERT_EQ(x.shape(), (mx::Shape{2 * 20, 2 * 22, 3}));
  const auto at = [&](int row, int column) {
    return mx::slice(x, {row, column, 0}, {row + 1, column + 1, 1}).item<uint8_t>();
  };
  EXPECT_EQ(at(0, 0), 0) << "frame";
  EXPECT_EQ(at(8, 8), 51);
  EXPECT_EQ(at(8, 22 + 8), 153);
  EXPECT_EQ(at(20 + 8, 8), 255);
  EXPECT_EQ(at(20 + 8, 22 + 8), 0) << "no picture";
  EXPECT_THAT(error_of([&] { grid(images, 0); }), HasSubstr("rows"));
  EXPECT_THAT(error_of([&] { grid(images, 4); }), HasSubstr("rows"));
  EXPECT_THAT(error_of([&] { grid(floats, 2); }), HasSubstr("uint8"));
}

TEST(Grid, SizeIsKnownBefore) {
  for (const auto& [count, rows] : {std::pair(1, 1), {3, 2}, {5, 1}, {5, 5}, {7, 3}}) {
    const auto x = grid(mx::zeros({count, 4, 6, 3}, mx::uint8), rows);
    const auto [height, width] = grid_size(count, 4, 6, rows);
    EXPECT_EQ(x.shape(), (mx::Shape{static_cast<int>(height), static_cast<int>(width), 3}));
  }
  EXPECT_THAT(error_of([] { grid_size(2, 4, 6, 3); }), HasSubstr("rows"));
}

// What check_png_size lets pass can be written, and no more.
TEST(Png, MostPixelsASide) {
  const TempFolder folder;
  const auto file = folder / "a.png";
  const int most = media::kMostPngEdge;
  for (const auto& [height, width] : {std::pair(1, most), {most, 1}}) {
    EXPECT_NO_THROW(check_png_size(file, height, width));
    write_png(file, mx::zeros({height, width, 3}, mx::uint8));
    EXPECT_TRUE(std::filesystem::remove(file));
  }
  for (const auto& [height, width] : {std::pair(1, most + 1), {most + 1, 1}}) {
    EXPECT_THAT(error_of([&] { check_png_size(file, height, width); }),
                HasSubstr(fmt::format("{} x {} pixels", width, height)));
    EXPECT_THAT(error_of([&] { write_png(file, mx::zeros({height, width, 3}, mx::uint8)); }),
                HasSubstr("a.png"));
  }
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST(Grid, PixelsAreRoundedToTheNearest) {
  auto x =
      to_pixels(mx::array({-1.0f, 0.0f, 0.4999f / 255, 0.5001f / 255, 254.6f / 255, 1.0f, 7.0f}));
  x.eval();
  const std::vector<uint8_t> want = {0, 0, 0, 1, 255, 255, 255};
  EXPECT_EQ(std::vector<uint8_t>(x.data<uint8_t>(), x.data<uint8_t>() + x.size()), want);
}

}  // namespace
}  // namespace mlxcpp::sd
