#include "kernels/quantized.h"

#include <algorithm>
#include <array>

#include <fmt/ostream.h>

#include "core/error.h"
#include "kernels/gather_rows.h"
#include "kernels/quant_ops.h"

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

// Columns come in multiples of this: nvfp4 has groups of 16, but no row of an odd number of them.
int whole_columns(const QuantType& type) { return std::max(type.group_size, quant::kGroup); }

// Throws unless the parts of w fit each other.
void check(const char* op, const QuantizedMatrix& w) {
  const ModeInfo& m = info(w.type.mode);
  const auto fail = [&](std::string_view part, const mx::array& a, const std::string& expected) {
    throw Error("{}: {} of a {} matrix: expected {}, found {} {}", op, part, m.name, expected,
                fmt::streamed(a.dtype()), fmt::streamed(a.shape()));
  };
  const mx::array& weight = w.weight;
  if (weight.ndim() < 2 || weight.dtype() != (w.type.is_gguf() ? mx::uint8 : mx::uint32))
    fail("weight", weight,
         w.type.is_gguf() ? "uint8 [..., rows, bytes]" : "uint32 [..., rows, words]");
  const int last = weight.shape(-1);
  if (w.type.is_gguf()) {
    if (last == 0 || last % m.block_bytes != 0)
      fail("weight", weight, fmt::format("rows of a multiple of {} bytes", m.block_bytes));
    return;
  }
  const int cols = w.cols();
  if (last == 0 || cols % whole_columns(w.type) != 0 ||
      static_cast<long long>(cols) * w.type.bits != last * 32LL)
    fail("weight", weight, fmt::format("rows of a multiple of {} weights", whole_columns(w.type)));
  mx::Shape shape = weight.shape();
  shape.back() = cols / w.type.group_size;
  const bool affine = w.type.mode == QuantMode::affine;
  const auto fits = [&](const std::optional<mx::array>& a) {
    if (!a || a->shape() != shape) return false;
    return affine ? a->dtype() == mx::float32 || a->dtype() == mx::float16 ||
                        a->dtype() == mx::bfloat16
                  : a->dtype() == mx::uint8;
  };
  const auto expected = [&] {
    return fmt::format("{} {}", affine ? "floats" : "uint8", fmt::streamed(shape));
  };
  if (!w.scales) throw Error("{}: a {} matrix needs scales", op, m.name);
  if (!fits(w.scales)) fail("scales", *w.scales, expected());
  if (affine && !w.biases) throw Error("{}: an affine matrix needs biases", op);
  if (affine && (!fits(w.biases) || w.biases->dtype() != w.scales->dtype()))
    fail("biases", *w.biases, expected() + " of the scales' dtype");
  if (!affine && w.biases) throw Error("{}: a {} matrix has no biases", op, m.name);
}

void check_floats(const char* op, mx::Dtype dtype) {
  if (dtype != mx::float32 && dtype != mx::bfloat16 && dtype != mx::float16)
    throw Error("{}: expected float32, bfloat16 or float16, found {}", op, fmt::streamed(dtype));
}

void check_product(const char* op, const mx::array& x, const QuantizedMatrix& w) {
  check(op, w);
  check_floats(op, x.dtype());
  if (x.ndim() == 0 || x.shape(-1) != w.cols())
    throw Error("{}: x {} does not fit a {} matrix of {} rows and {} columns", op,
                fmt::streamed(x.shape()), name(w.type.mode), w.rows(), w.cols());
}

mx::Stream cpu_stream() { return mx::default_stream(mx::Device::cpu); }
bool on_cpu() { return mx::default_device() == mx::Device::cpu; }

