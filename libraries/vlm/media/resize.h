#pragma once

#include "vlm/media/picture.h"

namespace mlxcpp::media {

enum class Filter { nearest, bilinear, bicubic, lanczos };

// Whose arithmetic: both filter with antialiasing (the support grows when shrinking), first along
// rows, then columns, rounded to 8 bits between, but in fixed point of different width, so that
// some pixels differ by one.
enum class Backend {
  pillow,       // Image.resize (src/libImaging/Resample.c): 22 bits
  torchvision,  // resize(antialias=True) on uint8 (ATen's UpSampleKernel.cpp): as many as fit 16
};

// Cubic coefficient -0.5 and three lobes of Lanczos, as both have. nearest is Pillow's. Runs on the
// kernels' threads; the same bits for any number of them and any instruction set. Error if a side
// is not positive.
Picture resize(const Picture& picture, int width, int height, Filter filter,
               Backend backend = Backend::torchvision);

// The rectangle [x, x + width) x [y, y + height), which must lie inside: else Error.
Picture crop(const Picture& picture, int x, int y, int width, int height);

// PIL's and transformers' number of a filter ("resample" of preprocessor_config.json); Error, which
// `where` starts, for one that is not supported.
Filter filter_from_number(int resample, std::string_view where);

}  // namespace mlxcpp::media
