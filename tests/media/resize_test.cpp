#include "vlm/media/resize.h"

#include <gtest/gtest.h>

#include "kernels/isa.h"
#include "kernels/thread_pool.h"
#include "support/throws.h"
#include "vlm/media/image_processor.h"

namespace mlxcpp::media {
namespace {

using test::error_of;
using ::testing::HasSubstr;

Picture pattern(int width, int height) {
  Picture p = new_picture(width, height);
  unsigned state = 1;
  for (uint8_t& x : p.rgb) x = static_cast<uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  return p;
}

TEST(Resize, SameForEveryInstructionSetAndAnyNumberOfThreads) {
  const Picture p = pattern(131, 77);
  const auto isa = kernels::isa();
  const int threads = kernels::num_threads();
  for (const Filter filter : {Filter::bilinear, Filter::bicubic, Filter::lanczos})
    for (const Backend backend : {Backend::pillow, Backend::torchvision})
      for (const auto& [w, h] :
           {std::pair(40, 31), std::pair(200, 90), std::pair(131, 20), std::pair(7, 77)}) {
        kernels::set_isa(kernels::Isa::generic);
        kernels::set_num_threads(1);
        const auto want = resize(p, w, h, filter, backend).rgb;
        for (const auto other : kernels::available_isas()) {
          kernels::set_isa(other);
          kernels::set_num_threads(3);
          EXPECT_EQ(resize(p, w, h, filter, backend).rgb, want) << w << " x " << h;
        }
      }
  kernels::set_isa(isa);
  kernels::set_num_threads(threads);
}

TEST(Resize, OneColourStays) {
  Picture p = new_picture(50, 40);
  for (size_t i = 0; i < p.rgb.size(); ++i) p.rgb[i] = static_cast<uint8_t>(i % 3 == 0 ? 255 : 7);
  for (const Filter filter :
       {Filter::nearest, Filter::bilinear, Filter::bicubic, Filter::lanczos}) {
    const Picture out = resize(p, 33, 71, filter);
    for (size_t i = 0; i < out.rgb.size(); ++i) ASSERT_EQ(out.rgb[i], i % 3 == 0 ? 255 : 7);
  }
}

TEST(Resize, Refuses) {
  EXPECT_THAT(error_of([] { resize(pattern(2, 2), 0, 5, Filter::bicubic); }),
              HasSubstr("positive"));
  EXPECT_THAT(error_of([] { crop(pattern(4, 4), 2, 2, 3, 1); }), HasSubstr("does not lie"));
  EXPECT_THAT(error_of([] { smart_resize({1, 201}, 28, 3136, 100000); }), HasSubstr("too long"));
  EXPECT_THAT(error_of([] { read_config<SquareProcessor>(Json{{"resample", 5}}, "p.json"); }),
              HasSubstr("p.json: 'resample'"));
  EXPECT_THAT(error_of([] { read_config<PatchProcessor>(Json{{"patch_size", 0}}, "p.json"); }),
              HasSubstr("patch_size"));
  EXPECT_THAT(
      error_of([] { read_config<TileProcessor>(Json{{"image_std", {0, 1, 1}}}, "p.json"); }),
      HasSubstr("image_std"));
}

}  // namespace
}  // namespace mlxcpp::media
