#include "lm_common/kv_cache/prompt_cache.h"

#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lm_common/kv_cache/arrays_cache.h"
#include "lm_common/kv_cache/attention_cache.h"
#include "lm_common/kv_cache/cache_list.h"
#include "tests/support/paths.h"

namespace mlxcpp {
namespace {

using Kind = KvLayout::Kind;
using ::testing::HasSubstr;

const kernels::AttentionOptions kOptions{.scale = 0.25f};
constexpr kernels::KvQuantization kQ8{8, 32};

class PromptCacheTest : public ::testing::Test {
 protected:
  PromptCacheTest() {
    auto name = (std::filesystem::temp_directory_path() / "prompt_cache_XXXXXX").string();
    folder_ = mkdtemp(name.data());
    file_ = folder_ / "cache.safetensors";
  }
  ~PromptCacheTest() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_, file_;
};

mx::array random(int heads, int n, uint64_t seed, int B = 1) {
  return mx::random::normal({B, heads, n, 32}, mx::random::key(seed));
}

mx::array step(KVCache& cache, int n, uint64_t seed, int B = 1) {
  auto y = cache.attend(random(4, n, seed, B), random(2, n, seed + 1, B), random(2, n, seed + 2, B),
                        kOptions);
  y.eval();
  return y;
}

float largest_difference(const mx::array& a, const mx::array& b) {
  EXPECT_EQ(a.shape(), b.shape());
  return mx::max(mx::abs(a - b)).item<float>();
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST_F(PromptCacheTest, EveryKindGoesOnWhereItWas) {
  struct Case {
    KvLayout layout;
    std::optional<QuantizeFrom> quantize;
    int batch;
  };
  const std::vector<Case> cases = {
      {KvLayout(), {}, 1},
      {KvLayout(), QuantizeFrom{kQ8, 0}, 1},
      {KvLayout(), QuantizeFrom{{4, 32}, 0}, 1},
      {KvLayout(Kind::rotating, 16, 4), {}, 1},
      {KvLayout(Kind::rotating, 16), QuantizeFrom{kQ8, 0}, 1},
      {KvLayout(Kind::chunked, 16), {}, 1},
      {KvLayout(Kind::chunked, 16), QuantizeFrom{kQ8, 0}, 1},
      {KvLayout(), {}, 3},
      {KvLayout(Kind::rotating, 16), {}, 3},
      {KvLayout(Kind::rotating, 16), QuantizeFrom{kQ8, 0}, 3},
  };
  for (const Case& c : cases)
    for (const std::vector<int>& before :
         {std::vector<int>{5}, {14, 1, 1, 1, 1}, {40}, {10, 30}, {30, 1, 1}})
      for (const int after : {1, 9}) {
        Caches caches;
        if (c.batch == 1)
          caches.push_back(std::make_unique<AttentionCache>(c.layout, c.quantize));
        else
          caches.push_back(
              std::make_unique<AttentionCache>(c.layout, std::vector<int>{0, 2, 4}, c.quantize));
        for (const int n : before) step(*caches[0], n, 3, c.batch);
        save_prompt_cache(file_, caches, {{"model", "m"}});
        auto loaded = load_prompt_cache(file_);
        EXPECT_EQ(loaded.metadata.at("model"), "m");
        ASSERT_EQ(loaded.caches.size(), 1u);
        EXPECT_EQ(loaded.caches[0]->offset(), caches[0]->offset());
        const auto kind = caches[0]->saved().kind;
        EXPECT_EQ(loaded.caches[0]->saved().kind, kind);
        if (c.batch > 1) {
          EXPECT_TRUE(mx::array_equal(std::get<mx::array>(loaded.caches[0]->positions()),
                                      std::get<mx::array>(caches[0]->positions()))
                          .item<bool>());
        }
        // A cache that is about to be quantised goes on in the numbers it was saved in.
        if (before.size() == 1 && c.quantize) continue;
        for (int i = 0; i < 3; ++i)
          EXPECT_LE(largest_difference(step(*loaded.caches[0], after, 70 + i, c.batch),
                                       step(*caches[0], after, 70 + i, c.batch)),
                    3e-6f)
              << kind << " after " << before.back() << " step " << i << " of " << after;
      }
}

TEST_F(PromptCacheTest, EmptyCachesArraysAndLists) {
  Caches caches;
  caches.push_back(std::make_unique<AttentionCache>());
  auto arrays = std::make_unique<ArraysCache>(3, std::vector<int>{0, 2});
  (*arrays)[1] = mx::ones({2, 5});
  arrays->advance(7);
  caches.push_back(std::move(arrays));
  Caches parts;
  parts.push_back(std::make_unique<AttentionCache>(KvLayout(Kind::rotating, 8)));
  parts.push_back(std::make_unique<ArraysCache>(1));
  step(*parts[0], 20, 1);
  caches.push_back(std::make_unique<CacheList>(std::move(parts)));
  save_prompt_cache(file_, caches);

  const auto loaded = load_prompt_cache(file_, &caches).caches;
  ASSERT_EQ(loaded.size(), 3u);
  EXPECT_EQ(loaded[0]->offset(), 0);
  auto& same = dynamic_cast<ArraysCache&>(*loaded[1]);
  EXPECT_FALSE(same[0]);
  EXPECT_EQ(mx::sum(*same[1]).item<float>(), 10.0f);
  EXPECT_EQ(same.offset(), 7);
  EXPECT_TRUE(
      mx::array_equal(std::get<mx::array>(same.positions()), mx::array({7, 5})).item<bool>());
  auto& list = dynamic_cast<CacheList&>(*loaded[2]);
  ASSERT_EQ(list.size(), 2);
  EXPECT_LE(largest_difference(step(list[0], 3, 9), step(*caches[2], 3, 9)), 1e-6f);
  step(*loaded[0], 4, 1);
}

TEST_F(PromptCacheTest, ReadsWhatMlxLmWrites) {
  const auto golden =
      mx::load_safetensors((test::golden_folder() / "kv_cache.safetensors").string()).first;
  const auto &q = golden.at("q"), &k = golden.at("k"), &v = golden.at("v");
  struct Case {
    const char* name;
    KvLayout layout;
    std::optional<QuantizeFrom> quantize;
    std::vector<int> chunks;
  };
  for (const Case& c :
       {Case{"simple_chunk7", KvLayout(), {}, {44}},
        Case{"kv8_chunk7", KvLayout(), QuantizeFrom{kQ8, 0}, {7, 37}},
        Case{"rotating16_keep4_mixed", KvLayout(Kind::rotating, 16, 4), {}, {44}},
        Case{"rotating16_keep4_prompt_then_tokens", KvLayout(Kind::rotating, 16, 4), {}, {44}}}) {
    auto loaded = load_prompt_cache(test::golden_folder() /
                                    fmt::format("prompt_cache_{}.safetensors", c.name));
    EXPECT_EQ(loaded.metadata.at("model"), "golden");
    AttentionCache ours(c.layout, c.quantize);
    int at = 0;
    for (const int n : c.chunks) {
      const auto part = [&](const mx::array& a) {
        auto stop = a.shape();
        stop[2] = at + n;
        return mx::slice(a, {0, 0, at, 0}, stop);
      };
      ours.attend(part(q), part(k), part(v), kOptions).eval();
      at += n;
    }
    auto& cache = *loaded.caches.at(0);
    EXPECT_EQ(cache.offset(), 44) << c.name;
    for (const int n : {1, 5, 1}) {
      const auto one = [&](int heads, uint64_t seed) {
        return mx::random::normal({1, heads, n, 32}, mx::random::key(seed));
      };
      const auto a = one(2, 5), b = one(1, 6), d = one(1, 7);
      EXPECT_LE(largest_difference(cache.attend(a, b, d, kOptions), ours.attend(a, b, d, kOptions)),
                3e-6f)
          << c.name;
    }
  }
}

TEST_F(PromptCacheTest, RefusesAnotherModelsCaches) {
  const auto caches_of = [](auto... cache) {
    Caches all;
    (all.push_back(std::move(cache)), ...);
    return all;
  };
  const auto simple = [] { return std::make_unique<AttentionCache>(); };
  const auto rotating = [](int size) {
    return std::make_unique<AttentionCache>(KvLayout(Kind::rotating, size));
  };
  const Caches saved = caches_of(simple(), rotating(16));
  step(*saved[0], 5, 1);
  save_prompt_cache(file_, saved);
  const auto error = [&](const Caches& like) {
    return error_of([&] { load_prompt_cache(file_, &like); });
  };
  EXPECT_THAT(error(caches_of(simple())), HasSubstr("2 layers, but the model has 1"));
  EXPECT_THAT(error(caches_of(simple(), simple())), HasSubstr("layer 1"));
  EXPECT_THAT(error(caches_of(simple(), rotating(17))), HasSubstr("window"));
  EXPECT_THAT(error(caches_of(simple(), std::make_unique<ArraysCache>(1))), HasSubstr("kind"));
  EXPECT_EQ(error(caches_of(simple(), rotating(16))), "no error");
  // Another head size shows at the first step.
  const auto loaded = load_prompt_cache(file_);
  const auto wide = mx::ones({1, 2, 1, 64});
  EXPECT_THAT(error_of([&] { loaded.caches[0]->attend(wide, wide, wide, kOptions); }),
              HasSubstr("holds keys"));
}

TEST_F(PromptCacheTest, RefusesWhatIsNoPromptCache) {
  EXPECT_THAT(error_of([&] { load_prompt_cache(folder_ / "none.safetensors"); }),
              HasSubstr("none.safetensors"));
  mx::save_safetensors(file_.string(), {{"x", mx::ones({2})}});
  EXPECT_THAT(error_of([&] { load_prompt_cache(file_); }), HasSubstr("not a prompt cache"));

  const auto with = [&](std::unordered_map<std::string, mx::array> tensors,
                        const std::string& kind) {
    std::unordered_map<std::string, std::string> metadata = {{"1.0", kind}, {"2.0", ""}};
    for (const char* path : {"0.2", "0.3", "0.4", "0.5"}) {
      metadata[std::string("2.") + path[2] + ".0"] = path;
      metadata[std::string("2.") + path[2] + ".1"] = "scalar";
    }
    mx::save_safetensors(file_.string(), std::move(tensors), metadata);
    return error_of([&] { load_prompt_cache(file_); });
  };
  const auto keys = mx::ones({1, 1, 8, 32});
  const auto n = [](int x) { return mx::array(x); };
  EXPECT_EQ(with({{"0.0", keys}, {"0.1", keys}, {"0.2", n(8)}}, "KVCache"), "no error");
  EXPECT_THAT(with({{"0.0", keys}, {"0.1", keys}, {"0.2", n(9)}}, "KVCache"), HasSubstr("layer 0"));
  EXPECT_THAT(with({{"0.0", keys}, {"0.1", keys}, {"0.2", n(-1)}}, "KVCache"),
              HasSubstr("layer 0"));
  EXPECT_THAT(with({{"0.0", keys}, {"0.2", n(8)}}, "KVCache"), HasSubstr("keys and values"));
  EXPECT_THAT(with({{"0.0", keys}, {"0.1", mx::ones({1, 2, 8, 32})}, {"0.2", n(8)}}, "KVCache"),
              HasSubstr("layer 0"));
  EXPECT_THAT(with({{"0.0", keys}, {"0.1", keys}, {"0.2", mx::ones({3})}}, "KVCache"),
              HasSubstr("one number"));
  EXPECT_THAT(with({{"0.0", keys}, {"0.1", keys}}, "KVCache"), HasSubstr("expected a number"));
  EXPECT_THAT(with({}, "SpecialCache"), HasSubstr("SpecialCache"));
  EXPECT_THAT(with({}, "CacheList"), HasSubstr("at least one"));
  EXPECT_THAT(with({{"0.0", keys},
                    {"0.1", keys},
                    {"0.2", n(100)},
                    {"0.3", n(4)},
                    {"0.4", n(16)},
                    {"0.5", n(8)}},
                   "RotatingKVCache"),
              HasSubstr("stored"));
  EXPECT_THAT(with({{"0.0", keys},
                    {"0.1", keys},
                    {"0.2", n(8)},
                    {"0.3", n(4)},
                    {"0.4", n(0)},
                    {"0.5", n(8)}},
                   "RotatingKVCache"),
              HasSubstr("too small"));
}

TEST_F(PromptCacheTest, TrimsAllOrNothing) {
  Caches caches;
  caches.push_back(std::make_unique<AttentionCache>());
  caches.push_back(std::make_unique<AttentionCache>(KvLayout(Kind::rotating, 16)));
  for (const auto& c : caches) step(*c, 10, 1);
  EXPECT_TRUE(can_trim_prompt_cache(caches));
  EXPECT_EQ(trim_prompt_cache(caches, 4), 4);
  for (const auto& c : caches) step(*c, 20, 1);
  EXPECT_FALSE(can_trim_prompt_cache(caches));
  EXPECT_EQ(trim_prompt_cache(caches, 4), 0);
  EXPECT_EQ(caches[0]->offset(), 26);
}

TEST(BatchedCaches, MergedRowsGoOnAsTheyWouldAlone) {
  for (const KvLayout& layout : {KvLayout(), KvLayout(Kind::rotating, 16)})
    for (const auto& quantize : {std::optional<QuantizeFrom>{}, {QuantizeFrom{kQ8, 0}}}) {
      std::vector<std::unique_ptr<AttentionCache>> alone;
      std::vector<const AttentionCache*> pointers;
      for (const int n : {20, 3, 11}) {
        alone.push_back(std::make_unique<AttentionCache>(layout, quantize));
        step(*alone.back(), n, n);
        step(*alone.back(), 2, n + 50);
        pointers.push_back(alone.back().get());
      }
      auto batch = AttentionCache::merged(pointers);
      EXPECT_TRUE(mx::array_equal(std::get<mx::array>(batch->positions()), mx::array({22, 5, 13}))
                      .item<bool>());
      const auto check = [&](AttentionCache& cache, const std::vector<int>& rows, int n) {
        const auto B = static_cast<int>(rows.size());
        const auto q = random(4, n, 81, B), k = random(2, n, 82, B), v = random(2, n, 83, B);
        const auto y = cache.attend(q, k, v, kOptions);
        for (int i = 0; i < B; ++i) {
          const auto row = [&](const mx::array& a) {
            auto stop = a.shape();
            stop[0] = i + 1;
            return mx::slice(a, {i, 0, 0, 0}, stop);
          };
          EXPECT_LE(
              largest_difference(row(y), alone[rows[i]]->attend(row(q), row(k), row(v), kOptions)),
              3e-6f)
              << i;
        }
      };
      check(*batch, {0, 1, 2}, 1);
      check(*batch, {0, 1, 2}, 4);
      const auto two = batch->rows({2, 0});
      check(*two, {2, 0}, 1);
      const auto last = two->row(0);
      EXPECT_EQ(last->offset(), alone[2]->offset());
      const auto q = random(4, 3, 91), k = random(2, 3, 92), v = random(2, 3, 93);
      EXPECT_LE(
          largest_difference(last->attend(q, k, v, kOptions), alone[2]->attend(q, k, v, kOptions)),
          3e-6f);
    }
}

}  // namespace
}  // namespace mlxcpp
