#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include "core/error.h"

namespace mlxcpp {

// Writes a file so that readers see the old contents or the whole new ones, never a part: into a
// temporary file beside it, which commit() syncs to disk and renames. Destroyed without commit()
// (an exception, a full disk), the old file is untouched and the temporary one is gone; what a
// killed process left beside the file is removed by the next that writes it. Every failure is an
// Error that names the file, and so is something that is there and no regular file (/dev/null, a
// pipe, a folder). One thread at a time.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path file);  // its folder must exist
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // Bytes over some that were written, such as a header that is known at the end.
  void write_at(size_t offset, std::string_view text);
  void commit();

 private:
  Error failure(int error) const;

  std::filesystem::path file_, temporary_;
  int fd_ = -1;
};

// The whole of it in one call.
void write_file(const std::filesystem::path& file, std::string_view text);

}  // namespace mlxcpp
