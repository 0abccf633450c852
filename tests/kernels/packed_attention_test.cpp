#include "kernels/packed_attention.h"

#include <numeric>

#include "kernels/isa.h"
#include "kernels/thread_pool.h"
#include "support/throws.h"

namespace mlxcpp::kernels {
namespace {

mx::array normal(const mx::Shape& shape, uint64_t seed, mx::Dtype dtype = mx::float32) {
  return mx::astype(mx::random::normal(shape, mx::random::key(seed)), dtype);
}

float largest_difference(const mx::array& a, const mx::array& b) {
  EXPECT_EQ(a.shape(), b.shape());
  EXPECT_EQ(a.dtype(), b.dtype());
  const auto d = mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32));
  return mx::max(mx::where(mx::isnan(d), mx::array(1e30f), d)).item<float>();
}

struct Texts {
  std::vector<int> lengths;
  int T = 0;
  mx::array q, k, v;

  Texts(std::vector<int> n, int H, int Hkv, int D, mx::Dtype dtype = mx::float32)
      : lengths(std::move(n)),
        T(std::accumulate(lengths.begin(), lengths.end(), 0)),
        q(normal({T, H, D}, 1, dtype)),
        k(normal({T, Hkv, D}, 2, dtype)),
        v(normal({T, Hkv, D}, 3, dtype)) {}
};

class PackedAttention : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    before_ = isa();
    set_isa(GetParam());
  }
  void TearDown() override { set_isa(before_); }

 private:
  Isa before_ = Isa::generic;
};
INSTANTIATE_TEST_SUITE_P(Kernels, PackedAttention, ::testing::ValuesIn(available_isas()),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST_P(PackedAttention, AgreesWithPaddedRows) {
  for (const std::vector<int>& lengths : {std::vector<int>{1},
                                          {7},
                                          {16, 3, 1},
                                          {130, 64, 200, 5},
                                          {3, 0, 70},
                                          {9, 8, 7, 6, 5, 4, 3, 2, 1}})
    for (const bool causal : {false, true})
      for (const std::optional<int> window : {std::optional<int>(), {1}, {4}, {65}})
        for (const float softcap : {0.0f, 5.0f}) {
          const Texts t(lengths, 4, 2, 24);
          const PackedAttentionOptions o{
              .scale = 0.2f, .causal = causal, .window = window, .softcap = softcap};
          EXPECT_LE(largest_difference(packed_attention(t.q, t.k, t.v, t.lengths, o),
                                       padded_attention(t.q, t.k, t.v, t.lengths, o)),
                    5e-6f)
              << fmt::format("[{}] causal {} window {} softcap {}", fmt::join(lengths, ", "),
                             causal, window.value_or(0), softcap);
        }
}

TEST_P(PackedAttention, HalvesAndSlicesOfAFusedProjection) {
  for (const auto dtype : {mx::float32, mx::bfloat16, mx::float16}) {
    const auto qkv = mx::split(normal({40, 3, 4, 16}, 5, dtype), 3, 1);
    const auto q = mx::squeeze(qkv[0], 1), k = mx::squeeze(qkv[1], 1), v = mx::squeeze(qkv[2], 1);
    const std::vector<int> lengths{25, 15};
    EXPECT_LE(largest_difference(packed_attention(q, k, v, lengths, {.scale = 0.25f}),
                                 padded_attention(mx::contiguous(q), mx::contiguous(k),
                                                  mx::contiguous(v), lengths, {.scale = 0.25f})),
              dtype == mx::float32   ? 5e-6f
              : dtype == mx::float16 ? 2e-3f
                                     : 1.6e-2f);
  }
}

TEST_P(PackedAttention, ATextHasTheSameBitsAloneAndAmongOthersOnAnyNumberOfThreads) {
  const Texts t({33, 128, 5, 70, 1, 64, 90, 31, 12}, 4, 4, 32);
  const int before = num_threads();
  auto all = packed_attention(t.q, t.k, t.v, t.lengths, {.scale = 0.2f});
  all.eval();
  set_num_threads(3);
  const auto again = packed_attention(t.q, t.k, t.v, t.lengths, {.scale = 0.2f});
  EXPECT_TRUE(mx::array_equal(all, again).item<bool>());
  set_num_threads(before);
  int start = 0;
  for (const int n : t.lengths) {
    const auto part = [&](const mx::array& x) {
      return mx::slice(x, {start, 0, 0}, {start + n, x.shape(1), x.shape(2)});
    };
    const auto alone = packed_attention(part(t.q), part(t.k), part(t.v), {n}, {.scale = 0.2f});
    EXPECT_TRUE(mx::array_equal(alone, part(all)).item<bool>()) << "text of " << n;
    start += n;
  }
}

TEST(PackedAttentionGradient, ThroughPaddedRows) {
  const Texts t({5, 9}, 2, 1, 8);
  const auto loss = [&](const auto& attention) {
    return mx::grad([&](const mx::array& q) {
      return mx::sum(mx::square(attention(q, t.k, t.v, t.lengths, PackedAttentionOptions{})));
    })(t.q);
  };
  EXPECT_LE(largest_difference(loss(packed_attention), loss(padded_attention)), 1e-5f);
}

TEST(PackedAttentionErrors, SayWhatDoesNotFit) {
  const Texts t({5, 9}, 4, 2, 8);
  const auto error = [&](const std::vector<int>& lengths, PackedAttentionOptions o = {}) {
    return test::error_of([&] { packed_attention(t.q, t.k, t.v, lengths, o); });
  };
  EXPECT_EQ(error({5, 8}), "packed attention: the sequences have 13 tokens, q has 14");
  EXPECT_EQ(error({15, -1}), "packed attention: a sequence of -1 tokens");
  EXPECT_EQ(error({5, 9}, {.window = 0}), "packed attention: a window of 0 is not positive");
  EXPECT_THAT(test::error_of([&] { packed_attention(t.q, t.q, t.v, {14}, {}); }),
              ::testing::HasSubstr("do not fit"));
}

}  // namespace
}  // namespace mlxcpp::kernels
