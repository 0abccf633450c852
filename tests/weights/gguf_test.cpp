#include "weights/gguf.h"

#include "weights/safetensors.h"
#include "weights/support.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using namespace test;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Gguf, EveryMetadataType) {
  const GgufFile f(golden("gguf/types.gguf"));
  EXPECT_EQ(f.need<int>("test.uint8"), 200);
  EXPECT_EQ(f.need<int>("test.int8"), -3);
  EXPECT_EQ(f.need<int>("test.uint16"), 65535);
  EXPECT_EQ(f.need<int>("test.int16"), -300);
  EXPECT_EQ(f.need<int64_t>("test.uint32"), 4294967295);
  EXPECT_EQ(f.need<int>("test.int32"), INT32_MIN);
  EXPECT_EQ(f.need<float>("test.float32"), 0.1f);
  EXPECT_EQ(f.need<double>("test.float32"), static_cast<double>(0.1f));
  EXPECT_EQ(f.need<uint64_t>("test.uint64"), UINT64_MAX);
  EXPECT_EQ(f.need<int64_t>("test.int64"), INT64_MIN);
  EXPECT_EQ(f.need<double>("test.float64"), 0.1);
  EXPECT_TRUE(f.need<bool>("test.bool"));
  EXPECT_EQ(f.need<std::string_view>("test.string"), "grüße");
  EXPECT_THAT(f.need<std::vector<std::string_view>>("test.texts"), ElementsAre("a", "", "日本"));
  EXPECT_THAT(f.need<std::vector<int>>("test.ints"), ElementsAre(1, -2, 3));
  EXPECT_THAT(f.need<std::vector<float>>("test.floats"), ElementsAre(0.5f, 1.5f));
  EXPECT_THAT(f.need<std::vector<bool>>("test.bools"), ElementsAre(true, false));
  EXPECT_TRUE(f.is_list("test.ints"));
  EXPECT_FALSE(f.is_list("test.bool"));
  EXPECT_FALSE(f.find<int>("no"));
  EXPECT_EQ(f.get<int>("no", 5), 5);
}

TEST(Gguf, WrongTypesAreNamed) {
  const GgufFile f(golden("gguf/types.gguf"));
  EXPECT_THAT(error_of([&] { f.need<int>("no"); }), HasSubstr("metadata key 'no' is missing"));
  EXPECT_THAT(error_of([&] { f.need<int>("test.string"); }),
              HasSubstr("'test.string' must be an integer in range, found text"));
  EXPECT_THAT(error_of([&] { f.need<int>("test.uint64"); }), HasSubstr("found uint64"));
  EXPECT_THAT(error_of([&] { f.need<int>("test.float32"); }), HasSubstr("found float32"));
  EXPECT_THAT(error_of([&] { f.need<uint64_t>("test.int8"); }), HasSubstr("found int8"));
  EXPECT_THAT(error_of([&] { f.need<bool>("test.int8"); }), HasSubstr("must be a boolean"));
  EXPECT_THAT(error_of([&] { f.need<int>("test.ints"); }), HasSubstr("found a list of int32"));
  EXPECT_THAT(error_of([&] { f.need<std::string_view>("test.ints"); }), HasSubstr("must be text"));
  EXPECT_THAT(error_of([&] { f.need<std::vector<int>>("test.int8"); }), HasSubstr("a list"));
  EXPECT_THAT(error_of([&] { f.need<std::vector<int>>("test.texts"); }),
              HasSubstr("found a list of text"));
  EXPECT_THAT(error_of([&] { f.need<std::vector<std::string_view>>("test.ints"); }),
              HasSubstr("must be a list of text"));
}

