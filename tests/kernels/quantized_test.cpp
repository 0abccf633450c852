#include "kernels/quantized.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/isa.h"
#include "kernels/precision.h"
#include "kernels/thread_pool.h"
#include "tests/support/paths.h"

namespace mlxcpp::kernels {
namespace {

using ::testing::HasSubstr;

constexpr QuantMode kGguf[] = {QuantMode::q4_0, QuantMode::q4_1, QuantMode::q5_0,  QuantMode::q5_1,
                               QuantMode::q8_0, QuantMode::q2_k, QuantMode::q3_k,  QuantMode::q4_k,
                               QuantMode::q5_k, QuantMode::q6_k, QuantMode::iq4_nl};

std::vector<QuantType> mlx_types() {
  std::vector<QuantType> out;
  for (const int bits : {2, 3, 4, 5, 6, 8})
    for (const int group : {32, 64, 128}) out.push_back(quant_type(QuantMode::affine, group, bits));
  for (const QuantMode m : {QuantMode::mxfp4, QuantMode::mxfp8, QuantMode::nvfp4})
    out.push_back(quant_type(m));
  return out;
}

std::vector<QuantType> all_types() {
  std::vector<QuantType> out = mlx_types();
  for (const QuantMode m : kGguf) out.push_back(quant_type(m));
  return out;
}

std::string label(const QuantType& t) {
  return fmt::format("{} bits {} group {}", name(t.mode), t.bits, t.group_size);
}

struct IsaScope {
  explicit IsaScope(Isa i) { set_isa(i); }
  ~IsaScope() { set_isa(available_isas().back()); }
};

mx::array floats(const mx::Shape& shape, uint64_t seed, mx::Dtype dtype = mx::float32) {
  mx::array a = mx::astype(mx::random::normal(shape, mx::random::key(seed)), dtype);
  mx::eval(a);
  return a;
}

// The same values one byte off any alignment.
mx::array misaligned(mx::array a) {
  mx::eval(a);
  auto* memory = new uint8_t[a.nbytes() + 1];
  std::memcpy(memory + 1, a.data<uint8_t>(), a.nbytes());
  return mx::array(static_cast<void*>(memory + 1), a.shape(), a.dtype(),
                   [](void* p) { delete[] (static_cast<uint8_t*>(p) - 1); });
}

// The same values right before memory that must not be read.
mx::array guarded(mx::array a) {
  mx::eval(a);
  const size_t page = sysconf(_SC_PAGESIZE), pages = (a.nbytes() + page - 1) / page;
  auto* memory = static_cast<uint8_t*>(mmap(nullptr, (pages + 1) * page, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (memory == MAP_FAILED || mprotect(memory + pages * page, page, PROT_NONE) != 0)
    throw Error("no guarded memory");
  uint8_t* data = memory + pages * page - a.nbytes();
  std::memcpy(data, a.data<uint8_t>(), a.nbytes());
  return mx::array(static_cast<void*>(data), a.shape(), a.dtype(),
                   [memory, size = (pages + 1) * page](void*) { munmap(memory, size); });
}

std::vector<int> scale_offsets(QuantMode mode) {
  switch (mode) {
    case QuantMode::q4_1:
    case QuantMode::q5_1:
    case QuantMode::q4_k:
    case QuantMode::q5_k:
      return {0, 2};
    case QuantMode::q2_k:
      return {80, 82};
    case QuantMode::q3_k:
      return {108};
    case QuantMode::q6_k:
      return {208};
    default:
      return {0};
  }
}

// Random weights. GGUF: random bits with scales of both signs, in memory aligned to nothing.
QuantizedMatrix random_matrix(const QuantType& type, mx::Shape shape, uint64_t seed,
                              mx::Dtype scales = mx::float32) {
  if (!type.is_gguf()) {
    const bool affine = type.mode == QuantMode::affine;
    QuantizedMatrix w = quantize(floats(shape, seed, affine ? scales : mx::float32), type);
    w.weight = misaligned(w.weight);
    w.scales = misaligned(*w.scales);
    if (w.biases) w.biases = misaligned(*w.biases);
    return w;
  }
  const size_t block = row_bytes(type, type.group_size);
  shape.back() = static_cast<int>(row_bytes(type, shape.back()));
  size_t n = 1;
  for (const int d : shape) n *= d;
  auto* memory = new uint8_t[n + 1];
  std::mt19937 random(seed);
  for (size_t i = 0; i < n; ++i) memory[1 + i] = static_cast<uint8_t>(random());
  for (size_t b = 0; b < n / block; ++b)
    for (const int at : scale_offsets(type.mode)) {
      const mx::float16_t s(std::normal_distribution<float>(0.0f, 0.02f)(random));
      std::memcpy(memory + 1 + b * block + at, &s, 2);
    }
  return {type,
          mx::array(static_cast<void*>(memory + 1), shape, mx::uint8,
                    [](void* p) { delete[] (static_cast<uint8_t*>(p) - 1); }),
          std::nullopt, std::nullopt};
}

std::vector<float> values(mx::array a) {
  a = mx::contiguous(mx::astype(a, mx::float32));
  mx::eval(a);
  return {a.data<float>(), a.data<float>() + a.size()};
}

// Dequantised in f32 without the rounding of MLX's 16-bit scales.
std::vector<float> exact_values(QuantizedMatrix w) {
  if (w.scales && w.type.mode == QuantMode::affine) {
    w.scales = mx::astype(*w.scales, mx::float32);
    w.biases = mx::astype(*w.biases, mx::float32);
  }
  return values(dequantize(w, mx::float32));
}

// y of one product in double, and how far a kernel of precision p may be from it.
struct Reference {
  double y;
  double bound;
};

Reference reference(const float* x, const float* w, int k, Precision p, mx::Dtype dtype) {
  double y = 0, rounding = 0, size = 0, largest = 0;
  for (int i = 0; i < k; ++i) largest = std::max(largest, std::abs(double(w[i])));
  for (int g = 0; g < k; g += 32) {
    double peak = 0, weight = 0;
    for (int i = g; i < g + 32; ++i) {
      y += double(x[i]) * w[i];
      peak = std::max(peak, std::abs(double(x[i])));
      weight += std::abs(double(w[i]));
      size += std::abs(double(x[i])) * largest;
    }
    // Half a step of the group's activations.
    if (p == Precision::fast) rounding += peak / 254 * weight;
    if (p == Precision::high) rounding += peak / 32512 * weight;
  }
  const double last_digit = dtype == mx::float32 ? 0 : dtype == mx::float16 ? 0x1p-11 : 0x1p-8;
  return {y, rounding + 1e-6 * size + last_digit * (std::abs(y) + rounding) + 1e-7};
}

void expect_product(const mx::array& y, const std::vector<float>& x, const std::vector<float>& w,
                    int k, Precision p, const std::string& what) {
  const std::vector<float> found = values(y);
  const size_t n = w.size() / k, m = x.size() / k;
  ASSERT_EQ(found.size(), m * n) << what;
  for (size_t i = 0; i < m; ++i)
    for (size_t j = 0; j < n; ++j) {
      const Reference r = reference(&x[i * k], &w[j * k], k, p, y.dtype());
      ASSERT_NEAR(found[i * n + j], r.y, r.bound) << what << " at " << i << ", " << j;
    }
}

TEST(Quantized, GgufValuesEqualThePythonPackages) {
  const auto fixture =
      mx::load_safetensors((test::golden_folder() / "kernels/gguf_types.safetensors").string())
          .first;
  for (const QuantMode mode : kGguf) {
    const std::string type(name(mode));
    const QuantizedMatrix w{quant_type(mode), fixture.at(type + ".bytes"), {}, {}};
    const mx::array expected = fixture.at(type + ".values");
    for (const Isa i : available_isas()) {
      IsaScope scope(i);
      const mx::array found = dequantize(w, mx::float32);
      // Compared as bits.
      EXPECT_TRUE(
          mx::array_equal(mx::view(found, mx::uint32), mx::view(expected, mx::uint32)).item<bool>())
          << type << " " << name(i);
    }
  }
}

TEST(Quantized, MlxTypesDequantiseAsMlxDoes) {
  for (const QuantType& t : mlx_types())
    for (const mx::Dtype scales : {mx::float32, mx::float16, mx::bfloat16})
      for (const mx::Dtype out : {mx::float32, mx::float16, mx::bfloat16}) {
        const QuantizedMatrix w = random_matrix(t, {3, 256}, 5, scales);
        const mx::array expected =
            mx::dequantize(w.weight, *w.scales, w.biases, t.group_size, t.bits,
                           std::string(name(t.mode)), std::nullopt, out);
        EXPECT_TRUE(mx::array_equal(dequantize(w, out), expected).item<bool>()) << label(t);
      }
}

TEST(Quantized, FloatTypesOfEveryBitPatternDequantiseAsMlxDoes) {
  // All bytes as values under all bytes as scales, but those that make infinities.
  for (const QuantMode mode : {QuantMode::mxfp4, QuantMode::mxfp8, QuantMode::nvfp4}) {
    const QuantType t = quant_type(mode);
    const int cols = 256 * 8 / t.bits, groups = cols / t.group_size;
    std::vector<uint8_t> bytes, scales;
    for (int s = 0; s < 250; ++s) {
      for (int v = 0; v < 256; ++v) bytes.push_back(static_cast<uint8_t>(v));
      scales.insert(scales.end(), groups, static_cast<uint8_t>(s));
    }
    const mx::array weight = mx::view(mx::array(bytes.data(), {250, 256}, mx::uint8), mx::uint32);
    const QuantizedMatrix w{t, weight, mx::array(scales.data(), {250, groups}, mx::uint8), {}};
    for (const mx::Dtype out : {mx::float32, mx::bfloat16}) {
      const mx::array expected = mx::dequantize(w.weight, *w.scales, std::nullopt, t.group_size,
                                                t.bits, std::string(name(mode)), std::nullopt, out);
      EXPECT_TRUE(mx::array_equal(dequantize(w, out), expected, true).item<bool>()) << name(mode);
    }
  }
}

TEST(Quantized, MatmulOfEveryTypePrecisionAndInstructionSet) {
  uint64_t seed = 1;
  for (const QuantType& t : all_types())
    for (const int blocks : {1, 3}) {
      const int k = t.group_size < 32 ? 32 * blocks : t.group_size * blocks;
      for (const int n : {1, 7, 37}) {
        const QuantizedMatrix w = random_matrix(t, {n, k}, ++seed);
        const std::vector<float> wv = exact_values(w);
        for (const int m : {1, 3, 8, 33}) {
          const mx::array x = floats({m, k}, ++seed);
          const std::vector<float> xv = values(x);
          for (const Isa i : available_isas())
            for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
              IsaScope isa_scope(i);
              PrecisionScope precision_scope(p);
              ASSERT_NO_FATAL_FAILURE(expect_product(
                  quantized_matmul(x, w), xv, wv, k, p,
                  fmt::format("{} {} {} m {} n {} k {}", label(t), name(i), name(p), m, n, k)));
            }
        }
      }
    }
}

TEST(Quantized, MatmulInEveryDtypeOfActivationsAndScales) {
  uint64_t seed = 1;
  for (const QuantType& t : all_types())
    for (const mx::Dtype dtype : {mx::float32, mx::float16, mx::bfloat16})
      for (const mx::Dtype scales : {mx::float32, mx::float16, mx::bfloat16}) {
        if (t.mode != QuantMode::affine && scales != dtype) continue;
        const int k = 768, n = 19;
        const QuantizedMatrix w = random_matrix(t, {n, k}, ++seed, scales);
        const std::vector<float> wv = exact_values(w);
        for (const int m : {1, 2, 9}) {
          const mx::array x = floats({m, k}, ++seed, dtype);
          for (const Isa i : available_isas())
            for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
              IsaScope isa_scope(i);
              PrecisionScope precision_scope(p);
              const mx::array y = quantized_matmul(x, w);
              EXPECT_EQ(y.dtype(), dtype);
              ASSERT_NO_FATAL_FAILURE(
                  expect_product(y, values(x), wv, k, p,
                                 fmt::format("{} {} {} m {}", label(t), name(i), name(p), m)));
            }
        }
      }
}

TEST(Quantized, ReadsNothingBeyondTheWeights) {
  for (const QuantType& t : all_types())
    for (const int blocks : {1, 2, 3, 5}) {
      const int k = std::max(t.group_size, 32) * blocks, n = 3;
      QuantizedMatrix w = random_matrix(t, {n, k}, 1, mx::bfloat16);
      w.weight = guarded(w.weight);
      if (w.scales) w.scales = guarded(*w.scales);
      if (w.biases) w.biases = guarded(*w.biases);
      const std::vector<float> wv = exact_values(w);
      for (const int m : {1, 2, 4, 9}) {
        const mx::array x = floats({m, k}, 2);
        for (const Isa i : available_isas())
          for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
            IsaScope isa_scope(i);
            PrecisionScope precision_scope(p);
            ASSERT_NO_FATAL_FAILURE(
                expect_product(quantized_matmul(x, w), values(x), wv, k, p, label(t)));
          }
      }
    }
}

// Values at the ends of what the integers hold: nothing may overflow or saturate.
TEST(Quantized, LargestIntegers) {
  const int k = 512, n = 5;
  for (const QuantMode mode : kGguf)
    for (const uint8_t fill : {0x00, 0x7f, 0x80, 0xff}) {
      QuantizedMatrix w = random_matrix(quant_type(mode), {n, k}, 1);
      mx::eval(w.weight);
      auto* bytes = w.weight.data<uint8_t>();
      std::fill(bytes, bytes + w.weight.size(), fill);
      const size_t block = row_bytes(w.type, w.type.group_size);
      const mx::float16_t one(1.0f);
      for (size_t b = 0; b < w.weight.size() / block; ++b)
        for (const int at : scale_offsets(mode)) std::memcpy(bytes + b * block + at, &one, 2);
      const std::vector<float> wv = exact_values(w);
      for (const int m : {1, 9})
        for (const float sign : {-1.0f, 1.0f})
          for (const Isa i : available_isas())
            for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
              IsaScope isa_scope(i);
              PrecisionScope precision_scope(p);
              const mx::array x = mx::full({m, k}, sign);
              ASSERT_NO_FATAL_FAILURE(expect_product(
                  quantized_matmul(x, w), values(x), wv, k, p,
                  fmt::format("{} {} {} fill {} m {}", name(mode), name(i), name(p), fill, m)));
            }
    }
}

