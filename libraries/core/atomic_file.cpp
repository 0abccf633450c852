#include "core/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>

namespace mlxcpp {
namespace {

constexpr size_t kMostAtOnce = size_t{1} << 30;  // write(2) takes no more than 2 GB on any system

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path file) : file_(std::move(file)) {
  static std::atomic<unsigned> count = 0;
  const std::string name = fmt::format("{}.{}-{}.tmp", file_.string(), ::getpid(), ++count);
  // O_TRUNC, not O_EXCL: what a killed process of the same number left behind is of no use.
  fd_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) throw failure(errno);
  temporary_ = name;
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), std::min(bytes.size(), kMostAtOnce));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw failure(errno);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void AtomicFile::write_at(size_t offset, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::pwrite(fd_, text.data(), text.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw failure(errno);
    text.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) throw failure(errno);
  if (::close(std::exchange(fd_, -1)) != 0) throw failure(errno);
  if (::rename(temporary_.c_str(), file_.c_str()) != 0) throw failure(errno);
  temporary_.clear();
}

Error AtomicFile::failure(int error) const {
  return Error("{}: cannot be written: {}", file_.string(), std::generic_category().message(error));
}

void write_file(const std::filesystem::path& file, std::string_view text) {
  AtomicFile out(file);
  out.write(text);
  out.commit();
}

}  // namespace mlxcpp
