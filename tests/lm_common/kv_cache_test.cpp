#include "lm_common/kv_cache.h"

#include <functional>

#include <gtest/gtest.h>

#include "lm_common/kv_cache/arrays_cache.h"
#include "lm_common/kv_cache/attention_cache.h"
#include "lm_common/kv_cache/cache_list.h"

namespace mlxcpp {
namespace {

using kernels::AttentionOptions;
using Kind = KvLayout::Kind;

constexpr int kHeads = 6, kKvHeads = 2, kDim = 32, kValueDim = 64;
const AttentionOptions kOptions{.scale = 0.2f};

struct Tokens {
  mx::array q, k, v;

  explicit Tokens(int n, int B = 1, mx::Dtype dtype = mx::float32, uint64_t seed = 1)
      : q(normal({B, n, kHeads, kDim}, seed, dtype)),
        k(normal({B, n, kKvHeads, kDim}, seed + 1, dtype)),
        v(normal({B, n, kKvHeads, kValueDim}, seed + 2, dtype)) {}
  Tokens part(int begin, int end) const {
    Tokens t = *this;
    for (auto* a : {&t.q, &t.k, &t.v}) {
      auto stop = a->shape();
      stop[2] = end;
      *a = mx::slice(*a, {0, 0, begin, 0}, stop);
    }
    return t;
  }

 private:
  static mx::array normal(const mx::Shape& shape, uint64_t seed, mx::Dtype dtype) {
    return mx::astype(mx::transpose(mx::random::normal(shape, mx::random::key(seed)), {0, 2, 1, 3}),
                      dtype);
  }
};

float largest_difference(const mx::array& a, const mx::array& b) {
  EXPECT_EQ(a.shape(), b.shape());
  if (a.size() == 0) return 0.0f;
  const auto d = mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32));
  return mx::max(mx::where(mx::isnan(d), mx::array(1e30f), d)).item<float>();
}

// The tokens through the cache in chunks; what each chunk gave, joined.
mx::array run(KVCache& cache, const Tokens& t, const std::vector<int>& chunks,
              const AttentionOptions& o = kOptions, bool lazy = false) {
  std::vector<mx::array> parts;
  int at = 0;
  for (const int n : chunks) {
    const auto p = t.part(at, at + n);
    parts.push_back(cache.attend(p.q, p.k, p.v, o));
    if (!lazy) parts.back().eval();
    at += n;
  }
  EXPECT_EQ(cache.offset(), at);
  return mx::concatenate(parts, 2);
}

std::vector<int> cut(int n, int chunk) {
  std::vector<int> chunks(n / chunk, chunk);
  if (n % chunk) chunks.push_back(n % chunk);
  return chunks;
}

std::unique_ptr<AttentionCache> rotating(int size, int keep,
                                         std::optional<QuantizeFrom> quantize = {},
                                         bool plain = false) {
  return std::make_unique<AttentionCache>(
      KvLayout(Kind::rotating, size, keep), quantize,
      plain ? kernels::make_plain_kv_store() : kernels::make_kv_store());
}

// What mlx-lm's RotatingKVCache does, token lists in the open: the list of a step is what was kept,
// and the new tokens; afterwards the first `keep` and the latest of it stay.
struct ListModel {
  int size, keep;
  std::vector<int> list;

  mx::array step(const Tokens& all, int begin, int end, const AttentionOptions& o) {
    while (static_cast<int>(list.size()) > size - 1) list.erase(list.begin() + keep);
    for (int p = begin; p < end; ++p) list.push_back(p);
    const auto picked = mx::array(list.data(), {static_cast<int>(list.size())}, mx::int32);
    AttentionOptions with = o;
    with.window = std::min(size, o.window.value_or(size));
    return kernels::plain_attention(all.part(begin, end).q, mx::take(all.k, picked, 2),
                                    mx::take(all.v, picked, 2), with);
  }
};