TEST(Quantized, BatchedStridedBroadcastAndEmptyActivations) {
  const QuantType t = quant_type(QuantMode::q4_1);
  const int k = 96, n = 33;
  const QuantizedMatrix w = random_matrix(t, {n, k}, 3);
  const std::vector<float> wv = exact_values(w);
  const mx::array base = floats({4, k, 6}, 4);
  const mx::array cases[] = {
      floats({2, 3, 5, k}, 5),
      floats({k}, 6),
      mx::swapaxes(base, 1, 2),
      mx::slice(floats({8, 2 * k}, 7), {1, k / 2}, {8, k / 2 + k}, {2, 1}),
      mx::broadcast_to(floats({1, k}, 8), {5, k}),
      mx::broadcast_to(floats({3, 1}, 9), {3, k}),
  };
  for (const Isa i : available_isas())
    for (const mx::array& x : cases) {
      IsaScope isa_scope(i);
      const mx::array y = quantized_matmul(x, w);
      mx::Shape shape = x.shape();
      shape.back() = n;
      EXPECT_EQ(y.shape(), shape);
      ASSERT_NO_FATAL_FAILURE(expect_product(y, values(x), wv, k, Precision::high, "strided"));
    }
  EXPECT_EQ(values(quantized_matmul(mx::zeros({2, 0, k}), w)).size(), 0u);
  const mx::array y = quantized_matmul(mx::zeros({3, k}), w);
  EXPECT_TRUE(mx::all(mx::equal(y, mx::array(0.0f))).item<bool>());
}

