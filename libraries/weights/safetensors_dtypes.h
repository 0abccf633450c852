#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include <mlx/mlx.h>

namespace mlxcpp {

namespace mx = mlx::core;

// The format's names of MLX's dtypes.
inline const std::array<std::pair<std::string_view, mx::Dtype>, 13> kSafetensorsDtypes = {{
    {"F64", mx::float64},
    {"F32", mx::float32},
    {"F16", mx::float16},
    {"BF16", mx::bfloat16},
    {"I64", mx::int64},
    {"I32", mx::int32},
    {"I16", mx::int16},
    {"I8", mx::int8},
    {"U64", mx::uint64},
    {"U32", mx::uint32},
    {"U16", mx::uint16},
    {"U8", mx::uint8},
    {"BOOL", mx::bool_},
}};

inline std::optional<mx::Dtype> dtype_from_safetensors(std::string_view name) {
  for (const auto& [text, dtype] : kSafetensorsDtypes)
    if (text == name) return dtype;
  return std::nullopt;
}

inline std::optional<std::string_view> safetensors_name(mx::Dtype dtype) {
  for (const auto& [text, d] : kSafetensorsDtypes)
    if (d == dtype) return text;
  return std::nullopt;
}

}  // namespace mlxcpp