TEST(SimpleCache, AnyCutGivesWhatTheWholeGives) {
  for (const auto dtype : {mx::float32, mx::bfloat16, mx::float16}) {
    const Tokens t(300, 2, dtype);
    const auto whole = kernels::plain_attention(t.q, t.k, t.v, kOptions);
    for (const int chunk : {1, 7, 64, 256, 300}) {
      AttentionCache cache;
      EXPECT_LE(largest_difference(run(cache, t, cut(300, chunk)), whole),
                dtype == mx::float32 ? 3e-6f : 1e-2f)
          << chunk;
    }
  }
}

TEST(SimpleCache, WindowMaskSinksAndSoftcapAreTheModels) {
  const Tokens t(50);
  const AttentionOptions o{.scale = 0.3f,
                           .window = 9,
                           .sinks = mx::random::normal({kHeads}, mx::random::key(8)),
                           .softcap = 3.0f};
  AttentionCache cache;
  EXPECT_LE(
      largest_difference(run(cache, t, cut(50, 11), o), kernels::plain_attention(t.q, t.k, t.v, o)),
      3e-6f);
  AttentionCache masked;
  run(masked, t, {40});
  const auto last = t.part(40, 50);
  const AttentionOptions with{
      .mask = mx::greater(mx::random::normal({10, 50}, mx::random::key(3)), mx::array(0.0f))};
  const auto want = kernels::plain_attention(last.q, t.k, t.v, with);
  EXPECT_LE(largest_difference(masked.attend(last.q, last.k, last.v, with), want), 3e-6f);
}

TEST(SimpleCache, LazyStepsRunInOrder) {
  const Tokens t(40);
  const auto whole = kernels::plain_attention(t.q, t.k, t.v, kOptions);
  AttentionCache cache;
  std::vector<mx::array> parts;
  for (int i = 0; i < 40; i += 8) {
    const auto p = t.part(i, i + 8);
    parts.push_back(cache.attend(p.q, p.k, p.v, kOptions));
  }
  parts.back().eval();  // the last only
  EXPECT_LE(largest_difference(mx::concatenate(parts, 2), whole), 3e-6f);

  AttentionCache state_only;
  for (int i = 0; i < 32; i += 8) {
    const auto p = t.part(i, i + 8);
    state_only.attend(p.q, p.k, p.v, kOptions);  // nobody asks for the result
  }
  mx::eval(state_only.state());
  const auto p = t.part(32, 40);
  EXPECT_LE(largest_difference(state_only.attend(p.q, p.k, p.v, kOptions), parts.back()), 3e-6f);
}

TEST(SimpleCache, OneStepAheadAsynchronously) {
  const Tokens t(600);
  const auto whole = kernels::plain_attention(t.q, t.k, t.v, kOptions);
  AttentionCache cache;
  std::vector<mx::array> parts;
  for (int i = 0; i < 600; ++i) {
    const auto p = t.part(i, i + 1);
    parts.push_back(cache.attend(p.q, p.k, p.v, kOptions));
    mx::async_eval(parts.back());
    if (i > 0) parts[i - 1].wait();
  }
  EXPECT_LE(largest_difference(mx::concatenate(parts, 2), whole), 3e-6f);
}

TEST(SimpleCache, OutlivedByItsPendingSteps) {
  const Tokens t(300);
  auto cache = std::make_unique<AttentionCache>();
  auto y = cache->attend(t.q, t.k, t.v, kOptions);
  mx::async_eval(y);
  cache.reset();
  EXPECT_LE(largest_difference(y, kernels::plain_attention(t.q, t.k, t.v, kOptions)), 3e-6f);
}