TEST(Quantized, MoreWeightRowsThanAChunk) {
  const int k = 64, n = 1111;
  for (const QuantMode mode : {QuantMode::q4_1, QuantMode::q5_0, QuantMode::q8_0}) {
    const QuantizedMatrix w = random_matrix(quant_type(mode), {n, k}, 3);
    const std::vector<float> wv = exact_values(w);
    for (const int m : {1, 5, 6, 7, 12, 40})
      for (const mx::Dtype dtype : {mx::float32, mx::bfloat16})
        for (const Isa i : available_isas()) {
          IsaScope isa_scope(i);
          const mx::array x = floats({m, k}, m, dtype);
          ASSERT_NO_FATAL_FAILURE(expect_product(quantized_matmul(x, w), values(x), wv, k,
                                                 Precision::high,
                                                 fmt::format("{} m {}", name(mode), m)));
        }
  }
}

TEST(Quantized, StridedWeights) {
  const QuantType t = quant_type(QuantMode::affine, 32, 4);
  QuantizedMatrix w = random_matrix(t, {10, 64}, 3);
  const std::vector<float> all = exact_values(w);
  const auto every_second = [](const mx::array& a) {
    return mx::slice(a, {0, 0}, {10, a.shape(1)}, {2, 1});
  };
  w.weight = every_second(w.weight);
  w.scales = every_second(*w.scales);
  w.biases = every_second(*w.biases);
  std::vector<float> wv;
  for (int r = 0; r < 10; r += 2) wv.insert(wv.end(), &all[r * 64], &all[r * 64] + 64);
  const mx::array x = floats({3, 64}, 4);
  expect_product(quantized_matmul(x, w), values(x), wv, 64, Precision::high, "strided weights");
}

