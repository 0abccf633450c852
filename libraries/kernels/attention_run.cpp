#include "kernels/attention_run.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/isa.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

constexpr int kFewRowsAtMost = 16;    // up to here keys are read in place, beyond they make tiles
constexpr int kTileRows = 128;        // rows that share a tile of keys
constexpr int kEnoughTasks = 8;       // so many tiles need no split over the keys
constexpr int kSplitNumbers = 32768;  // numbers of keys and values that make a part worth its while

const AttentionKernel& kernel() {
#if defined(__x86_64__)
  if (isa() == Isa::avx512) return kAttentionAvx512;
  if (isa() == Isa::avx2) return kAttentionAvx2;
#endif
  return kAttentionGeneric;
}

// How the work is cut: tiles of rows by parts of the keys. A function of the shapes alone.
struct Cut {
  int tile_rows;
  int part_keys;
  bool many;

  explicit Cut(const AttentionArgs& a) {
    const int rows = a.rows(), wide = a.dim + a.value_dim;
    many = rows > kFewRowsAtMost;
    const auto tiles_of = [&](int n) {
      return static_cast<int64_t>(a.batch) * a.kv_heads * ((rows + n - 1) / n);
    };
    tile_rows = many ? kTileRows : rows;
    while (many && tile_rows > 32 && tiles_of(tile_rows) < kEnoughTasks) tile_rows /= 2;
    const auto blocks = [](int keys) {
      return std::max(1, (keys + kAttentionBlock - 1) / kAttentionBlock) * kAttentionBlock;
    };
    if (!many)
      part_keys = blocks(kSplitNumbers / std::max(wide, 1) / 2);
    else if (tiles_of(tile_rows) < kEnoughTasks)
      part_keys = std::max(512, blocks(a.keys / kEnoughTasks));
    else
      part_keys = blocks(a.keys);
  }
};

// A tile of rows of one KV head, and the keys that any of them sees.
struct Tile {
  int b, g, row_begin, row_end, key_begin, key_end;
  int first_part, parts;

  Tile(const AttentionArgs& a, const Cut& cut, int index) {
    const int per_head = (a.rows() + cut.tile_rows - 1) / cut.tile_rows;
    const int t = per_head - 1 - index % per_head;  // the last rows see most keys: start with them
    b = index / per_head / a.kv_heads;
    g = index / per_head % a.kv_heads;
    row_begin = t * cut.tile_rows;
    row_end = std::min(row_begin + cut.tile_rows, a.rows());
    key_begin = std::max(0, a.first_seen(b, row_begin / a.group_heads()));
    key_end = std::clamp(a.end_seen((row_end - 1) / a.group_heads()), 0, a.keys);
    key_begin = std::min(key_begin, key_end) / kAttentionBlock * kAttentionBlock;
    first_part = key_begin / cut.part_keys;
    parts = key_end > key_begin ? (key_end - 1) / cut.part_keys - first_part + 1 : 0;
  }
};

// Room that a thread keeps for its next tile.
float* scratch(size_t floats) {
  thread_local std::vector<float> room;
  if (room.size() < floats) room.resize(floats);
  return room.data();
}

AttentionState state_at(float* p, int padded_rows) {
  return {p, p + padded_rows, p + 2 * static_cast<ptrdiff_t>(padded_rows)};
}

}  // namespace

void run_attention(const AttentionArgs& a) {
  if (a.batch == 0 || a.heads == 0 || a.queries == 0 || a.value_dim == 0) return;
  const AttentionKernel& run = kernel();
  const Cut cut(a);
  const int tiles_per_head = (a.rows() + cut.tile_rows - 1) / cut.tile_rows;
  const int num_tiles = a.batch * a.kv_heads * tiles_per_head;
  const int padded_rows = attention_padded_rows(cut.tile_rows);
  const size_t state_floats =
      static_cast<size_t>(padded_rows) * (2 + attention_padded(a.value_dim));
  const size_t scratch_floats =
      attention_scratch_floats(cut.tile_rows, a.dim, a.value_dim, cut.many);
  const auto see = [&](const Tile& t, int part, const AttentionState& state, float* room) {
    const int begin = std::max(t.key_begin, part * cut.part_keys);
    const int end = std::min(t.key_end, (part + 1) * cut.part_keys);
    (cut.many ? run.many : run.few)(a, t.b, t.g, t.row_begin, t.row_end, begin, end, state, room);
  };

  const int parts_at_most = (a.keys + cut.part_keys - 1) / cut.part_keys;
  const int64_t task_work =
      static_cast<int64_t>(a.dim + a.value_dim) * cut.tile_rows * std::min(a.keys, cut.part_keys);
  const size_t grain = static_cast<size_t>(std::max<int64_t>(1, kSplitNumbers / (task_work + 1)));
  if (parts_at_most <= 1) {
    parallel_for(num_tiles, grain, [&](size_t begin, size_t end) {
      float* room = scratch(state_floats + scratch_floats);
      const AttentionState state = state_at(room, padded_rows);
      for (size_t i = begin; i < end; ++i) {
        const Tile t(a, cut, static_cast<int>(i));
        for (int p = 0; p < t.parts; ++p) see(t, t.first_part + p, state, room + state_floats);
        run.finish(a, t.b, t.g, t.row_begin, t.row_end, &state, t.parts);
      }
    });
    return;
  }

  struct Task {
    int tile, part;
  };
  std::vector<Tile> tiles;
  std::vector<Task> tasks;
  for (int i = 0; i < num_tiles; ++i) {
    tiles.emplace_back(a, cut, i);
    for (int p = 0; p < tiles.back().parts; ++p) tasks.push_back({i, p});
  }
  const std::unique_ptr<float[]> room(new float[state_floats * tasks.size()]);
  std::vector<AttentionState> states;
  for (size_t i = 0; i < tasks.size(); ++i)
    states.push_back(state_at(room.get() + i * state_floats, padded_rows));
  parallel_for(tasks.size(), grain, [&](size_t begin, size_t end) {
    float* mine = scratch(scratch_floats);
    for (size_t i = begin; i < end; ++i)
      see(tiles[tasks[i].tile], tiles[tasks[i].tile].first_part + tasks[i].part, states[i], mine);
  });
  const AttentionState* next = states.data();
  for (const Tile& t : tiles) {
    run.finish(a, t.b, t.g, t.row_begin, t.row_end, next, t.parts);
    next += t.parts;
  }
}

}  // namespace mlxcpp::kernels
