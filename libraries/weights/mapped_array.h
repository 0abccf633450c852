#pragma once

#include <memory>

#include <mlx/mlx.h>

#include "core/mapped_file.h"

namespace mlxcpp {

namespace mx = mlx::core;

// The bytes [offset, offset + size of the array) of a file as an array, which keeps the mapping
// alive. On MLX's CPU allocator it is a view; on others (CUDA; Metal unless page-aligned), and
// where the offset does not suit the dtype's alignment, a copy. The caller has checked that the
// range lies inside the file; offset >= 8.
mx::array mapped_array(std::shared_ptr<const MappedFile> file, size_t offset, mx::Shape shape,
                       mx::Dtype dtype);

}  // namespace mlxcpp
