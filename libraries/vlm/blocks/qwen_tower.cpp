#include "vlm/blocks/qwen_tower.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/attention.h"
#include "kernels/linear.h"
#include "kernels/rope.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/mlp.h"
#include "vlm/blocks/mlp.h"

namespace mlxcpp::vlm {
namespace {

constexpr float kEps = 1e-6f;
constexpr double kTheta = 10000;  // the base of positions

struct TowerRope {
  void fields(ConfigReader& v) {
    v.only("rope_type", "axial");
    v.only("rope_theta", kTheta);
  }
};

void read_common(ConfigReader& v, QwenTowerConfig& c) {
  llm::read_count(v, "depth", c.depth);
  llm::read_size(v, "num_heads", c.num_heads);
  v.maybe("hidden_act", c.hidden_act);
  for (const char* key : {"in_channels", "in_chans"}) v.only(key, 3);
  llm::read_size(v, "patch_size", c.patch_size);
  llm::read_size(v, "spatial_merge_size", c.spatial_merge_size);
  llm::read_size(v, "temporal_patch_size", c.temporal_patch_size);
  v.skip("spatial_patch_size");
  TowerRope rope;  // transformers 5 spells it out
  v.maybe("rope_parameters", rope);
}

void check_heads(const ConfigReader& v, const QwenTowerConfig& c, const char* width) {
  if (c.width % (4 * c.num_heads) != 0)
    throw Error("{}: '{}' is {}, expected a multiple of 4 for each of {} heads", v.where(), width,
                c.width, c.num_heads);
}

std::unique_ptr<nn::Layer> make_norm(const QwenTowerConfig& c) {
  if (c.windows) return std::make_unique<nn::RMSNorm>(c.width, kEps);
  return std::make_unique<nn::LayerNorm>(c.width, kEps);
}

std::unique_ptr<nn::Layer> make_mlp(const QwenTowerConfig& c) {
  if (c.windows)
    return std::make_unique<llm::GatedMLP>(c.width, c.intermediate_size, c.hidden_act, true);
  return std::make_unique<MLP>(c.width, c.intermediate_size, c.hidden_act);
}

// theta^(-i / (head_dim / 4)) in one half of the pairs, zeros in the other.
mx::array frequencies(int head_dim, bool second) {
  const int n = head_dim / 4;
  std::vector<float> f(static_cast<size_t>(2 * n), 0.0f);
  for (int i = 0; i < n; ++i)
    f[static_cast<size_t>(second ? n + i : i)] =
        static_cast<float>(1.0 / std::pow(kTheta, static_cast<double>(i) / n));
  return mx::array(f.data(), {2 * n}, mx::float32);
}

mx::array indices(const std::vector<int>& v) {
  return mx::array(v.data(), {static_cast<int>(v.size())}, mx::int32);
}

}  // namespace

void Qwen2VLTowerConfig::fields(ConfigReader& v) {
  read_common(v, *this);
  llm::read_size(v, "embed_dim", width);
  llm::read_size(v, "hidden_size", out_hidden_size);
  double mlp_ratio = 4;
  v.maybe("mlp_ratio", mlp_ratio);
  intermediate_size = static_cast<int>(width * mlp_ratio);
  if (intermediate_size <= 0)
    throw Error("{}: 'mlp_ratio' must be positive, found {}", v.where(), mlp_ratio);
  check_heads(v, *this, "embed_dim");
}

Qwen25VLTowerConfig::Qwen25VLTowerConfig() {
  windows = true;
  hidden_act = "silu";
  intermediate_size = 3420;
}

void Qwen25VLTowerConfig::fields(ConfigReader& v) {
  read_common(v, *this);
  llm::read_size(v, "hidden_size", width);
  llm::read_size(v, "intermediate_size", intermediate_size);
  llm::read_size(v, "out_hidden_size", out_hidden_size);
  llm::read_size(v, "window_size", window_size);
  llm::read_size(v, "tokens_per_second", tokens_per_second);
  v.maybe("fullatt_block_indexes", fullatt_block_indexes);
  check_heads(v, *this, "hidden_size");
  if (window_size < spatial_merge_size * patch_size)
    throw Error("{}: 'window_size' is {}, less than a token's {} pixels", v.where(), window_size,
                spatial_merge_size * patch_size);
}

QwenLayout::QwenLayout(const Grid& grid, const QwenTowerConfig& c) {
  const auto [t, h, w] = grid;
  const int merge = c.spatial_merge_size;
  const int high = h / merge, wide = w / merge;  // in tokens
  frames.assign(static_cast<size_t>(t), h * w);
  const auto token = [&](int y, int x) {
    for (int dy = 0; dy < merge; ++dy)
      for (int dx = 0; dx < merge; ++dx) {
        rows.push_back(y * merge + dy);
        cols.push_back(x * merge + dx);
      }
  };
  if (!c.windows) {
    for (int frame = 0; frame < t; ++frame)
      for (int y = 0; y < high; ++y)
        for (int x = 0; x < wide; ++x) token(y, x);
    return;
  }
  const int side = c.window_size / merge / c.patch_size;
  for (int frame = 0; frame < t; ++frame)
    for (int top = 0; top < high; top += side)
      for (int left = 0; left < wide; left += side) {
        const int bottom = std::min(top + side, high), right = std::min(left + side, wide);
        windows.push_back((bottom - top) * (right - left) * c.merge_unit());
        for (int y = top; y < bottom; ++y)
          for (int x = left; x < right; ++x) {
            order.push_back((frame * high + y) * wide + x);
            token(y, x);
          }
      }
}

QwenPatchEmbed::QwenPatchEmbed(const QwenTowerConfig& c)
    : weight(
          this, "proj.weight",
          mx::zeros({c.width, c.in_channels, c.temporal_patch_size, c.patch_size, c.patch_size})) {}

mx::array QwenPatchEmbed::operator()(const mx::array& patches) const {
  return kernels::linear(patches, mx::flatten(*weight, 1, -1));
}

QwenVisionAttention::QwenVisionAttention(const QwenTowerConfig& c)
    : heads_(c.num_heads),
      head_dim_(c.width / c.num_heads),
      row_frequencies_(frequencies(head_dim_, false)),
      col_frequencies_(frequencies(head_dim_, true)),
      qkv(this, "qkv", c.width, 3 * c.width, true),
      proj(this, "proj", c.width, c.width, true) {}

mx::array QwenVisionAttention::operator()(const mx::array& x, const mx::array& rows,
                                          const mx::array& cols,
                                          const std::vector<int>& stretches) const {
  const int n = x.shape(0), H = heads_, D = head_dim_;
  const auto all = mx::reshape(qkv(x), {n, 3 * H, 1, D});
  auto qk = mx::slice(all, {0, 0, 0, 0}, {n, 2 * H, 1, D});
  qk = kernels::rope(qk, D, false, row_frequencies_, 1.0f, rows);
  qk = kernels::rope(qk, D, false, col_frequencies_, 1.0f, cols);
  const auto v = mx::slice(all, {0, 2 * H, 0, 0}, {n, 3 * H, 1, D});

  const kernels::AttentionOptions options{.scale = 1.0f / std::sqrt(static_cast<float>(D)),
                                          .causal = false};
  std::vector<mx::array> parts;
  int begin = 0;
  for (size_t s = 0; s < stretches.size();) {  // those of one length at once
    const int length = stretches[s];
    size_t next = s;
    while (next < stretches.size() && stretches[next] == length) ++next;
    const int count = static_cast<int>(next - s), end = begin + count * length;
    const auto heads = [&](const mx::array& a, int from) {  // -> [count, H, length, D]
      const auto part = mx::slice(a, {begin, from, 0, 0}, {end, from + H, 1, D});
      return mx::transpose(mx::reshape(part, {count, length, H, D}), {0, 2, 1, 3});
    };
    const auto y = kernels::attention(heads(qk, 0), heads(qk, H), heads(v, 0), options);
    parts.push_back(mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {count * length, H * D}));
    begin = end;
    s = next;
  }
  return proj(parts.size() == 1 ? parts[0] : mx::concatenate(std::move(parts), 0));
}