TEST(Quantized, NonFiniteActivationsShow) {
  const QuantizedMatrix w = random_matrix(quant_type(QuantMode::q4_0), {5, 64}, 3);
  for (const Isa i : available_isas())
    for (const Precision p : {Precision::fast, Precision::high, Precision::exact})
      for (const float bad : {NAN, INFINITY, -INFINITY})
        for (const int m : {1, 9}) {
          IsaScope isa_scope(i);
          PrecisionScope precision_scope(p);
          std::vector<float> xv(m * 64, 1.0f);
          xv[40] = bad;
          const auto y = values(quantized_matmul(mx::array(xv.data(), {m, 64}), w));
          for (int j = 0; j < 5; ++j) EXPECT_FALSE(std::isfinite(y[j])) << name(i) << name(p);
          for (size_t j = 5; j < y.size(); ++j) EXPECT_TRUE(std::isfinite(y[j]));
        }
}

// f32 and bf16 activations beyond f16's range, and ones that are all but zero.
TEST(Quantized, ActivationsOfAnySize) {
  const int k = 256;
  const QuantizedMatrix w = random_matrix(quant_type(QuantMode::q8_0), {9, k}, 3);
  const std::vector<float> wv = exact_values(w);
  for (const float size : {1e-25f, 1e6f, 1e30f})
    for (const mx::Dtype dtype : {mx::float32, mx::bfloat16})
      for (const int m : {1, 9})
        for (const Isa i : available_isas())
          for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
            IsaScope isa_scope(i);
            PrecisionScope precision_scope(p);
            const mx::array x = mx::astype(floats({m, k}, 4) * mx::array(size), dtype);
            const mx::array y = mx::astype(quantized_matmul(x, w), mx::float32) / mx::array(size);
            auto xv = values(x);
            for (float& v : xv) v /= size;
            const std::vector<float> found = values(y);
            for (int r = 0; r < m; ++r)
              for (int j = 0; j < 9; ++j) {
                const Reference ref = reference(&xv[r * k], &wv[j * k], k, p, dtype);
                ASSERT_NEAR(found[r * 9 + j], ref.y, ref.bound) << name(i) << name(p) << size;
              }
          }
}

