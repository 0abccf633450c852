// The small tools as their users run them.
#include <sys/wait.h>

#include <cstdlib>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/temp_folder.h"
#include "tests/support/paths.h"
#include "tests/support/shell.h"

namespace mlxcpp {
namespace {

using test::read_all;
using test::TempFolder;
using ::testing::HasSubstr;

struct SmallTools : ::testing::Test {
  test::Outcome run(const std::string& tool, const std::string& arguments) const {
    return test::shell(fmt::format("'{}' {}", test::tool(tool), arguments), folder, "2>&1");
  }
  static float last_number(const std::string& text, const std::string& after) {
    return std::stof(text.substr(text.rfind(after) + after.size()));
  }

  TempFolder folder;
};

TEST_F(SmallTools, LinearModelFindsTheLine) {
  for (const char* compile : {"", " --compile"}) {
    const auto o = run("linear-model-training", std::string("--m 2 --b -1 --epochs 60") + compile);
    ASSERT_EQ(o.status, 0) << o.out;
    EXPECT_THAT(o.out, HasSubstr("target: m = 2, b = -1"));
    EXPECT_LT(last_number(o.out, "loss:"), 1e-2f) << compile;
  }
}

TEST_F(SmallTools, NumbersThatAreTooSmall) {
  for (const auto& [tool, option] :
       {std::pair("linear-model-training", "--batch-size"), std::pair("curve-fit", "--steps"),
        std::pair("heat-transfer", "--steps"), std::pair("mandelbrot", "--iterations"),
        std::pair("mnist-tool train", "--epochs")})
    for (const char* value : {"0", "-1", "nan", "many"}) {
      const std::string name = std::string(tool).substr(0, std::string(tool).find(' '));
      const auto o =
          run(name, std::string(tool).substr(name.size()) + fmt::format(" {} {}", option, value));
      EXPECT_EQ(o.status, 2) << o.out;
      EXPECT_THAT(o.out, HasSubstr(fmt::format("{}: expected a number above 0, found '{}'", option,
                                               value)));
    }
}

TEST_F(SmallTools, CurveFitComesNearLeastSquares) {
  const auto o = run("curve-fit", "--steps 400");
  ASSERT_EQ(o.status, 0) << o.out;
  const float least = last_number(o.out, "least squares: loss");
  EXPECT_LT(last_number(o.out.substr(0, o.out.find("least squares:")), "loss"), least + 0.05f);
}

TEST_F(SmallTools, HeatSettles) {
  const auto picture = folder / "heat.png";
  const auto o = run("heat-transfer", "--size 17 --steps 5000 --output '" + picture.string() + "'");
  ASSERT_EQ(o.status, 0) << o.out;
  // The mean over the inner points is a quarter, as each of the four edges has its share of heat.
  EXPECT_NEAR(last_number(o.out, "mean temperature"), 0.25f, 0.05f);
  EXPECT_THAT(read_all(picture), HasSubstr("PNG"));
}

TEST_F(SmallTools, MandelbrotIsSymmetric) {
  const auto o = run("mandelbrot", "--width 40 --height 21 --iterations 50");
  ASSERT_EQ(o.status, 0) << o.out;
  std::vector<std::string> lines;
  for (size_t at = 0, end; (end = o.out.find('\n', at)) != std::string::npos; at = end + 1)
    lines.push_back(o.out.substr(at, end - at));
  ASSERT_EQ(lines.size(), 21u);
  EXPECT_EQ(lines[3], lines[17]);
  EXPECT_THAT(lines[10], HasSubstr("@@@@"));
  EXPECT_EQ(run("mandelbrot", "--width 1").status, 2);
}

TEST_F(SmallTools, MnistTrainsAndPredicts) {
  const auto idx = [](std::initializer_list<uint32_t> shape, const std::string& values) {
    std::string out{'\0', '\0', '\x08', static_cast<char>(shape.size())};
    for (const uint32_t n : shape)
      for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(n >> shift & 0xff);
    return out + values;
  };
  // Two kinds of pictures: light above, light below.
  std::string pixels, labels;
  for (int i = 0; i < 64; ++i) {
    for (int y = 0; y < 28; ++y)
      pixels += std::string(28, y / 14 == i % 2 ? '\xff' : static_cast<char>(i));
    labels += static_cast<char>(i % 2 ? 7 : 3);
  }
  for (const std::string split : {"train", "t10k"}) {
    folder.write(split + "-images-idx3-ubyte", idx({64, 28, 28}, pixels));
    folder.write(split + "-labels-idx1-ubyte", idx({64}, labels));
  }
  const auto weights = (folder / "w.safetensors").string();
  const auto train = run(
      "mnist-tool", fmt::format("train --data '{}' --batch-size 16 --epochs 6 --optimizer adam "
                                "--learning-rate 0.003 --lr-schedule cosine_decay --output '{}'",
                                folder.path().string(), weights));
  ASSERT_EQ(train.status, 0) << train.out;
  EXPECT_THAT(train.out, HasSubstr("Epoch 6: test accuracy 1.0000"));

  const auto schedule =
      run("mnist-tool", "train --lr-schedule rising --data '" + folder.path().string() + "'");
  EXPECT_EQ(schedule.status, 1) << schedule.out;
  EXPECT_THAT(schedule.out, HasSubstr("rising"));

  const auto fault = run("mnist-tool", "predict --weights '" + weights + "' '" + weights + "'");
  EXPECT_EQ(fault.status, 1) << fault.out;
  EXPECT_THAT(fault.out, HasSubstr("w.safetensors"));
  const auto picture = (folder / "m.png").string();
  ASSERT_EQ(run("mandelbrot", "--width 28 --height 28 --output '" + picture + "'").status, 0);
  const auto o = run("mnist-tool", "predict --weights '" + weights + "' '" + picture + "'");
  EXPECT_EQ(o.status, 0) << o.out;
  EXPECT_THAT(o.out, HasSubstr("%"));
}

}  // namespace
}  // namespace mlxcpp