TEST(Gguf, EveryTensorType) {
  const GgufFile f(golden("gguf/types.gguf"));
  const auto want = load_safetensors(golden("gguf/types-expected.safetensors"));
  ASSERT_EQ(f.tensors().size(), want.size());
  size_t bytes = 0;
  for (const auto& [name, t] : f.tensors()) {
    const auto& w = want.at(name);
    EXPECT_EQ(mx::Shape(t.shape.begin(), t.shape.end()), w.shape()) << name;
    EXPECT_TRUE(is_view(t.array(), t.file->bytes())) << name;
    bytes += t.bytes;
    if (!t.quantized) {
      expect_same(t.array(), w, name);
      continue;
    }
    const auto type = kernels::quant_type(*t.quantized);
    EXPECT_EQ(t.array().shape(-1), static_cast<int>(row_bytes(type, t.shape.back()))) << name;
    EXPECT_EQ(t.array().dtype(), mx::uint8);
    EXPECT_EQ(name == "experts" ? "q8_0" : name, kernels::name(type.mode));
  }
  EXPECT_EQ(f.bytes(), bytes);
}

TEST(Gguf, DequantisedValuesEqualTheGgufPackage) {
  const GgufFile f(golden("gguf/types.gguf"));
  const auto want = load_safetensors(golden("gguf/types-expected.safetensors"));
  for (const auto& [name, t] : f.tensors()) {
    if (!t.quantized) continue;
    const kernels::QuantizedMatrix w{kernels::quant_type(*t.quantized), t.array(), {}, {}};
    expect_same(kernels::dequantize(w, mx::float32), want.at(name), name);
  }
}

TEST(Gguf, ArraysKeepTheMapping) {
  std::optional<mx::array> a;
  {
    const GgufFile f(golden("gguf/types.gguf"));
    a = f.tensor("f32")->array();
  }
  expect_same(*a, load_safetensors(golden("gguf/types-expected.safetensors")).at("f32"), "f32");
}

TEST(Gguf, SplitFiles) {
  const auto part = [](int i) { return golden(fmt::format("gguf/split-0000{}-of-00003.gguf", i)); };
  const GgufFile found(part(1));
  EXPECT_EQ(found.tensors().size(), 21u);
  const GgufFile given({part(1), part(2), part(3)});
  EXPECT_EQ(given.tensors().size(), 21u);
  EXPECT_THAT(error_of([&] { GgufFile f({part(1), part(3), part(2)}); }),
              HasSubstr("expected split.no 1 of split.count 3, found 2 of 3"));
  EXPECT_THAT(error_of([&] { GgufFile f({part(1), part(2)}); }),
              HasSubstr("split.count says 3 parts, found 2"));
  EXPECT_THAT(error_of([&] { GgufFile f(part(2)); }), HasSubstr("is part 2 of a split model"));

  const TempFolder folder;
  fs::copy(part(1), folder / part(1).filename());
  fs::copy(part(2), folder / part(2).filename());
  EXPECT_THAT(error_of([&] { GgufFile f(folder / part(1).filename()); }),
              AllOf(HasSubstr("split-00003-of-00003.gguf"), HasSubstr("No such file")));
  fs::copy(part(1), folder / "renamed.gguf");
  EXPECT_THAT(error_of([&] { GgufFile f(folder / "renamed.gguf"); }),
              HasSubstr("named ...-00001-of-00003.gguf"));
}

TEST(Gguf, TernaryBlocks) {
  const GgufFile f(golden("gguf/ternary.gguf"));
  const auto want = load_safetensors(golden("gguf/ternary-expected.safetensors"));
  const auto x = mx::random::normal({5, 512}, mx::float32, 0, 1, mx::random::key(1));
  for (const char* name : {"tq1_0", "tq2_0"}) {
    const GgufTensor* t = f.tensor(name);
    ASSERT_TRUE(t) << name;
    EXPECT_FALSE(t->quantized);
    EXPECT_THAT(t->shape, ElementsAre(3, 512));
    EXPECT_EQ(t->array().shape(), (mx::Shape{3, name[2] == '1' ? 108 : 132})) << name;
    const auto w = t->repacked();
    expect_same(kernels::dequantize(w, mx::float32), want.at(name), name);
    const auto y = mx::matmul(x, mx::transpose(mx::astype(want.at(name), mx::float32)));
    EXPECT_TRUE(mx::allclose(kernels::quantized_matmul(x, w), y, 1e-3, 1e-2).item<bool>()) << name;
  }
  EXPECT_THAT(error_of([&] { GgufFile(golden("gguf/types.gguf")).tensor("f32")->repacked(); }),
              HasSubstr("tensor 'f32' is not ternary"));
  EXPECT_THAT(error_of([] { repack(TernaryBlocks::tq1_0, {}, {1, 256}); }),
              HasSubstr("0 bytes are no [1, 256]"));
}

