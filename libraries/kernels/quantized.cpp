#include "kernels/quantized.h"

#include <array>

#include "core/error.h"

namespace mlxcpp::kernels {
namespace {

struct ModeInfo {
  QuantMode mode;
  std::string_view name;
  int bits, group_size;  // what the mode fixes; 0: free
  int block_bytes;       // GGUF: bytes of one block of group_size weights
};

constexpr std::array kModes = {
    ModeInfo{QuantMode::affine, "affine", 0, 0, 0},
    ModeInfo{QuantMode::mxfp4, "mxfp4", 4, 32, 0},
    ModeInfo{QuantMode::mxfp8, "mxfp8", 8, 32, 0},
    ModeInfo{QuantMode::nvfp4, "nvfp4", 4, 16, 0},
    ModeInfo{QuantMode::q4_0, "q4_0", 4, 32, 18},
    ModeInfo{QuantMode::q4_1, "q4_1", 4, 32, 20},
    ModeInfo{QuantMode::q5_0, "q5_0", 5, 32, 22},
    ModeInfo{QuantMode::q5_1, "q5_1", 5, 32, 24},
    ModeInfo{QuantMode::q8_0, "q8_0", 8, 32, 34},
    ModeInfo{QuantMode::q2_k, "q2_k", 2, 256, 84},
    ModeInfo{QuantMode::q3_k, "q3_k", 3, 256, 110},
    ModeInfo{QuantMode::q4_k, "q4_k", 4, 256, 144},
    ModeInfo{QuantMode::q5_k, "q5_k", 5, 256, 176},
    ModeInfo{QuantMode::q6_k, "q6_k", 6, 256, 210},
    ModeInfo{QuantMode::iq4_nl, "iq4_nl", 4, 32, 18},
};

const ModeInfo& info(QuantMode mode) { return kModes[static_cast<size_t>(mode)]; }

}  // namespace

QuantType quant_type(QuantMode mode, int group_size, int bits) {
  const ModeInfo& m = info(mode);
  const bool fixed = m.bits != 0;
  const bool ok = fixed ? bits == m.bits && group_size == m.group_size
                        : (bits >= 2 && bits <= 8 && bits != 7) &&
                              (group_size == 32 || group_size == 64 || group_size == 128);
  if (!ok)
    throw Error("quantization: {} with {} bits and group size {} does not exist; {}", m.name, bits,
                group_size,
                fixed ? fmt::format("it has {} bits and group size {}", m.bits, m.group_size)
                      : "it has 2, 3, 4, 5, 6 or 8 bits and group size 32, 64 or 128");
  return {mode, group_size, bits};
}

QuantType quant_type(QuantMode gguf) { return {gguf, info(gguf).group_size, info(gguf).bits}; }

std::string_view name(QuantMode mode) { return info(mode).name; }

std::optional<QuantMode> quant_mode_from_name(std::string_view name) {
  for (const ModeInfo& m : kModes)
    if (m.name == name) return m.mode;
  return std::nullopt;
}

size_t row_bytes(const QuantType& type, int cols) {
  if (cols <= 0 || cols % type.group_size != 0)
    throw Error("quantization: {} columns are no multiple of the group size {} of {}", cols,
                type.group_size, name(type.mode));
  const size_t groups = static_cast<size_t>(cols) / type.group_size;
  return type.is_gguf() ? groups * info(type.mode).block_bytes
                        : static_cast<size_t>(cols) * type.bits / 8;
}

int QuantizedMatrix::cols() const {
  const int last = weight.shape(-1);
  return type.is_gguf() ? last / info(type.mode).block_bytes * type.group_size
                        : static_cast<int>(last * 32LL / type.bits);
}

mx::array quantized_matmul(const mx::array& x, const QuantizedMatrix& w) {
  if (w.type.is_gguf()) return mx::matmul(x, mx::transpose(dequantize(w, x.dtype())));
  return mx::quantized_matmul(x, w.weight, *w.scales, w.biases, true, w.type.group_size,
                              w.type.bits, std::string(name(w.type.mode)));
}

mx::array gather_quantized_matmul(const mx::array& x, const QuantizedMatrix& w,
                                  const mx::array& experts, bool sorted) {
  if (w.type.is_gguf())
    throw Error("gather_quantized_matmul: {} is not there yet", name(w.type.mode));
  const auto y = mx::gather_qmm(mx::expand_dims(x, 1), w.weight, *w.scales, w.biases, std::nullopt,
                                experts, true, w.type.group_size, w.type.bits,
                                std::string(name(w.type.mode)), std::nullopt, sorted);
  return mx::squeeze(y, 1);
}

mx::array quantized_rows(const QuantizedMatrix& w, const mx::array& ids, mx::Dtype dtype) {
  const auto pick = [&](const mx::array& a) { return mx::take(a, ids, 0); };
  const auto maybe = [&](const std::optional<mx::array>& a) {
    return a ? std::optional(pick(*a)) : std::nullopt;
  };
  return dequantize({w.type, pick(w.weight), maybe(w.scales), maybe(w.biases)}, dtype);
}

mx::array dequantize(const QuantizedMatrix& w, mx::Dtype dtype) {
  if (w.type.is_gguf()) throw Error("dequantize: {} is not there yet", name(w.type.mode));
  return mx::dequantize(w.weight, *w.scales, w.biases, w.type.group_size, w.type.bits,
                        std::string(name(w.type.mode)), std::nullopt, dtype);
}

QuantizedMatrix quantize(const mx::array& w, const QuantType& type) {
  if (type.is_gguf())
    throw Error("quantize: GGUF types are read, not written ({})", name(type.mode));
  auto parts = mx::quantize(w, type.group_size, type.bits, std::string(name(type.mode)));
  return {type, parts[0], parts[1], parts.size() > 2 ? std::optional(parts[2]) : std::nullopt};
}

}  // namespace mlxcpp::kernels