TEST(SimpleCache, UpdateGivesEverythingSeen) {
  const Tokens t(300, 2);
  AttentionCache cache;
  for (int i = 0; i < 300; i += 100) {
    const auto p = t.part(i, i + 100);
    const auto [k, v] = cache.update(p.k, p.v);
    EXPECT_EQ(largest_difference(k, t.part(0, i + 100).k), 0.0f);
    EXPECT_EQ(largest_difference(v, t.part(0, i + 100).v), 0.0f);
    const auto mask = cache.mask(3);
    EXPECT_EQ(mask.shape(), (mx::Shape{3, i + 103}));
  }
}

TEST(SimpleCache, ArraysFromUpdateStayAsTheyAre) {
  const Tokens t(20, 1), other(20, 1, mx::float32, 50);
  AttentionCache cache;
  const auto k = cache.update(t.k, t.v).first;
  k.shape();
  EXPECT_EQ(cache.trim(10), 10);
  const auto p = other.part(0, 10);
  const auto k2 = cache.update(p.k, p.v).first;
  EXPECT_EQ(largest_difference(k2, mx::concatenate({t.part(0, 10).k, p.k}, 2)), 0.0f);
  EXPECT_EQ(largest_difference(k, t.k), 0.0f);
}

TEST(SimpleCache, TrimTakesTokensBack) {
  const Tokens t(60), other(60, 1, mx::float32, 40);
  AttentionCache cache, fresh;
  run(cache, t, {30, 1, 1});
  EXPECT_TRUE(cache.is_trimmable());
  EXPECT_EQ(cache.trim(12), 12);
  EXPECT_EQ(cache.offset(), 20);
  run(fresh, t, {20});
  const auto p = other.part(0, 15);
  EXPECT_EQ(largest_difference(cache.attend(p.q, p.k, p.v, kOptions),
                               fresh.attend(p.q, p.k, p.v, kOptions)),
            0.0f);
  EXPECT_EQ(cache.trim(1000), 35);
  EXPECT_EQ(cache.offset(), 0);
  EXPECT_EQ(cache.trim(1), 0);
}

TEST(SimpleCache, CopyGoesItsOwnWay) {
  const Tokens t(60), other(60, 1, mx::float32, 40);
  AttentionCache cache;
  run(cache, t, {30}, kOptions, true);
  const auto copy = cache.copy();
  const auto a = other.part(0, 5), b = t.part(30, 35);
  const auto want = kernels::plain_attention(b.q, t.part(0, 35).k, t.part(0, 35).v, kOptions);
  copy->attend(a.q, a.k, a.v, kOptions).eval();
  EXPECT_LE(largest_difference(cache.attend(b.q, b.k, b.v, kOptions), want), 3e-6f);
  EXPECT_EQ(copy->offset(), 35);
}

TEST(SimpleCache, RefusesWhatDoesNotFit) {
  const Tokens t(4);
  AttentionCache cache;
  cache.attend(t.q, t.k, t.v, kOptions);
  EXPECT_THROW(cache.attend(t.q, mx::slice(t.k, {0, 0, 0, 0}, {1, 1, 4, kDim}), t.v, kOptions),
               Error);
  EXPECT_THROW(cache.attend(mx::zeros({1, 3, 4, kDim}), t.k, t.v, kOptions), Error);
  const Tokens two(4, 2);
  EXPECT_THROW(cache.attend(two.q, two.k, two.v, kOptions), Error);
  EXPECT_EQ(cache.offset(), 4);
  EXPECT_THROW(AttentionCache(KvLayout(Kind::rotating, 4, 4)), Error);
  EXPECT_THROW(make_cache({.max_size = 4}), Error);
  EXPECT_THROW(make_cache({.bits = 3}), Error);
  EXPECT_THROW(make_cache({.bits = 8, .group_size = 48}), Error);
}

