#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

#include "core/error.h"

namespace mlxcpp {

// A file mapped into memory, read only as far as the file is concerned: pages are private, so a
// stray write (MLX may reuse the buffer of an array that nobody needs any more) never reaches it.
// Immutable, safe from any thread. Whoever holds the shared_ptr keeps the mapping alive. A file
// that another program shortens meanwhile ends in SIGBUS, as with every mapping: files are
// replaced by rename (atomic_file.h), never rewritten.
class MappedFile {
 public:
  // Throws an Error that names the file and the reason.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

  // What will be read next, a hint to the system. The range is cut to the file.
  enum class Advice { sequential, will_need, dont_need };
  void advise(Advice advice, size_t offset = 0, size_t size = SIZE_MAX) const;

 private:
  MappedFile(std::filesystem::path path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::filesystem::path path_;
  const std::byte* data_;
  size_t size_;
};

}  // namespace mlxcpp
