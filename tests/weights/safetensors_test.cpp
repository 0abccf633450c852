#include "weights/safetensors.h"

#include "core/mapped_file.h"
#include "weights/mapped_array.h"
#include "weights/support.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using namespace test;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string header_error(const std::string& header, size_t data = 8) {
  const TempFolder folder;
  const auto file = folder.write("x.safetensors", safetensors_bytes(header, data));
  std::string text = error_of([&] { read_safetensors(file); });
  EXPECT_TRUE(text.starts_with(file.string() + ": ")) << text;
  return text.substr(std::min(text.size(), file.string().size() + 2));
}

TEST(Safetensors, EveryDtype) {
  const Safetensors f = read_safetensors(golden("safetensors/dtypes.safetensors"));
  EXPECT_EQ(f.metadata.at("note"), "ü");
  const auto at = [&](const char* name) { return f.tensors.at(name); };
  EXPECT_EQ(at("f64").dtype(), mx::float64);
  EXPECT_EQ(at("f16").dtype(), mx::float16);
  EXPECT_EQ(at("i64").data<int64_t>()[0], -(int64_t{1} << 62));
  EXPECT_EQ(at("i32").shape(), (mx::Shape{2, 1}));
  EXPECT_EQ(at("i32").data<int32_t>()[1], 2147483647);
  EXPECT_EQ(at("i16").data<int16_t>()[0], -3);
  EXPECT_EQ(at("i8").data<int8_t>()[0], -4);
  EXPECT_EQ(at("u64").data<uint64_t>()[0], UINT64_MAX);
  EXPECT_EQ(at("u32").data<uint32_t>()[0], UINT32_MAX);
  EXPECT_EQ(at("u16").data<uint16_t>()[0], 65535);
  EXPECT_EQ(at("u8").data<uint8_t>()[6], 6);
  EXPECT_EQ(at("bool").dtype(), mx::bool_);
  EXPECT_EQ(at("scalar").item<float>(), 1.5f);
  EXPECT_EQ(at("empty").shape(), (mx::Shape{0, 4}));
}

// MLX has no float64 in this format.
TEST(Safetensors, ExchangesFilesWithMlx) {
  auto tensors = load_safetensors(golden("safetensors/dtypes.safetensors"));
  tensors.erase("f64");
  const TempFolder folder;
  const auto check = [&](const auto& got) {
    EXPECT_EQ(got.size(), tensors.size());
    for (const auto& [name, array] : tensors) {
      EXPECT_EQ(got.at(name).dtype(), array.dtype()) << name;
      expect_same(got.at(name), array, name);
    }
  };
  write_safetensors(folder / "ours.safetensors", tensors);
  check(mx::load_safetensors((folder / "ours.safetensors").string()).first);
  mx::save_safetensors((folder / "theirs.safetensors").string(), {tensors.begin(), tensors.end()});
  check(load_safetensors(folder / "theirs.safetensors"));
}

TEST(Safetensors, MisalignedBf16AndFp8) {
  const auto got = load_safetensors(golden("safetensors/narrow.safetensors"));
  for (const auto& [name, want] :
       load_safetensors(golden("safetensors/narrow-expected.safetensors")))
    expect_same(got.at(name), want, name);
  EXPECT_EQ(got.at("e4m3").dtype(), mx::bfloat16);
}

TEST(Safetensors, TensorsAreViewsThatKeepTheMapping) {
  const auto file = MappedFile::open(golden("safetensors/dtypes.safetensors"));
  const size_t before = file.use_count();
  auto array = std::make_unique<mx::array>(mapped_array(file, 64, {4}, mx::float32));
  EXPECT_TRUE(is_view(*array, file->bytes()));
  EXPECT_GT(file.use_count(), static_cast<long>(before));
  array.reset();
  EXPECT_EQ(file.use_count(), static_cast<long>(before));
  EXPECT_FALSE(is_view(mapped_array(file, 65, {4}, mx::float32), file->bytes()));
}

TEST(Safetensors, ResultsOfOperationsNeverReachTheFile) {
  const TempFolder folder;
  const auto file = folder / "x.safetensors";
  write_safetensors(file, {{"x", mx::array({1.0f, 2.0f, 3.0f, 4.0f})}});
  const std::string before = read_all(file);
  for (int i = 0; i < 3; ++i) {  // the only reference is given away: MLX may reuse its buffer
    auto node = load_safetensors(file).extract("x");
    // NOLINTNEXTLINE(performance-move-const-arg)
    auto y = mx::negative(std::move(node.mapped()));
    y.eval();
    EXPECT_EQ(y.data<float>()[1], -2.0f);
  }
  EXPECT_EQ(read_all(file), before);
}

