// How the vector loops lay out weights and activations. Included once kLanes, the 32-bit lanes of a
// vector, and kWords, whether two planes are held together as 16-bit integers, are known.
#pragma once

#include "kernels/quant_unpack.h"

namespace mlxcpp::kernels::quant {
namespace {

// What is read of a weight row at a time: two vectors of bytes.
constexpr int kStep = 8 * kLanes;
constexpr int kStepGroups = kStep / kGroup;

// Where the weights of a step lie in its two vectors q[0] and q[1]. In any order the 32-bit lanes
// 4j to 4j+3 of both hold group j, so that its sums come out in those lanes.
enum class Order {
  halves,    // first half of each group in q[0], second half in q[1]
  sixteens,  // the same, and lanes 4j and 4j+1 hold the first subgroup: its 64-bit parts alternate
  pairs      // even elements in q[0], odd ones in q[1]; subgroups lie as in sixteens
};

struct Row {
  const uint8_t* p;
  const uint8_t* scales;
  const uint8_t* biases;
};

inline Row row_at(const Matrix& w, size_t n) {
  const uint8_t* p = w.data + n * w.row_bytes;
  if (w.scales == nullptr) return {p, nullptr, nullptr};
  const size_t size = w.mode != QuantMode::affine ? 1 : w.scale_number == Number::f32 ? 4 : 2;
  const size_t offset = n * (w.cols / w.group_size) * size;
  return {p, w.scales + offset, w.biases != nullptr ? w.biases + offset : nullptr};
}

inline int steps_of(const Matrix& w) { return (w.cols + kStep - 1) / kStep; }

// A step of packed activations. Integers: per plane two vectors of bytes in the type's order (or
// four vectors of words, in the order that the instruction set widens weights), then scales by
// lanes, then what the offset or the minima are multiplied with: sums of each group (or subgroup)
// in its first lane, as integers times -offset, or as floats.
constexpr int kVectorBytes = 4 * kLanes;
constexpr int kPlaneBytes = kStep;
constexpr int kRealSums = kStep * 4;
constexpr int kRealBytes = kRealSums + kVectorBytes;

constexpr int scale_at(Planes planes) { return kPlaneBytes * static_cast<int>(planes); }
constexpr int sums_at(Planes planes) { return scale_at(planes) + kVectorBytes; }
constexpr int step_bytes(Planes planes) {
  return planes == Planes::real ? kRealBytes : sums_at(planes) + kVectorBytes;
}

// Where eight integers of kBits bits (at most 8), from number `first` of a run on, lie among 16
// bytes in which the run begins at byte `start`: for each the two bytes of a word, and what moves
// it to the word's highest bits.
template <int kBits>
struct BitWords {
  constexpr BitWords(int first, int start) : bytes(), factors() {
    for (int i = 0; i < 8; ++i) {
      const int bit = (first + i) * kBits, byte = start + bit / 8;
      bytes[2 * i] = static_cast<uint8_t>(byte);
      bytes[2 * i + 1] = static_cast<uint8_t>(byte < 15 ? byte + 1 : 0x80);  // 0x80: zero
      factors[i] = static_cast<uint16_t>(1u << (16 - kBits - bit % 8));
    }
  }
  uint8_t bytes[16];
  uint16_t factors[8];
};

// For many rows of activations, weight rows are unpacked to panels of two vectors' worth of rows.
// Per step the 32-bit lanes of q[0], then of q[1] (or of their four vectors of words), each of all
// rows side by side; per group (or subgroup) the rows' scales and minima. For real planes floats
// instead of lanes.
constexpr int kPanelRows = 2 * kLanes;
constexpr size_t kRealPanelStep = kStep * 4 * kPanelRows;
constexpr size_t panel_step(Planes planes) {
  if (planes == Planes::real) return kRealPanelStep;
  return 2 * kLanes * 4 * kPanelRows * (kWords && planes == Planes::two ? 2 : 1);
}
constexpr size_t kPanelScales = kStep / kSubgroup * kPanelRows;  // of a step, in floats

struct Panel {
  uint8_t* q;
  float* scales;
  float* mins;
};

// Where a tile of results goes, and how many of its columns there are.
struct Tile {
  float* y;
  size_t ldy;
  size_t columns;
};

}  // namespace
}  // namespace mlxcpp::kernels::quant
