// The attention kernel as it is compiled for each instruction set: pointers and sizes only.
// Includes no library header but <cstddef> and <cstdint> (see CMakeLists.txt).
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxcpp::kernels {

// How the numbers of keys and values lie in memory. q8 and q4 are MLX's affine quantisation: codes
// in order (q4: the low half byte first), value = scale * code + bias, one scale and bias a group.
enum class KvFormat : uint8_t { f32, bf16, f16, q8, q4 };
enum class MaskFormat : uint8_t { none, boolean, f32, bf16, f16 };

// Keys (or values) of consecutive tokens, for every batch row and KV head. Strides in bytes.
struct KvPlane {
  const std::byte* data = nullptr;
  ptrdiff_t batch = 0, head = 0, token = 0;
  const std::byte* scales = nullptr;  // and biases: quantised formats only
  const std::byte* biases = nullptr;
  ptrdiff_t scale_batch = 0, scale_head = 0, scale_token = 0;
};

// A part of the key list. The list that queries see is its segments one after the other.
struct KvSegment {
  KvPlane k, v;
  int count = 0;
};

struct AttentionArgs {
  int batch = 0, heads = 0, kv_heads = 0, queries = 0, keys = 0, dim = 0, value_dim = 0;

  KvFormat q_format = KvFormat::f32;  // of q and out: f32, bf16 or f16
  const std::byte* q = nullptr;
  ptrdiff_t q_batch = 0, q_head = 0, q_token = 0;  // bytes
  std::byte* out = nullptr;
  ptrdiff_t out_batch = 0, out_head = 0, out_token = 0;

  KvFormat kv_format = KvFormat::f32;
  KvFormat scale_format = KvFormat::f32;  // of scales and biases
  int group_shift = 0;                    // log2 of the group size
  const KvSegment* segments = nullptr;
  int num_segments = 0;

  float scale = 1.0f;
  float softcap = 0.0f;
  // Query i is number (keys - queries + i) in the list. It sees itself and what stands before
  // (causal), at most `window` of them, and only those of its own block of `chunk` positions, where
  // number 0 of the list has position `base`. Not causal: what is less than `window` away.
  bool causal = true;
  int window = 0;  // 0: no bound
  int chunk = 0;   // 0: no blocks
  int base = 0;
  const int32_t* first_key = nullptr;  // [batch] number of the first key that a row may see

  MaskFormat mask_format = MaskFormat::none;
  const std::byte* mask = nullptr;
  ptrdiff_t mask_batch = 0, mask_head = 0, mask_query = 0, mask_key = 0;  // bytes
  const float* sinks = nullptr;                                           // [heads]

  int group_heads() const { return heads / kv_heads; }
  // Rows of one KV head: query row r is query r / group_heads() of its head r % group_heads().
  int rows() const { return group_heads() * queries; }
  // Range [first, end) of the list that a row's query sees.
  int first_seen(int b, int query) const {
    const int self = keys - queries + query;
    int first = first_key ? first_key[b] : 0;
    if (window > 0 && self - window + 1 > first) first = self - window + 1;
    if (chunk > 0) {
      const int start = (self + base) / chunk * chunk - base;
      if (start > first) first = start;
    }
    return first;
  }
  int end_seen(int query) const {
    const int self = keys - queries + query;
    if (causal) return self + 1;
    return window > 0 && self + window < keys ? self + window : keys;
  }
};

// Where a run over some rows and keys leaves what it found. Per row: the largest score, the sum of
// exp(score - largest), and the sum of the values so weighted; rows padded to whole vectors.
struct AttentionState {
  float* largest = nullptr;
  float* sum = nullptr;
  float* values = nullptr;  // [rows, padded(value_dim)]
};

struct AttentionKernel {
  // Sees keys [key_begin, key_end) with rows [row_begin, row_end) of KV head (b, g).
  // `few` reads keys and values where they lie, for few rows; `many` first makes tiles of them.
  void (*few)(const AttentionArgs& a, int b, int g, int row_begin, int row_end, int key_begin,
              int key_end, const AttentionState& state, float* scratch);
  void (*many)(const AttentionArgs& a, int b, int g, int row_begin, int row_end, int key_begin,
               int key_end, const AttentionState& state, float* scratch);
  // Joins `parts` states of the same rows, in order, and writes the rows' outputs.
  void (*finish)(const AttentionArgs& a, int b, int g, int row_begin, int row_end,
                 const AttentionState* parts, int num_parts);
};

// Sizes in floats, the same for every instruction set.
inline constexpr int kAttentionPad = 16;         // rows of floats are padded to this many
inline constexpr int kAttentionBlock = 64;       // keys at a time
inline constexpr int kAttentionRowMultiple = 8;  // buffers hold rows in multiples of this
constexpr int attention_padded(int dim) {
  return (dim + kAttentionPad - 1) / kAttentionPad * kAttentionPad;
}
constexpr int attention_padded_rows(int rows) {
  return (rows + kAttentionRowMultiple - 1) / kAttentionRowMultiple * kAttentionRowMultiple;
}
// Scratch of `few` and `many`: queries and scores; `many` also a tile of keys and one of values.
constexpr size_t attention_scratch_floats(int rows, int dim, int value_dim, bool many) {
  const size_t padded_rows = attention_padded_rows(rows);
  size_t n = padded_rows * (attention_padded(dim) + kAttentionBlock);
  if (many)
    n += static_cast<size_t>(kAttentionBlock) *
         (attention_padded(dim) + attention_padded(value_dim));
  return n;
}

extern const AttentionKernel kAttentionGeneric;
extern const AttentionKernel kAttentionAvx2;
extern const AttentionKernel kAttentionAvx512;

}  // namespace mlxcpp::kernels