TEST(Safetensors, DamagedHeaders) {
  const std::vector<std::tuple<std::string, size_t, std::string>> cases = {
      {"", 0, "the header is not valid JSON at byte"},
      {"[]", 0, "the header must be an object, found a list"},
      {"7", 0, "the header must be an object, found the number 7"},
      {R"({"a": 1})", 0, "tensor 'a': expected an object, found the number 1"},
      {R"({"a": )", 0, "the header is not valid JSON at byte"},
      {R"({"a": {}})", 0, "tensor 'a': expected dtype, shape and two data_offsets"},
      {R"({"a": {"dtype": "F32", "shape": [2]}})", 8, "expected dtype, shape and two data_offsets"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}})", 8, "two data_offsets"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 9]}})", 8,
       "two data_offsets"},
      {R"({"a": {"dtype": 1, "shape": [2], "data_offsets": [0, 8]}})", 8,
       "tensor 'a': 'dtype' must be a string, found the number 1"},
      {R"({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 8]}})", 8,
       "tensor 'a': dtype 'F4' is not supported"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "x": 1}})", 8,
       "expected dtype, shape and data_offsets, found 'x'"},
      {R"({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}})", 8,
       "'shape' must be a list of non-negative integers, found the number -2"},
      {R"({"a": {"dtype": "F32", "shape": [2.5], "data_offsets": [0, 8]}})", 8,
       "'shape' must be a list of non-negative integers, found the number 2.5"},
      {R"({"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}})", 8, "not valid JSON"},
      {R"({"a": {"dtype": "F32", "shape": [null], "data_offsets": [0, 8]}})", 8, "found null"},
      {R"({"a": {"dtype": "F32", "shape": [[2]], "data_offsets": [0, 8]}})", 8, "found a list"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1e300]}})", 8,
       "'data_offsets' must be a list of non-negative integers"},
      {R"({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}})", 8,
       "F32 of shape [3] takes 12 bytes, data_offsets are [0, 8]"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}})", 8,
       "data_offsets are [8, 0]"},
      {R"({"a": {"dtype": "F32", "shape": [4294967296], "data_offsets": [0, 8]}})", 8,
       "shape [4294967296] is too large"},
      {R"({"a": {"dtype": "F32", "shape": [2147483647, 2147483647, 4], "data_offsets": [0, 8]}})",
       8, "is too large"},
      {R"({"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}})",
       4, "more than 16 numbers"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 4,
       "the file is cut off"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", 12,
       "the tensors end at byte"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}})", 12,
       "its data begin at 4, expected 0 (a hole)"},
      {R"({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
           "b": {"dtype": "U8", "shape": [8], "data_offsets": [4, 12]}})",
       12, "tensor 'b': its data begin at 4, expected 8 (tensors overlap)"},
      {R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
           "a": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]}})",
       8, "tensor 'a' is there twice"},
      {R"({"__metadata__": {"a": 1}})", 0, "__metadata__: 'a' must be a string"},
      {R"({"__metadata__": 1})", 0, "'__metadata__': expected an object"},
      {std::string(100000, '['), 0, "the header must be an object, found a list"},
  };
  for (const auto& [header, data, message] : cases)
    EXPECT_THAT(header_error(header, data), HasSubstr(message)) << header.substr(0, 200);
}

TEST(Safetensors, NotSuchAFile) {
  const TempFolder folder;
  const auto error = [&](std::string_view bytes) {
    const auto file = folder.write("x", bytes);
    return error_of([&] { read_safetensors(file); });
  };
  EXPECT_THAT(error(""), HasSubstr("found 0 bytes"));
  EXPECT_THAT(error("abc"), HasSubstr("found 3 bytes"));
  EXPECT_THAT(error(bytes_of<uint64_t>(1000) + "{}"), HasSubstr("the file is cut off"));
  EXPECT_THAT(error(bytes_of<uint64_t>(100'000'001) + "{}"), HasSubstr("more than the 100000000"));
  EXPECT_THAT(error(bytes_of<uint64_t>(UINT64_MAX) + "{}"), HasSubstr("more than the 100000000"));
  EXPECT_THAT(error_of([&] { read_safetensors(folder / "no"); }), HasSubstr("No such file"));
}