TEST(RotatingCache, EqualsTheListAtEveryLengthAroundItsSize) {
  const Tokens t(70);
  for (const int keep : {0, 4})
    for (const auto& chunks : {cut(70, 1),
                               cut(70, 3),
                               cut(70, 7),
                               cut(70, 15),
                               cut(70, 16),
                               cut(70, 17),
                               cut(70, 40),
                               std::vector<int>{70},
                               {1, 40, 1, 1, 27},
                               {15, 1, 1, 16, 37},
                               {2, 2, 40, 20, 6},
                               {16, 54},
                               {3, 12, 55}})
      for (const bool plain : {false, true})
        for (const bool lazy : {false, true})
          for (const std::optional<int> window : {std::optional<int>{}, {10}, {30}}) {
            AttentionOptions o = kOptions;
            o.window = window;
            const auto cache = rotating(16, keep, {}, plain);
            const auto got = run(*cache, t, chunks, o, lazy);
            ListModel model{16, keep, {}};
            std::vector<mx::array> want;
            int at = 0;
            for (const int n : chunks) {
              want.push_back(model.step(t, at, at + n, o));
              at += n;
            }
            ASSERT_LE(largest_difference(got, mx::concatenate(want, 2)), 3e-6f)
                << "keep " << keep << " first chunk " << chunks[0] << " plain " << plain;
          }
}

TEST(RotatingCache, WithoutKeptTokensIsASlidingWindowForAnyCut) {
  const Tokens t(200, 2);
  AttentionOptions o = kOptions;
  o.window = 33;
  const auto want = kernels::plain_attention(t.q, t.k, t.v, o);
  for (const int chunk : {1, 5, 32, 33, 34, 100, 200}) {
    const auto cache = make_cache({}, 33);
    EXPECT_LE(largest_difference(run(*cache, t, cut(200, chunk)), want), 3e-6f) << chunk;
  }
}

TEST(RotatingCache, MemoryIsBounded) {
  const auto cache = make_cache({.max_size = 1024});
  const Tokens t(512);
  run(*cache, t, {512});
  for (int i = 0; i < 3; ++i) cache->attend(t.q, t.k, t.v, kOptions).eval();
  const auto p = t.part(0, 1);
  cache->attend(p.q, p.k, p.v, kOptions).eval();
  const size_t bytes = cache->nbytes();
  EXPECT_EQ(bytes, 1024u * kKvHeads * (kDim + kValueDim) * sizeof(float));
  mx::clear_cache();
  mx::eval(cache->state());
  const size_t active = mx::get_active_memory();
  for (int i = 0; i < 10000; ++i) {
    auto y = cache->attend(p.q, p.k, p.v, kOptions);
    mx::async_eval(y);
    if (i % 100 == 0) y.wait();
  }
  mx::eval(cache->state());
  EXPECT_EQ(cache->nbytes(), bytes);
  EXPECT_LE(mx::get_active_memory(), active + 65536);
}

TEST(RotatingCache, TrimsUntilItHasRotated) {
  const Tokens t(40);
  const auto cache = rotating(16, 4);
  run(*cache, t, {10});
  EXPECT_TRUE(cache->is_trimmable());
  EXPECT_EQ(cache->trim(3), 3);
  const auto p = t.part(7, 27);
  ListModel model{16, 4, {0, 1, 2, 3, 4, 5, 6}};
  EXPECT_LE(
      largest_difference(cache->attend(p.q, p.k, p.v, kOptions), model.step(t, 7, 27, kOptions)),
      3e-6f);
  EXPECT_FALSE(cache->is_trimmable());
  EXPECT_EQ(cache->trim(1), 0);
}

TEST(RotatingCache, SharedAttentionSeesWhatTheStepSaw) {
  const Tokens t(60), other(60, 1, mx::float32, 40);
  for (const auto& chunks : {cut(60, 1), cut(60, 13), cut(60, 40)})
    for (const bool plain : {false, true}) {
      const auto cache = rotating(16, 4, {}, plain);
      ListModel model{16, 4, {}};
      int at = 0;
      for (const int n : chunks) {
        const auto p = t.part(at, at + n);
        Tokens mixed = t;
        mixed.q = other.q;
        cache->attend(p.q, p.k, p.v, kOptions);
        const auto y = cache->attend_shared(other.part(at, at + n).q, kOptions);
        EXPECT_LE(largest_difference(y, model.step(mixed, at, at + n, kOptions)), 3e-6f);
        at += n;
      }
    }
}