std::string error_in(const std::string& bytes) {
  const TempFolder folder;
  const auto file = folder.write("x.gguf", bytes);
  std::string text = error_of([&] { GgufFile f(file); });
  EXPECT_TRUE(text.starts_with(file.string() + ": ")) << text;
  return text.substr(std::min(text.size(), file.string().size() + 2));
}

TEST(Gguf, AnEmptyModelIsOne) {
  const TempFolder folder;
  const GgufFile f(folder.write("x", GgufBytes().str()));
  EXPECT_TRUE(f.tensors().empty());
  EXPECT_TRUE(f.keys().empty());
}

TEST(Gguf, NotSuchAFile) {
  EXPECT_THAT(error_in(""), HasSubstr("the file is cut off"));
  EXPECT_THAT(error_in("GGML    "), HasSubstr("does not begin with 'GGUF'"));
  const auto version = [](uint32_t v) {
    GgufBytes g;
    g.version = v;
    return error_in(g.str());
  };
  EXPECT_THAT(version(1), HasSubstr("version 1 is not supported"));
  EXPECT_THAT(version(4), HasSubstr("version 4 is not supported"));
  EXPECT_THAT(version(0), HasSubstr("version 0 is not supported"));
  EXPECT_THAT(version(0x03000000), HasSubstr("big-endian"));
  const TempFolder folder;
  GgufBytes g;
  g.version = 2;
  EXPECT_NO_THROW(GgufFile(folder.write("x", g.str())));
}

TEST(Gguf, DamagedMetadata) {
  const std::string one = bytes_of<uint32_t>(1);
  EXPECT_THAT(error_in(GgufBytes().u32("a", 1).u32("a", 1).str()), HasSubstr("'a' is there twice"));
  EXPECT_THAT(error_in(GgufBytes().u32("", 1).str()), HasSubstr("has 0 bytes"));
  EXPECT_THAT(error_in(GgufBytes().u32(std::string(70000, 'k'), 1).str()),
              HasSubstr("has 70000 bytes"));
  EXPECT_THAT(error_in(GgufBytes().value("a", 13, one).str()),
              HasSubstr("'a' has the unknown value type 13"));
  EXPECT_THAT(error_in(GgufBytes().list("a", 99, 1, one).str()),
              HasSubstr("'a' has the unknown value type 99"));
  EXPECT_THAT(error_in(GgufBytes().list("a", 4, UINT64_MAX / 2, one).str()),
              HasSubstr("more than the file can hold"));
  EXPECT_THAT(error_in(GgufBytes().list("a", 0, 1000, one).str()),
              HasSubstr("the file is cut off: a takes 1000 bytes"));
  EXPECT_THAT(error_in(GgufBytes().list("a", 8, UINT64_MAX, GgufBytes::text("x")).str()),
              HasSubstr("the file is cut off"));
  EXPECT_THAT(error_in(GgufBytes().value("a", 8, bytes_of(UINT64_MAX)).str()),
              HasSubstr("the file is cut off"));
  std::string nested;
  for (int i = 0; i < 10; ++i) nested += bytes_of<uint32_t>(9) + bytes_of<uint64_t>(1);
  EXPECT_THAT(error_in(GgufBytes().list("a", 9, 1, nested).str()),
              HasSubstr("nested deeper than 4 lists"));
  GgufBytes many;
  many.value_count = UINT64_MAX;
  EXPECT_FALSE(error_in(many.u32("a", 1).str()).empty());
}

TEST(Gguf, NestedListsAreSkipped) {
  const std::string inner = bytes_of<uint32_t>(4) + bytes_of<uint64_t>(1) + bytes_of<uint32_t>(7);
  const TempFolder folder;
  const GgufFile f(folder.write("x", GgufBytes().list("a", 9, 1, inner).u32("b", 3).str()));
  EXPECT_EQ(f.need<int>("b"), 3);
  EXPECT_THAT(error_of([&] { f.need<std::vector<int>>("a"); }), HasSubstr("found a list of list"));
}