// Cutting a good file anywhere gives an Error, never a crash.
TEST(Safetensors, EveryTruncation) {
  const TempFolder folder;
  const auto file = folder.write("x", read_all(golden("safetensors/dtypes.safetensors")));
  for (size_t n = fs::file_size(file); n-- > 0;) {
    fs::resize_file(file, n);
    EXPECT_THROW(read_safetensors(file), Error) << n;
  }
}

TEST(Safetensors, WritesWhatItReads) {
  const TempFolder folder;
  const auto file = folder / "x.safetensors";
  auto tensors = load_safetensors(golden("safetensors/dtypes.safetensors"));
  tensors.emplace("transposed", mx::transpose(mx::reshape(mx::arange(6.0f), {2, 3})));
  tensors.emplace("bf16", mx::astype(mx::array({1.0f, -2.5f}), mx::bfloat16));
  write_safetensors(file, tensors, {{"format", "mlx"}});
  const Safetensors back = read_safetensors(file);
  EXPECT_EQ(back.metadata.at("format"), "mlx");
  EXPECT_EQ(back.tensors.size(), tensors.size());
  for (const auto& [name, array] : tensors) {
    EXPECT_EQ(back.tensors.at(name).dtype(), array.dtype());
    expect_same(back.tensors.at(name), array, name);
  }
}

TEST(Safetensors, RefusesWhatTheFormatHasNot) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] {
                write_safetensors(folder / "x", {{"c", mx::array(std::complex<float>(1, 2))}});
              }),
              HasSubstr("tensor 'c'"));
  EXPECT_FALSE(fs::exists(folder / "x"));
}

TEST(SafetensorsFolder, SingleAndSharded) {
  const TempFolder folder;
  std::map<std::string, mx::array> tensors;
  for (int i = 0; i < 5; ++i) tensors.emplace(fmt::format("t{}", i), mx::full({10}, float(i)));
  write_safetensors_folder(folder.path(), tensors);
  EXPECT_EQ(read_safetensors_folder(folder.path()).tensors.size(), 5u);
  EXPECT_EQ(read_json(folder / "model.safetensors.index.json")["weight_map"]["t3"],
            "model.safetensors");

  write_safetensors_folder(folder.path(), tensors, {}, 80);  // two tensors each
  EXPECT_FALSE(fs::exists(folder / "model.safetensors"));
  EXPECT_TRUE(fs::exists(folder / "model-00003-of-00003.safetensors"));
  const Json index = read_json(folder / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 200);
  const Safetensors back = read_safetensors_folder(folder.path());
  EXPECT_EQ(back.bytes, 200u);
  for (const auto& [name, array] : tensors) expect_same(back.tensors.at(name), array, name);

  fs::remove(folder / "model.safetensors.index.json");  // then the shards are found by name
  EXPECT_EQ(read_safetensors_folder(folder.path()).tensors.size(), 5u);
}

TEST(SafetensorsFolder, BadIndex) {
  const TempFolder folder;
  write_safetensors(folder / "model-1.safetensors", {{"a", mx::array(1.0f)}});
  const auto error = [&](const char* index) {
    folder.write("model.safetensors.index.json", index);
    return error_of([&] { read_safetensors_folder(folder.path()); });
  };
  EXPECT_THAT(error(R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})"),
              AllOf(HasSubstr("model.safetensors.index.json"),
                    HasSubstr("the shard 'model-2.safetensors' is missing")));
  EXPECT_THAT(error(R"({"weight_map": {"b": "model-1.safetensors"}})"),
              HasSubstr("tensor 'b' is not in 'model-1.safetensors'"));
  EXPECT_THAT(error(R"({"weight_map": {"b": "../x.safetensors"}})"),
              HasSubstr("must be a file of this folder"));
  EXPECT_THAT(error(R"({"weight_map": {"b": 1}})"), HasSubstr("must be a file name"));
  EXPECT_THAT(error(R"({"weight_map": 1})"), HasSubstr("expected an object with 'weight_map'"));
  EXPECT_THAT(error("{"), HasSubstr("not valid JSON"));
  fs::remove(folder / "model.safetensors.index.json");
  write_safetensors(folder / "model-2.safetensors", {{"a", mx::array(1.0f)}});
  EXPECT_THAT(error_of([&] { read_safetensors_folder(folder.path()); }),
              HasSubstr("tensor 'a' is in another shard, too"));
  const TempFolder empty;
  EXPECT_THAT(error_of([&] { read_safetensors_folder(empty.path()); }),
              HasSubstr("no model.safetensors"));
}

}  // namespace
}  // namespace mlxcpp