TEST(RotatingCache, UpdateAndMaskSayTheSameAsAttend) {
  const Tokens t(60);
  for (const int chunk : {1, 7, 30}) {
    const auto one = rotating(16, 4), two = rotating(16, 4);
    int at = 0;
    for (const int n : cut(60, chunk)) {
      const auto p = t.part(at, at + n);
      AttentionOptions o = kOptions;
      o.mask = two->mask(n);
      const auto [k, v] = two->update(p.k, p.v);
      EXPECT_LE(largest_difference(one->attend(p.q, p.k, p.v, kOptions),
                                   kernels::plain_attention(p.q, k, v, o)),
                3e-6f);
      at += n;
    }
  }
}

// Quantised and read back, as the reference for what a quantised cache holds.
mx::array rounded(const mx::array& x, const kernels::KvQuantization& q) {
  const auto parts = mx::quantize(mx::contiguous(x), q.group_size, q.bits);
  return mx::dequantize(parts[0], mx::astype(parts[1], mx::float32),
                        mx::astype(parts[2], mx::float32), q.group_size, q.bits);
}

TEST(QuantizedCache, EqualsAttentionOverDequantisedArrays) {
  for (const auto dtype : {mx::float32, mx::bfloat16, mx::float16})
    for (const int bits : {8, 4}) {
      const kernels::KvQuantization q{bits, 32};
      const Tokens t(90, 2, dtype);
      Tokens coarse = t;
      coarse.k = rounded(t.k, q);
      coarse.v = rounded(t.v, q);
      coarse.q = mx::astype(t.q, mx::float32);
      for (const bool plain : {false, true}) {
        AttentionCache cache(KvLayout(), QuantizeFrom{q, 0},
                             plain ? kernels::make_plain_kv_store() : kernels::make_kv_store());
        // The first step is in full precision, as mlx-lm's.
        const auto got = run(cache, t, {20, 30, 1, 1, 38});
        const auto want = kernels::plain_attention(coarse.q, coarse.k, coarse.v, kOptions);
        const auto rest = [](const mx::array& y) { return mx::slice(y, {0, 0, 20, 0}, y.shape()); };
        // The plain store rounds the dequantised numbers to the dtype, too.
        const float half = plain ? 5e-2f : 1e-2f;
        EXPECT_LE(largest_difference(rest(got), rest(want)), dtype == mx::float32 ? 3e-6f : half)
            << bits << plain;
        const auto first = t.part(0, 20);
        EXPECT_LE(largest_difference(mx::slice(got, {0, 0, 0, 0}, {2, kHeads, 20, kValueDim}),
                                     kernels::plain_attention(first.q, first.k, first.v, kOptions)),
                  dtype == mx::float32 ? 3e-6f : 1.6e-2f);
      }
    }
}

TEST(QuantizedCache, CodesAndScalesAreMlxs) {
  for (const auto dtype : {mx::float32, mx::bfloat16, mx::float16})
    for (const int bits : {8, 4})
      for (const int group : {32, 64}) {
        if (group > kDim) continue;
        const Tokens t(50, 2, dtype);
        AttentionCache cache(KvLayout(), QuantizeFrom{{bits, group}, 0});
        run(cache, t, {10, 1, 39});
        const auto state = cache.saved();
        ASSERT_GE(state.values.size(), 6u);
        const auto k = mx::quantize(mx::contiguous(t.k), group, bits),
                   v = mx::quantize(mx::contiguous(t.v), group, bits);
        for (int i = 0; i < 3; ++i) {
          EXPECT_TRUE(
              mx::array_equal(std::get<mx::array>(state.values[i].second), k[i]).item<bool>())
              << bits << i;
          EXPECT_TRUE(
              mx::array_equal(std::get<mx::array>(state.values[3 + i].second), v[i]).item<bool>());
        }
      }
}

