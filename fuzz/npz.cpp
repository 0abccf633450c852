#include "weights/npz.h"

#include "core/error.h"
#include "fuzz/memory_file.h"

namespace {

void touch(const mlx::core::array& array) {
  volatile uint8_t sum = 0;
  for (size_t i = 0; i < array.nbytes(); ++i) sum = sum + array.data<uint8_t>()[i];
}

}  // namespace

// The same bytes as .npz and as .npy.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const mlxcpp::fuzz::MemoryFile file(data, size);
  try {
    for (const auto& [name, array] : mlxcpp::read_npz(file.path())) touch(array);
  } catch (const mlxcpp::Error&) {
  }
  try {
    touch(mlxcpp::read_npy(file.path()));
  } catch (const mlxcpp::Error&) {
  }
  return 0;
}