TEST(Gguf, DamagedTensors) {
  const std::string data(64, '\0');
  const auto tensor = [&](const std::vector<uint64_t>& dims, uint32_t type,
                          std::optional<uint64_t> offset = {}) {
    return error_in(GgufBytes().tensor("t", dims, type, data, offset).str());
  };
  EXPECT_THAT(tensor({1, 1, 1, 1, 1}, 0), HasSubstr("tensor 't' has 5 dimensions"));
  EXPECT_THAT(tensor({0}, 0), HasSubstr("a dimension of 0 is out of range"));
  EXPECT_THAT(tensor({uint64_t{1} << 31}, 0), HasSubstr("is out of range"));
  EXPECT_THAT(tensor({UINT64_MAX}, 0), HasSubstr("is out of range"));
  EXPECT_THAT(tensor({2147483647, 2147483647, 2147483647}, 0), HasSubstr("is too large"));
  EXPECT_THAT(tensor({2147483646, 1}, 28), HasSubstr("the file is cut off: tensor 't'"));
  EXPECT_THAT(tensor({256}, 16), HasSubstr("tensor 't' has type IQ2_XXS, which is not supported"));
  EXPECT_THAT(tensor({32}, 77), HasSubstr("tensor 't' has type number 77"));
  EXPECT_THAT(tensor({31}, 8), HasSubstr("rows of 31 are no multiple of the 32 of a Q8_0 block"));
  EXPECT_THAT(tensor({}, 8), HasSubstr("a single number cannot be Q8_0"));
  EXPECT_THAT(tensor({128}, 34), HasSubstr("rows of 128 are no multiple of the 256 of a TQ1_0"));
  EXPECT_THAT(tensor({}, 35), HasSubstr("a single number cannot be TQ2_0"));
  EXPECT_THAT(tensor({256, 2}, 35), HasSubstr("the file is cut off: tensor 't' takes 132 bytes"));
  EXPECT_THAT(tensor({4}, 0, 8), HasSubstr("begins at 8, no multiple of the alignment 32"));
  EXPECT_THAT(tensor({4}, 0, 64), HasSubstr("the file is cut off: tensor 't' takes 16 bytes"));
  EXPECT_THAT(tensor({4}, 0, UINT64_MAX - 31), HasSubstr("the file is cut off"));
  EXPECT_THAT(error_in(GgufBytes().f32_tensor("t", {16}).f32_tensor("t", {16}).str()),
              HasSubstr("tensor 't' is there twice"));
  EXPECT_THAT(error_in(GgufBytes().f32_tensor("t", {16}).tensor("u", {4}, 0, data, 32).str()),
              HasSubstr("tensor 'u' begins at 32, inside the one before, which ends at 64"));
  GgufBytes many;
  many.tensor_count = UINT64_MAX;
  EXPECT_THAT(error_in(many.str()), HasSubstr("the file is cut off"));
  for (const uint32_t alignment : {0u, 12u, 1u << 31})
    EXPECT_THAT(error_in(GgufBytes().u32("general.alignment", alignment).str()),
                HasSubstr(fmt::format("general.alignment is {}", alignment)));
}

TEST(Gguf, OtherAlignment) {
  GgufBytes g;
  g.alignment = 64;
  g.u32("general.alignment", 64).f32_tensor("a", {3}, 1).f32_tensor("b", {2}, 2);
  const TempFolder folder;
  const GgufFile f(folder.write("x", g.str()));
  EXPECT_EQ(f.tensor("b")->array().data<float>()[1], 2.0f);
}

TEST(Gguf, EveryTruncation) {
  const TempFolder folder;
  const auto file = folder.write("x", read_all(golden("gguf/types.gguf")));
  // The last tensor's padding may be missing.
  for (size_t n = fs::file_size(file) - 32; n > 0; n -= std::min<size_t>(n, n < 3000 ? 1 : 97)) {
    fs::resize_file(file, n);
    EXPECT_THROW(GgufFile f(file), Error) << n;
  }
}

}  // namespace
}  // namespace mlxcpp
