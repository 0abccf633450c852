#include "support/machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/isa.h"
#include "kernels/thread_pool.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mlxcpp::bench {
namespace {

using kernels::Isa;

// What keeps the loops from being left out.
std::atomic<float> sink;

struct Peaks {
  float (*read)(const float* x, size_t n);  // n is a multiple of 256
  // `rounds` times `operations` operations each.
  float (*f32)(size_t rounds);
  size_t f32_operations;
  float (*int8)(size_t rounds);
  size_t int8_operations;
};

float read_plain(const float* x, size_t n) {
  float sums[16] = {};
  for (size_t i = 0; i < n; i += 16)
    for (size_t j = 0; j < 16; ++j) sums[j] += x[i + j];
  float total = 0;
  for (const float s : sums) total += s;
  return total;
}
float f32_plain(size_t rounds) {
  float a[64];
  for (int j = 0; j < 64; ++j) a[j] = static_cast<float>(j);
  for (size_t i = 0; i < rounds; ++i)
    for (float& v : a) v = v * 0.5f + 0.25f;
  float total = 0;
  for (const float v : a) total += v;
  return total;
}
float int8_plain(size_t rounds) {
  int32_t sums[64] = {};
  int8_t a[64], b[64];
  for (int j = 0; j < 64; ++j) a[j] = b[j] = static_cast<int8_t>(j);
  for (size_t i = 0; i < rounds; ++i)
    for (int j = 0; j < 64; ++j) {
      sums[j] += a[j] * b[j];
      a[j] = static_cast<int8_t>(a[j] + 1);
    }
  float total = 0;
  for (const int32_t s : sums) total += static_cast<float>(s);
  return total;
}
constexpr Peaks kPlain = {read_plain, f32_plain, 128, int8_plain, 128};

#if defined(__x86_64__)
// Twelve sums at a time hide the latency of an instruction.
constexpr int kSums = 12;

__attribute__((target("avx2,fma"))) float read_avx2(const float* x, size_t n) {
  __m256 s[8];
  for (auto& v : s) v = _mm256_setzero_ps();
  for (size_t i = 0; i < n; i += 64) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) s[j] = _mm256_add_ps(s[j], _mm256_loadu_ps(x + i + 8 * j));
  }
  float out[8], total = 0;
  for (const auto& v : s) {
    _mm256_storeu_ps(out, v);
    total += out[0];
  }
  return total;
}
__attribute__((target("avx2,fma"))) float f32_avx2(size_t rounds) {
  __m256 s[kSums];
  for (auto& v : s) v = _mm256_set1_ps(1.0f);
  const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
  for (size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kSums; ++j) s[j] = _mm256_fmadd_ps(s[j], a, b);
  }
  float out[8], total = 0;
  for (const auto& v : s) {
    _mm256_storeu_ps(out, v);
    total += out[0];
  }
  return total;
}
__attribute__((target("avx2,fma"))) float int8_avx2(size_t rounds) {
  __m256i s[kSums];
  for (auto& v : s) v = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(1);
  const __m256i b = _mm256_set1_epi8(2), ones = _mm256_set1_epi16(1);
  for (size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kSums; ++j)
      s[j] = _mm256_add_epi32(
          s[j], _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_xor_si256(a, s[j]), b), ones));
    a = _mm256_add_epi8(a, b);
  }
  int32_t out[8];
  float total = 0;
  for (const auto& v : s) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), v);
    total += static_cast<float>(out[0]);
  }
  return total;
}
constexpr Peaks kAvx2 = {read_avx2, f32_avx2, kSums * 16, int8_avx2, kSums * 64};

__attribute__((target("avx512f"))) float read_avx512(const float* x, size_t n) {
  __m512 s[8];
  for (auto& v : s) v = _mm512_setzero_ps();
  for (size_t i = 0; i < n; i += 128) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) s[j] = _mm512_add_ps(s[j], _mm512_loadu_ps(x + i + 16 * j));
  }
  float total = 0;
  for (const auto& v : s) total += _mm512_cvtss_f32(v);
  return total;
}
__attribute__((target("avx512f"))) float f32_avx512(size_t rounds) {
  __m512 s[kSums];
  for (auto& v : s) v = _mm512_set1_ps(1.0f);
  const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
  for (size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kSums; ++j) s[j] = _mm512_fmadd_ps(s[j], a, b);
  }
  float total = 0;
  for (const auto& v : s) total += _mm512_cvtss_f32(v);
  return total;
}
__attribute__((target("avx512f,avx512vnni"))) float int8_avx512(size_t rounds) {
  __m512i s[kSums];
  for (auto& v : s) v = _mm512_setzero_si512();
  const __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  for (size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int j = 0; j < kSums; ++j) s[j] = _mm512_dpbusd_epi32(s[j], a, b);
  }
  float total = 0;
  for (const auto& v : s) total += static_cast<float>(_mm512_cvtsi512_si32(v));
  return total;
}
constexpr Peaks kAvx512 = {read_avx512, f32_avx512, kSums * 32, int8_avx512, kSums * 128};
#endif

const Peaks& peaks() {
#if defined(__x86_64__)
  if (kernels::isa() == Isa::avx512) return kAvx512;
  if (kernels::isa() == Isa::avx2) return kAvx2;
#endif
  return kPlain;
}

// The most that f() does in a second, of `amount` each.
template <class F>
double rate(double amount, F f) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  const auto end = Clock::now() + std::chrono::milliseconds(500);
  for (int run = 0; run < 3 || Clock::now() < end; ++run) {
    const auto start = Clock::now();
    f();
    best = std::max(best, amount / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

double on_all_threads(float (*loop)(size_t rounds), size_t operations) {
  constexpr size_t kRounds = 1000000;
  const auto threads = static_cast<size_t>(kernels::num_threads());
  return rate(static_cast<double>(threads * kRounds * operations), [&] {
    kernels::parallel_for(threads, 1, [&](size_t, size_t) { sink = loop(kRounds); });
  });
}

}  // namespace

MachineLimits measure_limits() {
  const Peaks& p = peaks();
  constexpr size_t kNumbers = size_t{256} << 20 >> 2, kPiece = size_t{1} << 18;
  const std::vector<float> numbers(kNumbers, 1.0f);
  return {rate(4.0 * kNumbers,
               [&] {
                 kernels::parallel_for(kNumbers, kPiece, [&](size_t begin, size_t end) {
                   sink = p.read(numbers.data() + begin, end - begin);
                 });
               }),
          on_all_threads(p.f32, p.f32_operations), on_all_threads(p.int8, p.int8_operations)};
}

}  // namespace mlxcpp::bench