std::string mode_name(const QuantType& type) { return std::string(name(type.mode)); }

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
  if (cols <= 0 || cols % whole_columns(type) != 0)
    throw Error("quantization: {} columns are no multiple of {}, as the kernels of {} need", cols,
                whole_columns(type), name(type.mode));
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
  check_product("quantized_matmul", x, w);
  if (w.weight.ndim() != 2)
    throw Error("quantized_matmul: expected a matrix, found a stack of {} dimensions",
                w.weight.ndim());
  if (on_cpu()) return quant::matmul_op(x, w, cpu_stream());
  if (w.type.is_gguf()) return mx::matmul(x, mx::transpose(dequantize(w, x.dtype())));
  return mx::quantized_matmul(x, w.weight, *w.scales, w.biases, true, w.type.group_size,
                              w.type.bits, mode_name(w.type));
}

mx::array gather_quantized_matmul(const mx::array& x, const QuantizedMatrix& w,
                                  const mx::array& experts, bool sorted) {
  check_product("gather_quantized_matmul", x, w);
  if (w.weight.ndim() != 3 || x.ndim() != 2 || experts.ndim() != 1 ||
      experts.shape(0) != x.shape(0) || experts.dtype() != mx::uint32)
    throw Error(
        "gather_quantized_matmul: expected x [T, K], experts uint32 [T] and a stack [E, N, K], "
        "found x {}, experts {} {} and a weight of {} dimensions",
        fmt::streamed(x.shape()), fmt::streamed(experts.dtype()), fmt::streamed(experts.shape()),
        w.weight.ndim());
  if (on_cpu()) return quant::gather_matmul_op(x, w, experts, cpu_stream());
  const mx::array rows = gather_rows(x);
  if (w.type.is_gguf())
    return mx::squeeze(mx::gather_mm(rows, mx::swapaxes(dequantize(w, x.dtype()), 1, 2),
                                     std::nullopt, experts, sorted),
                       1);
  return mx::squeeze(
      mx::gather_qmm(rows, w.weight, *w.scales, w.biases, std::nullopt, experts, true,
                     w.type.group_size, w.type.bits, mode_name(w.type), std::nullopt, sorted),
      1);
}

mx::array quantized_rows(const QuantizedMatrix& w, const mx::array& ids, mx::Dtype dtype) {
  check("quantized_rows", w);
  check_floats("quantized_rows", dtype);
  if (w.weight.ndim() != 2 || !mx::issubdtype(ids.dtype(), mx::integer))
    throw Error("quantized_rows: expected a matrix and integers, found {} dimensions and {}",
                w.weight.ndim(), fmt::streamed(ids.dtype()));
  if (on_cpu()) return quant::rows_op(w, mx::astype(ids, mx::int32), dtype, cpu_stream());
  const mx::array flat = mx::reshape(ids, {-1});
  const auto pick = [&](const mx::array& a) { return mx::take(a, flat, 0); };
  const auto maybe = [&](const std::optional<mx::array>& a) {
    return a ? std::optional(pick(*a)) : std::nullopt;
  };
  mx::Shape shape = ids.shape();
  shape.push_back(w.cols());
  return mx::reshape(dequantize({w.type, pick(w.weight), maybe(w.scales), maybe(w.biases)}, dtype),
                     std::move(shape));
}

mx::array dequantize(const QuantizedMatrix& w, mx::Dtype dtype) {
  check("dequantize", w);
  check_floats("dequantize", dtype);
  if (w.type.is_gguf() || on_cpu()) return quant::dequantize_op(w, dtype, cpu_stream());
  return mx::dequantize(w.weight, *w.scales, w.biases, w.type.group_size, w.type.bits,
                        mode_name(w.type), std::nullopt, dtype);
}

QuantizedMatrix quantize(const mx::array& w, const QuantType& type) {
  if (type.is_gguf())
    throw Error("quantize: GGUF types are read, not written ({})", name(type.mode));
  if (w.ndim() < 2 || w.shape(-1) % whole_columns(type) != 0)
    throw Error("quantize: expected [..., rows, cols] with columns a multiple of {}, found {}",
                whole_columns(type), fmt::streamed(w.shape()));
  auto parts = mx::quantize(w, type.group_size, type.bits, mode_name(type));
  return {type, parts[0], parts[1], parts.size() > 2 ? std::optional(parts[2]) : std::nullopt};
}

}  // namespace mlxcpp::kernels