TEST(Quantized, ResultsDoNotDependOnThreads) {
  const int before = num_threads();
  for (const QuantType& t : {quant_type(QuantMode::q4_1), quant_type(QuantMode::q6_k),
                             quant_type(QuantMode::affine, 64, 4)})
    for (const int m : {1, 3, 40})
      for (const Isa i : available_isas())
        for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
          IsaScope isa_scope(i);
          PrecisionScope precision_scope(p);
          const QuantizedMatrix w = random_matrix(t, {1111, 512}, 3);
          const mx::array x = floats({m, 512}, 4);
          std::vector<float> first;
          for (const int threads : {1, 2, 5}) {
            set_num_threads(threads);
            const auto y = values(quantized_matmul(x, w));
            if (first.empty()) first = y;
            EXPECT_EQ(y, first);
          }
        }
  set_num_threads(before);
}

// Rows of weights that are read one at a time and those that are read four at a time.
TEST(Quantized, ARowOfActivationsHasTheSameBitsAloneAndAmongOthers) {
  uint64_t seed = 1;
  for (const QuantType& t : all_types())
    for (const int k : {256, 2816})
      for (const Isa i : available_isas())
        for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
          IsaScope isa_scope(i);
          PrecisionScope precision_scope(p);
          const QuantizedMatrix w = random_matrix(t, {21, k}, ++seed);
          const mx::array x = floats({7, k}, ++seed);
          const auto together = values(quantized_matmul(x, w));
          for (const int row : {0, 5, 6}) {
            const auto alone = values(quantized_matmul(mx::slice(x, {row, 0}, {row + 1, k}), w));
            const auto same = together.begin() + row * 21;
            EXPECT_EQ(alone, std::vector<float>(same, same + 21))
                << label(t) << " " << name(i) << " " << name(p) << " " << k << " row " << row;
          }
        }
}

