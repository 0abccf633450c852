// Pictures in every format, against what Pillow makes of the same files (tests/golden/clips, made
// by tests/scripts/make_media_files.py), and broken ones.
#include "vlm/media/picture.h"

#include <cstring>

#include <gtest/gtest.h>
#include <zlib.h>

#include "core/json.h"
#include "core/mapped_file.h"
#include "support/throws.h"
#include "tests/support/paths.h"

namespace mlxcpp::media {
namespace {

using test::error_of;
using ::testing::HasSubstr;

const std::filesystem::path kClips = test::golden_folder() / "clips";

std::vector<std::byte> bytes_of(const std::string& name) {
  return read_bytes(kClips / name, 1 << 20);
}

TEST(Picture, EveryFormatAsPillowReadsIt) {
  const Json all = read_json(kClips / "pictures.json");
  EXPECT_GE(all.size(), 20u);
  for (const auto& [name, want] : all.items()) {
    SCOPED_TRACE(name);
    const Picture p = read_picture(kClips / name);
    EXPECT_EQ(p.width, want["width"].get<int>());
    EXPECT_EQ(p.height, want["height"].get<int>());
    if (name.ends_with(".jpg")) continue;  // decoders differ by a step
    EXPECT_EQ(crc32(0, p.rgb.data(), static_cast<uInt>(p.rgb.size())),
              want["crc32"].get<uint64_t>());
  }
}

// At whatever byte a file ends: an Error of one line or, where only what follows the pixels is
// missing, a picture; never anything else.
TEST(Picture, CutShort) {
  for (const char* name :
       {"lossless.webp", "plain.gif", "rgb.tiff", "deflate.tiff", "exif6.png", "cmyk.jpg"}) {
    SCOPED_TRACE(name);
    const auto whole = bytes_of(name);
    for (size_t n = 0; n < whole.size(); n += 1 + n / 40) {
      try {
        decode_picture(std::span(whole).first(n), name);
      } catch (const Error& e) {
        EXPECT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos);
      }
    }
    EXPECT_THAT(error_of([&] { decode_picture(std::span(whole).first(whole.size() / 2), name); }),
                HasSubstr(name));
  }
}

TEST(Picture, NotAPicture) {
  const std::string text = "hello, world";
  EXPECT_THAT(error_of([&] { decode_picture(std::as_bytes(std::span(text)), "hello.png"); }),
              HasSubstr("hello.png: expected a picture"));
  EXPECT_THAT(error_of([&] { decode_picture({}, "nothing"); }), HasSubstr("found nothing"));
  EXPECT_THAT(error_of([&] { read_picture(kClips / "none.png"); }), HasSubstr("none.png"));
}

// The declared size is checked before a pixel is decoded.
TEST(Picture, TooLarge) {
  for (const char* name : {"lossless.webp", "plain.gif", "rgb.tiff", "exif1.png", "cmyk.jpg"})
    EXPECT_THAT(error_of([&] { read_picture(kClips / name, {.max_pixels = 20}); }),
                HasSubstr("limit of 20"))
        << name;
  auto png = bytes_of("exif1.png");
  const uint8_t huge[8] = {0, 0xf0, 0, 0, 0, 0xf0, 0, 0};
  std::memcpy(png.data() + 16, huge, 8);
  const uLong crc = crc32(0, reinterpret_cast<const Bytef*>(png.data()) + 12, 17);
  for (int i = 0; i < 4; ++i) png[29 + i] = static_cast<std::byte>(crc >> (24 - 8 * i));
  EXPECT_THAT(error_of([&] { decode_picture(png, "huge"); }), HasSubstr("more than the limit"));
}

}  // namespace
}  // namespace mlxcpp::media
