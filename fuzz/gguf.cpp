#include "weights/gguf.h"

#include "fuzz/memory_file.h"
#include "weights/checkpoint.h"

using namespace mlxcpp;

namespace {

template <class T>
void ask(const GgufFile& file, std::string_view key) {
  try {
    file.find<T>(key);
  } catch (const Error&) {
  }
}

}  // namespace

// Opens a file, asks for every value in several types, and maps it to a checkpoint.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile memory(data, size);
  try {
    const GgufFile file(memory.path());
    for (const std::string_view key : file.keys()) {
      ask<int>(file, key);
      ask<double>(file, key);
      ask<bool>(file, key);
      ask<std::string_view>(file, key);
      ask<std::vector<float>>(file, key);
      ask<std::vector<int64_t>>(file, key);
      ask<std::vector<std::string_view>>(file, key);
    }
    volatile uint8_t sum = 0;
    for (const auto& [name, array] : load_checkpoint(file).weights)
      for (size_t i = 0; i < array.nbytes(); ++i) sum = sum + array.data<uint8_t>()[i];
  } catch (const Error&) {
  }
  return 0;
}