TEST(Quantized, GatherMultipliesWithTheChosenExperts) {
  const int k = 256, n = 21, experts = 4;
  for (const QuantType& t : all_types()) {
    const QuantizedMatrix w = random_matrix(t, {experts, n, k}, 3);
    const std::vector<float> wv = exact_values(w);
    const std::vector<uint32_t> ids = {3, 0, 3, 1, 1, 3, 0, 3, 3, 3, 3, 3};
    const mx::array chosen(ids.data(), {static_cast<int>(ids.size())}, mx::uint32);
    const mx::array x = floats({static_cast<int>(ids.size()), k}, 4);
    const std::vector<float> xv = values(x);
    for (const Isa i : available_isas())
      for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
        IsaScope isa_scope(i);
        PrecisionScope precision_scope(p);
        const std::vector<float> y = values(gather_quantized_matmul(x, w, chosen));
        for (size_t r = 0; r < ids.size(); ++r)
          for (int j = 0; j < n; ++j) {
            const Reference ref =
                reference(&xv[r * k], &wv[(ids[r] * n + j) * k], k, p, mx::float32);
            ASSERT_NEAR(y[r * n + j], ref.y, ref.bound) << label(t) << name(i) << name(p);
          }
      }
  }
  const QuantizedMatrix w = random_matrix(quant_type(QuantMode::q8_0), {experts, n, k}, 3);
  const mx::array half = floats({3, k}, 4, mx::bfloat16);
  const mx::array y = gather_quantized_matmul(half, w, mx::array({2u, 0u, 2u}, mx::uint32), false);
  EXPECT_EQ(y.dtype(), mx::bfloat16);
  EXPECT_EQ(y.shape(), (mx::Shape{3, n}));
  EXPECT_EQ(
      values(gather_quantized_matmul(mx::zeros({0, k}), w, mx::zeros({0}, mx::uint32))).size(), 0u);
  EXPECT_ANY_THROW(mx::eval(gather_quantized_matmul(half, w, mx::array({2u, 4u, 2u}, mx::uint32))));
}

