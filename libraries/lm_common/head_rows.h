#pragma once

#include <mlx/mlx.h>

#include "core/json.h"

namespace mlxcpp {

namespace mx = mlx::core;

// Rows of a query or key projection [rows, ...]: Hugging Face's order (halves of a head apart) to
// that of interleaved pairs, as llama.cpp's converter has them, and back. Error unless the rows are
// pairs of so many heads.
mx::array interleaved_rows(const mx::array& a, int heads);
mx::array halved_rows(const mx::array& a, int heads);

// Whether config.json says that its rows are interleaved ("rope_traditional").
bool has_interleaved_rows(const Json& config);
// Heads of the projection at `path`; 0 when it is none of queries or keys.
int heads_at(const std::string& path, const Json& config);

}  // namespace mlxcpp
