// One attention layer against mlx-lm's caches (tests/scripts/make_cache_goldens.py).
#include <gtest/gtest.h>

#include "core/json.h"
#include "lm_common/kv_cache/attention_cache.h"
#include "tests/support/paths.h"

namespace mlxcpp {
namespace {

using Kind = KvLayout::Kind;

mx::array tokens(const mx::array& a, int begin, int end) {
  auto stop = a.shape();
  stop[2] = end;
  return mx::slice(a, {0, 0, begin, 0}, stop);
}

TEST(CacheGolden, EveryRunOfMlxLm) {
  const auto [arrays, runs] =
      mx::load_safetensors((test::golden_folder() / "kv_cache.safetensors").string());
  ASSERT_FALSE(runs.empty());
  for (const auto& [name, text] : runs) {
    if (!arrays.contains(name)) continue;
    const Json run = parse_json(text, name);
    const int size = run.at("size"), keep = run.at("keep"), window = run.at("window"),
              bits = run.at("bits");
    std::optional<QuantizeFrom> quantize;
    if (bits > 0) quantize = QuantizeFrom{{bits, run.at("group")}, run.at("start")};
    for (const bool plain : {false, true}) {
      AttentionCache cache(size > 0 ? KvLayout(Kind::rotating, size, keep) : KvLayout(), quantize,
                           plain ? kernels::make_plain_kv_store() : kernels::make_kv_store());
      kernels::AttentionOptions o{.scale = 0.25f};
      if (window > 0) o.window = window;
      std::vector<mx::array> parts;
      int at = 0;
      for (const int n : run.at("chunks")) {
        const auto part = [&](const char* a) { return tokens(arrays.at(a), at, at + n); };
        parts.push_back(cache.attend(part("q"), part("k"), part("v"), o));
        at += n;
      }
      const auto got = mx::squeeze(mx::concatenate(parts, 2), 0);
      const auto difference = mx::max(mx::abs(got - arrays.at(name))).item<float>();
      EXPECT_LE(difference, 2e-5f) << name << (plain ? " plain" : "");
    }
  }
}

}  // namespace
}  // namespace mlxcpp
