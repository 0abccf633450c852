// Sound and films (tests/golden/clips, made by tests/scripts/make_media_files.py).
#include "vlm/media/sound.h"

#include <cmath>

#include <gtest/gtest.h>

#include "support/temp_folder.h"
#include "support/throws.h"
#include "tests/support/paths.h"
#include "vlm/media/film.h"
#include "vlm/media/log_mel.h"

namespace mlxcpp::media {
namespace {

using test::error_of;
using ::testing::HasSubstr;

const std::filesystem::path kClips = test::golden_folder() / "clips";

TEST(Sound, LosslessIsExact) {
  const Sound s = read_sound(kClips / "sine.flac");
  ASSERT_EQ(s.rate, 16000);
  ASSERT_EQ(s.samples.size(), 4800u);
  for (size_t i = 0; i < s.samples.size(); ++i)
    ASSERT_EQ(s.samples[i], std::trunc(std::sin(static_cast<double>(i) * 0.05) * 20000) / 32768);
}

TEST(Sound, TooLongBrokenOrNone) {
  EXPECT_THAT(error_of([] { read_sound(kClips / "sine.flac", {.max_seconds = 0.1}); }),
              HasSubstr("limit of 0.1 s"));
  EXPECT_THAT(error_of([] { read_sound(kClips / "constant.mkv"); }), HasSubstr("expected a sound"));
  EXPECT_THAT(error_of([] { read_sound(kClips / "plain.gif"); }), HasSubstr("expected a sound"));
  EXPECT_THAT(error_of([] { Gemma3nLogMel()(std::vector<float>(10)); }), HasSubstr("too short"));
  const auto whole = read_bytes(kClips / "sine.flac", 1 << 20);
  for (size_t n = 0; n < whole.size(); n += 1 + n / 20) {
    try {
      decode_sound(std::span(whole).first(n), "cut.flac");
    } catch (const Error& e) {
      EXPECT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos);
    }
  }
}

// A playlist, a list of files or a reference opens nothing.
TEST(Sound, PlaylistsAreNoSound) {
  const test::TempFolder folder;
  const std::string file = (kClips / "sine.flac").string();
  const auto m3u8 = folder.write(
      "a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n" + file + "\n#EXT-X-ENDLIST\n");
  const auto concat = folder.write("a.ffconcat", "ffconcat version 1.0\nfile '" + file + "'\n");
  for (const auto& path : {m3u8, concat}) {
    EXPECT_THAT(error_of([&] { read_sound(path); }), HasSubstr("found something else"));
    EXPECT_THAT(error_of([&] { Film::open(path); }), HasSubstr("found something else"));
  }
}

Picture frame(int i) {
  Picture p = new_picture(24, 16);
  for (int y = 0; y < 16; ++y)
    for (int x = 0; x < 24; ++x) {
      uint8_t* to = p.row(y) + 3 * x;
      to[0] = static_cast<uint8_t>(10 * x), to[1] = static_cast<uint8_t>(15 * y),
      to[2] = static_cast<uint8_t>(40 * i + 20);
    }
  return p;
}

TEST(Film, FramesAndTimes) {
  for (const char* name : {"constant.mkv", "variable.mkv"}) {
    SCOPED_TRACE(name);
    Film film = Film::open(kClips / name);
    ASSERT_EQ(film.frames(), 6);
    for (int i = 0; i < 6; ++i) {
      const double want = std::string(name) == "variable.mkv" ? (i + i * i) / 10.0 : i / 10.0;
      EXPECT_NEAR(film.times()[i], want, 1e-3);
    }
    for (int again = 0; again < 2; ++again) {  // from the start each time
      const std::vector<int> numbers = {0, 2, 5};
      size_t n = 0;
      film.read(numbers, [&](const Picture& p) { EXPECT_EQ(p.rgb, frame(numbers[n++]).rgb); });
      EXPECT_EQ(n, 3u);
    }
  }
}

TEST(Film, TurnedAsTheFileSays) {
  Film film = Film::open(kClips / "rotated.mov");
  ASSERT_EQ(film.frames(), 6);
  film.read(std::vector<int>{1}, [&](const Picture& p) {
    ASSERT_EQ(p.width, 16);
    ASSERT_EQ(p.height, 24);
    const Picture want = frame(1);
    for (int y = 0; y < 24; ++y)  // a quarter turn clockwise
      for (int x = 0; x < 16; ++x) ASSERT_EQ(p.row(y)[3 * x + 1], want.row(15 - x)[3 * y + 1]);
  });
}

TEST(Film, Refuses) {
  EXPECT_THAT(error_of([] { Film::open(kClips / "constant.mkv", {.max_frames = 3}); }),
              HasSubstr("limit of 3"));
  EXPECT_THAT(error_of([] { Film::open(kClips / "constant.mkv", {.max_pixels = 100}); }),
              HasSubstr("24 x 16 pixels are more than the limit of 100"));
  EXPECT_THAT(error_of([] { Film::open(kClips / "sine.flac"); }), HasSubstr("expected a film"));
}

TEST(Film, Sampling) {
  const FilmSampling qwen;
  EXPECT_EQ(qwen.uniform(30, 10), (std::vector<int>{0, 5, 10, 15, 20, 25}));
  EXPECT_EQ(qwen.uniform(6, 10), (std::vector<int>{0, 1, 3, 4}));
  EXPECT_THAT(error_of([&] { qwen.uniform(1, 10); }), HasSubstr("has 1 frames"));
  EXPECT_EQ(spread_frames(30, 10, 1, 64), (std::vector<int>{0, 14, 29}));
  EXPECT_EQ(spread_frames(1, 10, 1, 64), (std::vector<int>{0}));
}

}  // namespace
}  // namespace mlxcpp::media
