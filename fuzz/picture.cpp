#include "vlm/media/picture.h"

#include "core/error.h"

// A picture of any format, with and without its colour profile.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const bool icc : {false, true}) {
    try {
      constexpr size_t kMostPixels = size_t{1} << 20;
      const auto picture =
          mlxcpp::media::decode_picture({reinterpret_cast<const std::byte*>(data), size}, "fuzz",
                                        {.max_pixels = kMostPixels, .icc = icc});
      if (picture.rgb.size() != size_t{3} * picture.width * picture.height) std::abort();
    } catch (const mlxcpp::Error&) {
    }
  }
  return 0;
}
