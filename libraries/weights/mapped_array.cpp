#include "weights/mapped_array.h"

#include <cassert>
#include <cstring>

namespace mlxcpp {
namespace {

// MLX's CPU allocator keeps a buffer's size in the word before its data, and a Buffer points at
// that word. Asked from the allocator itself, so that another layout means copies, not wrong reads.
bool size_word_before_data() {
  static const bool answer = [] {
    const mx::allocator::Data probe = mx::allocator::malloc(64);
    mx::allocator::Buffer buffer = probe.buffer();
    return buffer.raw_ptr() == static_cast<char*>(buffer.ptr()) + sizeof(size_t);
  }();
  return answer;
}

}  // namespace

mx::array mapped_array(std::shared_ptr<const MappedFile> file, size_t offset, mx::Shape shape,
                       mx::Dtype dtype) {
  size_t size = mx::size_of(dtype);
  for (const int d : shape) size *= static_cast<size_t>(d);
  assert(offset >= sizeof(size_t) && offset <= file->size() && size <= file->size() - offset);

  // The mapping is private: MLX may write to a buffer it donates without touching the file.
  auto* data = const_cast<std::byte*>(file->bytes().data()) + offset;
  if (reinterpret_cast<uintptr_t>(data) % mx::size_of(dtype) != 0 || size == 0) {
    mx::allocator::Data copy = mx::allocator::malloc(size);
    mx::allocator::Buffer buffer = copy.buffer();
    if (size > 0) std::memcpy(buffer.raw_ptr(), data, size);
    return mx::array(std::move(copy), std::move(shape), dtype);
  }
  if (!size_word_before_data())
    return mx::array(data, std::move(shape), dtype, [file = std::move(file)](void*) {});
  // What stands in the word before is another tensor's bytes. MLX reads it only to see whether a
  // donated buffer is not far too large for its result, and both answers are right.
  mx::allocator::Data view(mx::allocator::Buffer(data - sizeof(size_t)),
                           [file = std::move(file)](mx::allocator::Buffer) {});
  return mx::array(std::move(view), std::move(shape), dtype);
}

}  // namespace mlxcpp
