#include <zlib.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hub/http_server.h"
#include "mnist/digits.h"
#include "mnist/idx.h"
#include "mnist/lenet.h"
#include "optimizers/optimizer.h"
#include "optimizers/train_step.h"
#include "support/temp_folder.h"
#include "support/throws.h"
#include "tests/support/paths.h"
#include "weights/safetensors.h"

namespace mlxcpp::mnist {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string gzip(const std::string& bytes) {
  z_stream z{};
  ::deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(::deflateBound(&z, bytes.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(::deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  ::deflateEnd(&z);
  return out;
}

std::string idx_bytes(const std::vector<uint32_t>& shape, const std::string& values) {
  std::string out{'\0', '\0', '\x08', static_cast<char>(shape.size())};
  for (const uint32_t n : shape)
    for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(n >> shift & 0xff);
  return out + values;
}

// The four files of a set of `n` pictures in each split.
std::map<std::string, std::string> small_set(int n) {
  std::string pixels, labels;
  for (int i = 0; i < n; ++i) {
    pixels += std::string(28 * 28, static_cast<char>(i));
    labels += static_cast<char>(i % 10);
  }
  const auto images = idx_bytes({static_cast<uint32_t>(n), 28, 28}, pixels);
  const auto classes = idx_bytes({static_cast<uint32_t>(n)}, labels);
  return {{"train-images-idx3-ubyte", images},
          {"train-labels-idx1-ubyte", classes},
          {"t10k-images-idx3-ubyte", images},
          {"t10k-labels-idx1-ubyte", classes}};
}

TEST(Idx, ReadsPlainAndGzipped) {
  const auto bytes = idx_bytes({2, 3}, "abcdef");
  for (const auto& b : {bytes, gzip(bytes)}) {
    const Idx idx = read_idx(b, 2, "x");
    EXPECT_THAT(idx.shape, ElementsAre(2, 3));
    EXPECT_EQ(std::string(idx.values.begin(), idx.values.end()), "abcdef");
  }
}

TEST(Idx, FaultsAreNamed) {
  const auto bytes = idx_bytes({2, 3}, "abcdef");
  const auto fault = [](const std::string& b) {
    return error_of([&] { read_idx(b, 2, "f.idx"); });
  };
  EXPECT_THAT(fault(idx_bytes({6}, "abcdef")),
              HasSubstr("f.idx: expected the magic number 0x00000802 (bytes with 2 axes), found "
                        "0x00000801"));
  EXPECT_THAT(fault(bytes.substr(0, bytes.size() - 1)),
              HasSubstr("f.idx: cut off: the header promises 6 values, found 5"));
  EXPECT_THAT(fault(bytes + "x"), HasSubstr("too long: the header promises 6 values, found 7"));
  EXPECT_THAT(fault(bytes.substr(0, 7)), HasSubstr("cut off within its header"));
  EXPECT_THAT(fault(""), HasSubstr("cut off"));
  EXPECT_THAT(fault(idx_bytes({0xffffffff, 0xffffffff}, "")), HasSubstr("impossible size"));
  const auto packed = gzip(bytes);
  EXPECT_THAT(fault(packed.substr(0, packed.size() - 9)), HasSubstr("gzip stream is cut off"));
  auto damaged = packed;
  damaged[12] = static_cast<char>(damaged[12] ^ 0x55);
  EXPECT_THAT(fault(damaged), HasSubstr("f.idx"));
}

TEST(Files, LoadsAFolderOfEither) {
  const TempFolder folder;
  for (const auto& [name, bytes] : small_set(12))
    folder.write(name.starts_with("train") ? name : name + ".gz",
                 name.starts_with("train") ? bytes : gzip(bytes));
  const Data data = load(folder.path());
  EXPECT_EQ(data.train.images.shape(), (mx::Shape{12, 28, 28, 1}));
  EXPECT_EQ(data.test.labels.shape(), (mx::Shape{12}));
  EXPECT_EQ(data.test.labels.data<uint32_t>()[11], 1u);
  EXPECT_EQ(data.train.images.data<uint8_t>()[5 * 28 * 28], 5);
}

TEST(Files, FaultsAreNamed) {
  const TempFolder folder;
  auto files = small_set(3);
  const auto fault = [&] {
    for (const auto& [name, bytes] : files) folder.write(name, bytes);
    return error_of([&] { load(folder.path()); });
  };
  files["t10k-labels-idx1-ubyte"] = idx_bytes({2}, std::string(2, '\0'));
  EXPECT_THAT(fault(), HasSubstr("3 pictures, but t10k-labels-idx1-ubyte has 2 labels"));
  files["t10k-labels-idx1-ubyte"] = idx_bytes({3}, std::string(3, '\x0a'));
  EXPECT_THAT(fault(), HasSubstr("t10k-labels-idx1-ubyte: expected labels below 10, found 10"));
  files["train-images-idx3-ubyte"] = idx_bytes({3, 2, 2}, std::string(12, 'x'));
  EXPECT_THAT(fault(), HasSubstr("expected pictures of 28 x 28, found 2 x 2"));
  fs::remove(folder / "train-images-idx3-ubyte");
  files.erase("train-images-idx3-ubyte");
  EXPECT_THAT(fault(), HasSubstr("train-images-idx3-ubyte[.gz]: there is no such file"));
}

TEST(Files, FetchesWhatIsMissing) {
  const auto files = small_set(4);
  test::HttpServer server([&](const test::Request& r) -> test::Reply {
    const std::string name = r.target.substr(r.target.rfind('/') + 1);
    const auto it = files.find(name.substr(0, name.rfind(".gz")));
    if (it == files.end()) return {.status = 404};
    return {.body = gzip(it->second)};
  });
  const TempFolder folder;
  const fs::path into = folder / "new" / "mnist";
  fs::create_directories(into);
  std::ofstream(into / "train-images-idx3-ubyte", std::ios::binary)
      << files.at("train-images-idx3-ubyte");
  uint64_t done = 0;
  const FetchOptions options{.source = server.url() + "/mnist/master",
                             .on_progress = [&](const Progress& p) { done = p.done; }};
  fetch(into, options);
  EXPECT_EQ(server.requests().size(), 3u);
  EXPECT_EQ(server.requests()[0].target, "/mnist/master/train-labels-idx1-ubyte.gz");
  EXPECT_GT(done, 0u);
  EXPECT_EQ(load(into).train.size(), 4);
  fetch(into, options);
  EXPECT_EQ(server.requests().size(), 3u);
}

TEST(Files, WhatIsNoIdxGetsNoName) {
  test::HttpServer server([&](const test::Request& r) -> test::Reply {
    if (r.target.find("labels") != std::string::npos) return {.status = 404};
    return {.body = "<html>sorry</html>"};
  });
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { fetch(folder.path(), {.source = server.url()}); }),
              HasSubstr("train-images-idx3-ubyte.gz: expected the magic number"));
  EXPECT_TRUE(fs::is_empty(folder.path()));
  folder.write("train-images-idx3-ubyte", "");
  EXPECT_THAT(error_of([&] { fetch(folder.path(), {.source = server.url()}); }),
              HasSubstr("train-labels-idx1-ubyte.gz: cannot be fetched: HTTP 404"));
}

// Pictures that tests/scripts/make_mnist_golden.py makes, too: a pattern for each class, with
// noise.
Split patterns(int count) {
  const auto bits = [](uint64_t key, const mx::Shape& shape, int high) {
    return mx::random::randint(mx::array(0), mx::array(high), shape, mx::int32,
                               mx::random::key(key));
  };
  const auto labels =
      mx::random::randint(mx::array(0), mx::array(10), {count}, mx::uint32, mx::random::key(3));
  auto blocks = bits(1, {10, 7, 7, 1}, 2) * mx::array(150);
  for (const int axis : {1, 2}) blocks = mx::repeat(blocks, 4, axis);
  const auto pixels = mx::take(blocks, labels, 0) + bits(2, {count, 28, 28, 1}, 100);
  Split split{mx::astype(pixels, mx::uint8), labels};
  mx::eval(split.images, split.labels);
  return split;
}

std::vector<float> losses(int steps, bool compile) {
  const Split split = patterns(640);
  mx::random::seed(7);
  LeNet model;
  optimizers::SGD sgd({.learning_rate = 0.1});
  optimizers::TrainStep step(
      model, sgd, [&](const nn::Arrays& in) { return loss(model, in[0], in[1]); }, compile);
  std::vector<float> out;
  while (true) {
    Batches batches(split, 64);
    while (auto batch = batches.next()) {
      const auto value = step({to_input(batch->images), batch->labels});
      std::vector<mx::array> wanted{value};
      for (const auto& [path, p] : model.parameters()) wanted.push_back(p);
      mx::eval(wanted);
      out.push_back(value.item<float>());
      if (std::ssize(out) == steps) return out;
    }
  }
}

TEST(LeNet, HundredStepsArePythons) {
  const auto file = load_safetensors(test::golden_folder() / "training" / "mnist.safetensors");
  const auto& golden = file.at("losses");
  const auto ours = losses(100, false);
  ASSERT_EQ(golden.size(), ours.size());
  for (size_t i = 0; i < ours.size(); ++i)
    EXPECT_NEAR(ours[i], golden.data<float>()[i], 1e-4) << "step " << i;
  EXPECT_LT(ours.back(), 0.5f * ours.front());
}

TEST(LeNet, CompiledStepsAreTheSame) {
  const auto plain = losses(4, false), compiled = losses(4, true);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(plain[i], compiled[i], 1e-5) << i;
}

TEST(LeNet, BatchesAreAPermutationOfAll) {
  Split split{mx::zeros({10, 28, 28, 1}, mx::uint8), mx::arange(10, mx::uint32)};
  mx::random::seed(1);
  Batches batches(split, 4);
  std::vector<uint32_t> seen;
  std::vector<int> sizes;
  while (auto batch = batches.next()) {
    sizes.push_back(batch->size());
    for (int i = 0; i < batch->size(); ++i)
      seen.push_back(mx::take(batch->labels, i, 0).item<uint32_t>());
  }
  EXPECT_THAT(sizes, ElementsAre(4, 4, 2));
  EXPECT_FALSE(std::is_sorted(seen.begin(), seen.end()));
  std::sort(seen.begin(), seen.end());
  for (uint32_t i = 0; i < 10; ++i) EXPECT_EQ(seen[i], i);
}

media::Picture bar(int side, uint8_t ground, uint8_t ink) {
  auto p = media::new_picture(side, side);
  std::fill(p.rgb.begin(), p.rgb.end(), ground);
  for (int y = side / 10; y < side / 2; ++y)  // a stroke in the upper left
    for (int x = side / 10; x < side / 5; ++x) std::fill_n(p.row(y) + 3 * x, 3, ink);
  return p;
}

TEST(Digits, AreBroughtToTheMiddleLightOnDark) {
  for (const bool inverted : {false, true}) {
    const auto d = digit(inverted ? bar(100, 255, 0) : bar(100, 0, 255), "p");
    ASSERT_EQ(d.shape(), (mx::Shape{1, 28, 28, 1}));
    const auto at = [&](int x, int y) { return d.data<uint8_t>()[28 * y + x]; };
    EXPECT_EQ(at(13, 14), 255);
    EXPECT_EQ(at(0, 0), 0);
    EXPECT_EQ(at(14, 3), 0);  // 20 pixels high
    EXPECT_EQ(at(14, 5), 255);
    EXPECT_EQ(at(14, 22), 255);
    EXPECT_EQ(at(14, 24), 0);
  }
  EXPECT_EQ(digit(bar(28, 0, 255), "p").data<uint8_t>()[28 * 3 + 3], 255);  // as it is
  EXPECT_THAT(error_of([] { digit(bar(50, 0, 0), "p.png"); }),
              HasSubstr("p.png: there is no digit to be seen"));
}

}  // namespace
}  // namespace mlxcpp::mnist
