#include "core/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>
#include <system_error>

namespace mlxcpp {
namespace {

constexpr size_t kMostAtOnce = size_t{1} << 30;  // write(2) takes no more than 2 GB on any system

// Whether `rest` is what follows a file's name in that of a temporary one: .PROCESS-COUNT.tmp
bool names_temporary(std::string_view rest) {
  const auto take = [&](std::string_view what) {
    if (!rest.starts_with(what)) return false;
    rest.remove_prefix(what.size());
    return true;
  };
  const auto number = [&] {
    const size_t n = std::min(rest.find_first_not_of("0123456789"), rest.size());
    rest.remove_prefix(n);
    return n > 0;
  };
  return take(".") && number() && take("-") && number() && rest == ".tmp";
}

// Temporary files of `file` that nobody holds a lock on any more. What cannot be removed stays.
void remove_abandoned(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  std::error_code error;
  const auto folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const std::string other = it->path().filename().string();
    if (!other.starts_with(name) || !names_temporary(std::string_view(other).substr(name.size())))
      continue;
    const int fd = ::open(it->path().c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(it->path().c_str());
    ::close(fd);
  }
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path file) : file_(std::move(file)) {
  static std::atomic<unsigned> count = 0;
  // To rename over /dev/null, or where a link leads to such a thing, would take it away from the
  // whole system.
  std::error_code error;
  const auto there = std::filesystem::status(file_, error);
  if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there))
    throw Error("{}: cannot be written: {}", file_.string(),
                std::filesystem::is_directory(there)
                    ? "it is a folder"
                    : "expected a regular file, found a device, pipe or socket");
  remove_abandoned(file_);
  for (;;) {
    const std::string name = fmt::format("{}.{}-{}.tmp", file_.string(), ::getpid(), ++count);
    // O_TRUNC, not O_EXCL: what a killed process of the same number left behind is of no use.
    fd_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd_ < 0) throw failure(errno);
    temporary_ = name;
    // Locked for as long as somebody writes it. Another process may have removed it before.
    struct stat s{};
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 || ::fstat(fd_, &s) != 0 || s.st_nlink > 0) return;
    ::close(std::exchange(fd_, -1));
  }
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