TEST(Quantized, RowsEqualTheWholeMatrix) {
  for (const QuantType& t : all_types())
    for (const mx::Dtype dtype : {mx::float32, mx::float16, mx::bfloat16}) {
      const QuantizedMatrix w = random_matrix(t, {11, 256}, 3, mx::bfloat16);
      const mx::array ids = mx::array({10, 0, 3, 3, 7, 1}, {2, 3});
      const mx::array found = quantized_rows(w, ids, dtype);
      EXPECT_EQ(found.dtype(), dtype);
      EXPECT_TRUE(mx::array_equal(found, mx::take(dequantize(w, dtype), ids, 0)).item<bool>())
          << label(t);
    }
  const QuantizedMatrix w = random_matrix(quant_type(QuantMode::q4_k), {11, 256}, 3);
  EXPECT_EQ(quantized_rows(w, mx::zeros({0}, mx::uint32), mx::float32).shape(),
            (mx::Shape{0, 256}));
  EXPECT_ANY_THROW(mx::eval(quantized_rows(w, mx::array({11}), mx::float32)));
  EXPECT_ANY_THROW(mx::eval(quantized_rows(w, mx::array({-1}), mx::float32)));
}

TEST(Quantized, GradientsOfActivations) {
  PrecisionScope precision_scope(Precision::exact);
  for (const QuantType& t : all_types()) {
    const QuantizedMatrix w = random_matrix(t, {7, 256}, 3);
    const mx::array weight = dequantize(w, mx::float32);
    const mx::array x = floats({2, 3, 256}, 4), c = floats({2, 3, 7}, 5);
    const auto grad = mx::vjp([&](const mx::array& a) { return quantized_matmul(a, w); }, x, c);
    EXPECT_TRUE(mx::allclose(grad.second, mx::matmul(c, weight), 1e-4, 1e-4).item<bool>())
        << label(t);
    const auto tangent = mx::jvp([&](const mx::array& a) { return quantized_matmul(a, w); }, x, x);
    EXPECT_TRUE(mx::allclose(tangent.second, mx::matmul(x, mx::transpose(weight)), 1e-4, 1e-4)
                    .item<bool>());
  }
}

TEST(Quantized, GradientsThroughExperts) {
  PrecisionScope precision_scope(Precision::exact);
  const QuantizedMatrix w = random_matrix(quant_type(QuantMode::q8_0), {3, 7, 64}, 3);
  const mx::array weight = dequantize(w, mx::float32);
  const mx::array ids({2u, 0u, 2u}, mx::uint32);
  const mx::array x = floats({3, 64}, 4), c = floats({3, 7}, 5);
  const auto grad =
      mx::vjp([&](const mx::array& a) { return gather_quantized_matmul(a, w, ids); }, x, c);
  const mx::array expected =
      mx::squeeze(mx::matmul(mx::expand_dims(c, 1), mx::take(weight, ids, 0)), 1);
  EXPECT_TRUE(mx::allclose(grad.second, expected, 1e-4, 1e-4).item<bool>());
}