TEST(QuantizedCache, StartsWhenThereAreEnoughTokens) {
  const auto cache = make_cache({.bits = 8, .group_size = 32, .quantized_start = 20});
  const Tokens t(60);
  auto& attention = static_cast<AttentionCache&>(*cache);
  run(*cache, t, {10});
  EXPECT_EQ(attention.saved().kind, "KVCache");
  auto p = t.part(10, 20);
  cache->attend(p.q, p.k, p.v, kOptions);
  p = t.part(20, 21);
  cache->attend(p.q, p.k, p.v, kOptions).eval();
  EXPECT_EQ(attention.saved().kind, "QuantizedKVCache");
  const size_t floats = 256u * kKvHeads * (kDim + kValueDim) * 4;
  EXPECT_LT(cache->nbytes(), floats / 2);
}

TEST(QuantizedCache, HeadSizeMustBeAMultipleOfTheGroup) {
  const auto cache = make_cache({.bits = 8, .group_size = 64});
  const Tokens t(8);
  cache->attend(t.q, t.k, t.v, kOptions);
  EXPECT_THROW(cache->attend(t.q, t.k, t.v, kOptions), Error);
}

TEST(QuantizedCache, RotatesToo) {
  const Tokens t(70);
  const kernels::KvQuantization q{8, 32};
  Tokens coarse = t;
  coarse.k = rounded(t.k, q);
  coarse.v = rounded(t.v, q);
  for (const auto& chunks : {cut(70, 1), cut(70, 7), cut(70, 40), std::vector<int>{20, 1, 1, 48}})
    for (const bool plain : {false, true}) {
      const auto cache = rotating(16, 4, QuantizeFrom{q, 0}, plain);
      ListModel model{16, 4, {}};
      int at = 0;
      for (const int n : chunks) {
        const auto p = t.part(at, at + n);
        const auto y = cache->attend(p.q, p.k, p.v, kOptions);
        const auto want = model.step(at == 0 ? t : coarse, at, at + n, kOptions);
        EXPECT_LE(largest_difference(y, want), 3e-6f) << chunks[0] << " at " << at;
        at += n;
      }
    }
}

TEST(ChunkedCache, QueriesSeeTheirOwnBlock) {
  const Tokens t(70);
  const auto at = mx::arange(70);
  const auto block = mx::floor_divide(at, mx::array(16));
  AttentionOptions o = kOptions;
  o.mask = mx::logical_and(mx::equal(mx::expand_dims(block, 0), mx::expand_dims(block, 1)),
                           mx::less_equal(mx::expand_dims(at, 0), mx::expand_dims(at, 1)));
  const auto want = kernels::plain_attention(t.q, t.k, t.v, o);
  for (const int chunk : {1, 5, 16, 17, 70})
    for (const bool plain : {false, true}) {
      AttentionCache cache(KvLayout(Kind::chunked, 16), {},
                           plain ? kernels::make_plain_kv_store() : kernels::make_kv_store());
      EXPECT_LE(largest_difference(run(cache, t, cut(70, chunk)), want), 3e-6f) << chunk;
      AttentionCache updated(KvLayout(Kind::chunked, 16));
      int i = 0;
      for (const int n : cut(70, chunk)) {
        const auto p = t.part(i, i + n);
        AttentionOptions with = kOptions;
        with.mask = updated.mask(n);
        const auto [k, v] = updated.update(p.k, p.v);
        EXPECT_LE(largest_difference(kernels::plain_attention(p.q, k, v, with),
                                     mx::slice(want, {0, 0, i, 0}, {1, kHeads, i + n, kValueDim})),
                  3e-6f);
        i += n;
      }
    }
}