QwenVisionBlock::QwenVisionBlock(const QwenTowerConfig& c)
    : norm1(this, "norm1", make_norm(c)),
      norm2(this, "norm2", make_norm(c)),
      attn(this, "attn", c),
      mlp(this, "mlp", make_mlp(c)) {}

QwenPatchMerger::QwenPatchMerger(const QwenTowerConfig& c)
    : width_(c.width * c.merge_unit()),
      ln_q(this, "ln_q", make_norm(c)),
      first(this, "mlp.0", width_, width_, true),
      second(this, "mlp.2", width_, c.out_hidden_size, true) {}

mx::array QwenPatchMerger::operator()(const mx::array& x) const {
  return second(nn::gelu(first(mx::reshape(ln_q(x), {-1, width_}))));
}

QwenTower::QwenTower(const QwenTowerConfig& c)
    : c_(c),
      patch_embed(this, "patch_embed", c),
      blocks(this, "blocks"),
      merger(this, "merger", c) {
  for (int i = 0; i < c.depth; ++i) blocks.emplace_back(c);
}

mx::array QwenTower::operator()(const mx::array& patches, const Grid& grid) const {
  const auto [t, h, w] = grid;
  const int merge = c_.spatial_merge_size, unit = c_.merge_unit();
  if (t < 1 || h < 1 || w < 1 || h % merge != 0 || w % merge != 0 || patches.ndim() != 2 ||
      static_cast<int64_t>(t) * h * w != patches.shape(0) || patches.shape(1) != c_.patch_length())
    throw Error(
        "the vision tower takes patches of {} values, {} x {} of which make a token; found a grid "
        "of {} x {} x {} with {} of {} values",
        c_.patch_length(), merge, merge, t, h, w, patches.shape(0), patches.shape(-1));
  const QwenLayout layout(grid, c_);
  const auto rows = indices(layout.rows), cols = indices(layout.cols);
  mx::array x = llm::to_compute_dtype(patch_embed(patches));
  const int n = x.shape(0), tokens = n / unit;
  if (!layout.order.empty())
    x = mx::reshape(mx::take(mx::reshape(x, {tokens, unit * c_.width}), indices(layout.order), 0),
                    {n, c_.width});
  for (int i = 0; i < c_.depth; ++i) {
    const auto& full = c_.fullatt_block_indexes;
    const bool frames =
        layout.windows.empty() || std::find(full.begin(), full.end(), i) != full.end();
    x = blocks.call(static_cast<size_t>(i), x, rows, cols, frames ? layout.frames : layout.windows);
  }
  x = merger(x);
  if (layout.order.empty()) return x;
  std::vector<int> back(layout.order.size());
  for (size_t i = 0; i < back.size(); ++i)
    back[static_cast<size_t>(layout.order[i])] = static_cast<int>(i);
  return mx::take(x, indices(back), 0);
}

}  // namespace mlxcpp::vlm
