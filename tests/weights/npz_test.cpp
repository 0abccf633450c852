#include "weights/npz.h"

#include "weights/safetensors.h"
#include "weights/support.h"

namespace mlxcpp {
namespace {

using namespace test;
using ::testing::HasSubstr;

TEST(Npz, StoredAndDeflatedEqualNumpy) {
  const auto want = load_safetensors(golden("npz/expected.safetensors"));
  for (const char* name : {"npz/stored.npz", "npz/deflated.npz"}) {
    const auto got = read_npz(golden(name));
    for (const auto& [key, array] : want) {
      ASSERT_TRUE(got.count(key)) << key;
      EXPECT_EQ(got.at(key).dtype(), array.dtype()) << key;
      expect_same(got.at(key), array, key);
    }
  }
  EXPECT_EQ(mx::sum(read_npz(golden("npz/deflated.npz")).at("zeros")).item<float>(), 0.0f);
}

TEST(Npz, SingleArray) {
  const auto want = load_safetensors(golden("npz/expected.safetensors"));
  expect_same(read_npy(golden("npz/array.npy")), want.at("f32"), "array.npy");
}

TEST(Npz, ReadsWhatMlxWrites) {
  const TempFolder folder;
  const auto file = (folder / "x.npy").string();
  for (const mx::Dtype dtype : {mx::bfloat16, mx::float16, mx::complex64, mx::int8}) {
    const auto x = mx::astype(mx::array({1.0f, -2.0f}), dtype);
    mx::save(file, x);
    const auto y = read_npy(file);
    EXPECT_EQ(y.dtype(), dtype);
    EXPECT_TRUE(mx::array_equal(x, y).item<bool>());
  }
}

TEST(Npz, RefusesPickles) {
  EXPECT_THAT(error_of([] { read_npy(golden("npz/pickled.npy")); }), HasSubstr("pickled"));
  EXPECT_THAT(error_of([] { read_npy(golden("npz/big-endian.npy")); }),
              HasSubstr("'>f4' are not supported"));
}

std::string npy(const std::string& header, size_t data, char version = 1) {
  const std::string length = version == 1 ? bytes_of(static_cast<uint16_t>(header.size()))
                                          : bytes_of(static_cast<uint32_t>(header.size()));
  return std::string("\x93NUMPY") + version + '\0' + length + header + std::string(data, '\0');
}

TEST(Npy, Headers) {
  const TempFolder folder;
  const auto read = [&](const std::string& bytes) { return read_npy(folder.write("x", bytes)); };
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }  \n";
  EXPECT_EQ(read(npy(good, 8)).shape(), (mx::Shape{2}));
  EXPECT_EQ(read(npy(good, 8, 2)).shape(), (mx::Shape{2}));
  EXPECT_EQ(read(npy("{'shape':(),'descr':'<f4','fortran_order':True}", 4)).ndim(), 0u);
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"", "expected a .npy array"},
      {npy(good, 4), "takes 8 bytes, there are 4"},
      {npy(good, 12), "takes 8 bytes, there are 12"},
      {npy(good, 8, 4), "version 4 is not supported"},
      {npy("{}", 0), "expected descr, fortran_order and shape"},
      {npy("{'descr': '<f4', 'fortran_order': 1, 'shape': (2,)}", 8), "True or False"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", 8), "'shape' must be"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,)}", 8),
       "'shape' must be"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2147483647,2147483647,99)}", 8),
       "is too large"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", 8), "expected '}'"},
      {npy("{'descr': '<f4", 8), "a text does not end"},
      {npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", 8), "structured"},
      {npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", 8), "pickled"},
      {npy("{'descr': '<f4', 'descr': '<f4'}", 8), "found 'descr'"},
  };
  for (const auto& [bytes, message] : bad)
    EXPECT_THAT(error_of([&] { read(bytes); }), HasSubstr(message));
}

TEST(Npz, EveryTruncationAndFlippedByte) {
  const TempFolder folder;
  for (const char* name : {"npz/stored.npz", "npz/deflated.npz"}) {
    const std::string whole = read_all(golden(name));
    const auto file = folder.write("x", whole);
    for (size_t n = 0; n < whole.size(); n += 5) {
      std::fstream io(file, std::ios::in | std::ios::out | std::ios::binary);
      io.seekp(static_cast<std::streamoff>(n)).put(static_cast<char>(~whole[n])).flush();
      try {
        read_npz(file);         // right or an Error
      } catch (const Error&) {  // NOLINT(bugprone-empty-catch)
      }
      io.seekp(static_cast<std::streamoff>(n)).put(whole[n]);
    }
    for (size_t n = whole.size(); n-- > 0;) {
      std::filesystem::resize_file(file, n);
      EXPECT_THROW(read_npz(file), Error) << n;
    }
  }
}

TEST(Npz, SizesThatLie) {
  const TempFolder folder;
  std::string bytes = read_all(golden("npz/deflated.npz"));
  const size_t entry = bytes.find("PK\x01\x02");
  const std::string huge = bytes_of<uint32_t>(0x7fffffff);
  bytes.replace(entry + 24, 4, huge);
  EXPECT_THAT(error_of([&] { read_npz(folder.write("x", bytes)); }), HasSubstr("cannot come from"));
}

}  // namespace
}  // namespace mlxcpp