TEST(ChunkedCache, TrimsWhatIsStillThere) {
  const Tokens t(70);
  AttentionCache cache(KvLayout(Kind::chunked, 16));
  run(cache, t, {30, 8});
  EXPECT_EQ(cache.trim(20), 6);  // back to the block's start at 32
  EXPECT_EQ(cache.offset(), 32);
  AttentionCache fresh(KvLayout(Kind::chunked, 16));
  run(fresh, t, {32});
  const auto p = t.part(32, 50);
  EXPECT_LE(largest_difference(cache.attend(p.q, p.k, p.v, kOptions),
                               fresh.attend(p.q, p.k, p.v, kOptions)),
            3e-6f);
}

TEST(BatchedCache, RowsStandAtTheirOwnPositions) {
  const std::vector<int> padding = {0, 5, 12};
  const Tokens t(60, 3);
  for (const bool windowed : {false, true})
    for (const int chunk : {1, 13, 20, 60}) {
      const auto layout = windowed ? KvLayout(Kind::rotating, 16) : KvLayout();
      AttentionCache cache(layout, padding);
      const auto got = run(cache, t, cut(60, chunk));
      auto at = std::get<mx::array>(cache.positions());
      EXPECT_TRUE(mx::array_equal(at, mx::array({60, 55, 48})).item<bool>());
      for (int b = 0; b < 3; ++b) {
        const auto row = [&](const mx::array& a) {
          return mx::slice(a, {b, 0, padding[b], 0}, {b + 1, a.shape(1), 60, a.shape(3)});
        };
        AttentionOptions o = kOptions;
        if (windowed) o.window = 16;
        EXPECT_LE(
            largest_difference(row(got), kernels::plain_attention(row(t.q), row(t.k), row(t.v), o)),
            3e-6f)
            << "row " << b << " chunk " << chunk;
      }
    }
  EXPECT_THROW(AttentionCache(KvLayout(Kind::rotating, 16, 4), std::vector<int>{0, 1}), Error);
}

TEST(OtherCaches, ArraysAndLists) {
  ArraysCache arrays(2);
  EXPECT_FALSE(arrays[0]);
  arrays[0] = mx::ones({1, 3});
  arrays.advance(7);
  EXPECT_EQ(arrays.offset(), 7);
  EXPECT_EQ(arrays.state().size(), 1u);
  EXPECT_THROW(arrays.update(mx::ones({1}), mx::ones({1})), Error);
  const auto copy = arrays.copy();
  arrays[0] = mx::zeros({1, 3});
  EXPECT_EQ(mx::sum(copy->state()[0]).item<float>(), 3.0f);

  Caches both;
  both.push_back(std::make_unique<AttentionCache>());
  both.push_back(std::make_unique<ArraysCache>(1));
  CacheList list(std::move(both));
  const Tokens t(9);
  list.attend(t.q, t.k, t.v, kOptions);
  EXPECT_EQ(list.offset(), 9);
  EXPECT_FALSE(list.is_trimmable());
  EXPECT_EQ(list.trim(1), 0);
  EXPECT_EQ(list.copy()->offset(), 9);
}

TEST(Masks, CausalWindowAndPadding) {
  const auto equal = [](const mx::array& a, const std::vector<int>& want) {
    const auto flat = mx::astype(mx::flatten(a), mx::int32);
    return mx::array_equal(flat, mx::array(want.data(), {static_cast<int>(want.size())}, mx::int32))
        .item<bool>();
  };
  EXPECT_TRUE(equal(create_causal_mask(2, 1), {1, 1, 0, 1, 1, 1}));
  EXPECT_TRUE(equal(create_causal_mask(2, 1, 1), {0, 1, 0, 0, 0, 1}));
  const auto padded = create_causal_mask(2, 0, {}, mx::array({0, 1}));
  EXPECT_EQ(padded.shape(), (mx::Shape{2, 1, 2, 2}));
  EXPECT_TRUE(equal(padded, {1, 0, 1, 1, 0, 0, 0, 1}));
}

}  // namespace
}  // namespace mlxcpp