TEST(Quantized, GradientsOfAffineScales) {
  PrecisionScope precision_scope(Precision::exact);
  const QuantizedMatrix w = random_matrix(quant_type(QuantMode::affine, 64, 4), {7, 128}, 3);
  const mx::array x = floats({3, 128}, 4), c = floats({3, 7}, 5);
  const auto ours = mx::vjp(
      [&](const mx::array& s) { return quantized_matmul(x, {w.type, w.weight, s, w.biases}); },
      *w.scales, c);
  const auto plain = mx::vjp(
      [&](const mx::array& s) {
        return mx::matmul(x, mx::transpose(mx::dequantize(w.weight, s, w.biases, 64, 4)));
      },
      *w.scales, c);
  EXPECT_TRUE(mx::allclose(ours.second, plain.second, 1e-4, 1e-3).item<bool>());
}

TEST(Quantized, Vmap) {
  const QuantizedMatrix w = random_matrix(quant_type(QuantMode::q4_0), {7, 64}, 3);
  const mx::array x = floats({3, 5, 64}, 4);
  const auto f = [&](const mx::array& a) { return quantized_matmul(a, w); };
  const mx::array y = mx::vmap(std::function<mx::array(const mx::array&)>(f), 1)(x);
  EXPECT_TRUE(mx::array_equal(y, mx::swapaxes(f(x), 0, 1)).item<bool>());
}

template <class F>
void expect_error(F f, const std::string& text) {
  try {
    f();
    FAIL() << "no Error; expected one with: " << text;
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr(text));
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
  }
}

TEST(Quantized, FaultsAreErrorsBeforeDispatch) {
  const QuantizedMatrix w = random_matrix(quant_type(QuantMode::q4_k), {7, 256}, 3);
  const QuantizedMatrix a = random_matrix(quant_type(QuantMode::affine, 64, 4), {7, 128}, 3);
  expect_error([&] { quantized_matmul(mx::zeros({3, 255}), w); }, "7 rows and 256 columns");
  expect_error([&] { quantized_matmul(mx::zeros({}), w); }, "does not fit");
  expect_error([&] { quantized_matmul(mx::zeros({3, 256}, mx::int32), w); }, "found int32");
  expect_error(
      [&] {
        quantized_matmul(mx::zeros({3, 256}), {w.type, mx::zeros({7, 143}, mx::uint8), {}, {}});
      },
      "multiple of 144 bytes");
  expect_error(
      [&] {
        quantized_matmul(mx::zeros({3, 256}), {w.type, mx::zeros({7, 144}, mx::uint32), {}, {}});
      },
      "expected uint8");
  expect_error([&] { quantized_matmul(mx::zeros({3, 128}), {a.type, a.weight, a.scales, {}}); },
               "biases");
  expect_error([&] { quantized_matmul(mx::zeros({3, 128}), {a.type, a.weight, {}, {}}); },
               "needs scales");
  expect_error(
      [&] {
        quantized_matmul(mx::zeros({3, 128}),
                         {a.type, a.weight, mx::zeros({7, 3}), mx::zeros({7, 3})});
      },
      "expected floats (7,2)");
  expect_error(
      [&] {
        quantized_matmul(mx::zeros({3, 128}),
                         {a.type, a.weight, a.scales, mx::astype(*a.biases, mx::float16)});
      },
      "biases");
  expect_error([&] { dequantize(w, mx::int32); }, "found int32");
  expect_error([&] { quantized_rows(w, mx::zeros({2}), mx::float32); }, "integers");
  expect_error([&] { gather_quantized_matmul(mx::zeros({3, 256}), w, mx::zeros({3}, mx::uint32)); },
               "expected x [T, K]");
  expect_error([&] { quantize(mx::zeros({4, 256}), quant_type(QuantMode::q4_0)); }, "read, not");
  expect_error([&] { quantize(mx::zeros({4, 100}), a.type); }, "multiple of 64");
  expect_error([&] { row_bytes(w.type, 128); }, "no multiple");
  expect_error([&] { row_bytes(quant_type(QuantMode::nvfp4), 48); }, "no multiple of 32");
  expect_error([&] { row_bytes(w.type, 0); }, "no multiple");
  expect_error([&] { quant_type(QuantMode::affine, 64, 7); }, "does not exist");
}

}  // namespace
}  // namespace mlxcpp::kernels
