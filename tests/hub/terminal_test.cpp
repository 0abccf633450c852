#include "support/terminal.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "hub/fake_hub.h"

namespace mlxcpp::test {
namespace {

using tools::progress_bar;
using tools::progress_line;
using tools::Terminal;

const Progress kHalf{"model.safetensors", 137000000, 274000000, 10000000, false};

// What a display wrote while it was told the steps.
std::string shown(const Terminal& terminal, const std::vector<uint64_t>& steps, uint64_t total) {
  std::FILE* file = std::tmpfile();
  {
    const auto show = progress_bar(file, terminal);
    for (const uint64_t done : steps) show({"f", done, total, 0, false});
  }
  std::string text(static_cast<size_t>(std::ftell(file)), '\0');
  EXPECT_EQ(std::fseek(file, 0, SEEK_SET), 0);
  EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
  std::fclose(file);
  return text;
}

TEST(ProgressLine, ShowsShareSizesSpeedAndTimeLeft) {
  EXPECT_EQ(progress_line(kHalf, 0, false),
            "model.safetensors   50%  137.0 MB of 274.0 MB  10.0 MB/s  0:14 left");
  EXPECT_EQ(progress_line(kHalf, 100, false),
            "model.safetensors  " + std::string(13, '#') + std::string(13, '-') +
                "   50%  137.0 MB of 274.0 MB  10.0 MB/s  0:14 left");
}

TEST(ProgressLine, FitsEveryWidth) {
  for (const Progress& p : {kHalf, Progress{"f", 5, 0, 3, false}, Progress{"", 0, 1, 0, false},
                            Progress{std::string(300, 'n'), 1, 3, 1e-9, false}})
    for (int width = 1; width < 200; ++width)
      EXPECT_LE(progress_line(p, width, false).size(), static_cast<size_t>(width));
}

TEST(ProgressLine, DropsWhatIsLeastUseful) {
  EXPECT_EQ(progress_line(kHalf, 4, false), " 50%");
  EXPECT_EQ(progress_line(kHalf, 28, false), " 50%  137.0 MB of 274.0 MB");
  EXPECT_EQ(progress_line({"f", 137000000, 0, 0, false}, 40, false), "f  137.0 MB");
}

TEST(ProgressLine, ColoursTheBarOnlyWhenAsked) {
  EXPECT_NE(progress_line(kHalf, 100, true).find("\x1b[32m"), std::string::npos);
  EXPECT_EQ(progress_line(kHalf, 100, false).find('\x1b'), std::string::npos);
}

TEST(ProgressBar, RedrawsOneLineOnATerminal) {
  const std::string text =
      shown({.interactive = true, .colour = false, .width = 40}, {0, 5, 10}, 10);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\r'), 3);
  EXPECT_EQ(shown({.interactive = true}, {}, 10), "");
}

TEST(ProgressBar, WritesALineForEachTenthElsewhere) {
  std::vector<uint64_t> steps;
  for (uint64_t i = 0; i <= 1000; ++i) steps.push_back(i);
  const std::string text = shown({}, steps, 1000);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 11);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_TRUE(text.ends_with("f  100%  1.0 kB of 1.0 kB\n")) << text;
}

TEST(ProgressBar, EndsWithTheDownload) {
  std::FILE* file = std::tmpfile();
  const auto show = progress_bar(file, {.interactive = true, .colour = false, .width = 40});
  show({"f", 10, 10, 0, true});
  EXPECT_EQ(std::fseek(file, -1, SEEK_CUR), 0);
  EXPECT_EQ(std::fgetc(file), '\n');
  std::fclose(file);
}

TEST(ProgressBar, WritesFewLinesWhenTheTotalIsUnknown) {
  std::vector<uint64_t> steps;
  for (uint64_t i = 0; i < 100; ++i) steps.push_back(i << 20);
  const std::string text = shown({}, steps, 0);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
}

TEST(Terminal, AFileIsNone) {
  std::FILE* file = std::tmpfile();
  const Terminal terminal = tools::terminal_of(file);
  EXPECT_FALSE(terminal.interactive);
  EXPECT_FALSE(terminal.colour);
  std::fclose(file);
}

}  // namespace
}  // namespace mlxcpp::test
