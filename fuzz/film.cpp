#include "vlm/media/film.h"

#include <numeric>

#include "core/error.h"
#include "vlm/media/sound.h"

// The same bytes as a film, of which every frame is read, and as a sound.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    mlxcpp::media::Film film(bytes, "fuzz", {.max_frames = 64});
    std::vector<int> numbers(static_cast<size_t>(film.frames()));
    std::iota(numbers.begin(), numbers.end(), 0);
    film.read(numbers, [](const mlxcpp::media::Picture& frame) {
      if (frame.rgb.size() != size_t{3} * frame.width * frame.height) std::abort();
    });
  } catch (const mlxcpp::Error&) {
  }
  try {
    constexpr double kMostSeconds = 10;
    mlxcpp::media::decode_sound(bytes, "fuzz", {.max_seconds = kMostSeconds});
  } catch (const mlxcpp::Error&) {
  }
  return 0;
}
