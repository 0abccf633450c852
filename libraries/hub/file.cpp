#include "hub/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <random>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "core/error.h"
#include "core/log.h"

namespace fs = std::filesystem;

namespace mlxcpp::hub {
namespace {

constexpr size_t kPiece = 1 << 20;

std::string reason(int error) { return std::generic_category().message(error); }

// Makes a rename or a new file in `folder` last; file systems that cannot are left alone.
void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

File::File(fs::path path, int flags)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), flags | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) throw Error("{}: cannot be opened: {}", path_.string(), reason(errno));
}

File File::open_to_read(const fs::path& path) { return File(path, O_RDONLY); }
File File::open_to_extend(const fs::path& path) { return File(path, O_RDWR | O_CREAT); }

File::File(File&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

uint64_t File::size() const {
  struct stat status;
  if (::fstat(descriptor_, &status) != 0)
    throw Error("{}: cannot be measured: {}", path_.string(), reason(errno));
  return static_cast<uint64_t>(status.st_size);
}

void File::read_all(const std::function<void(std::string_view)>& piece) {
  std::vector<char> buffer(kPiece);
  for (;;) {
    const ssize_t n = ::read(descriptor_, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error("{}: cannot be read: {}", path_.string(), reason(errno));
    if (n == 0) return;
    piece({buffer.data(), static_cast<size_t>(n)});
  }
}

void File::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error("{}: cannot be written: {}", path_.string(), reason(errno));
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void File::truncate_to(uint64_t size) {
  const auto end = static_cast<off_t>(size);
  if (::ftruncate(descriptor_, end) != 0 || ::lseek(descriptor_, end, SEEK_SET) != end)
    throw Error("{}: cannot be cut to {} bytes: {}", path_.string(), size, reason(errno));
}

void File::sync() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != ENOTSUP)
    throw Error("{}: cannot be written: {}", path_.string(), reason(errno));
}

FileLock::FileLock(const fs::path& path, const std::stop_token& stop) {
  make_folders(path.parent_path());
  constexpr std::chrono::milliseconds kPause(50);
  int pauses = 0;
  for (;;) {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0664);
    if (descriptor_ < 0)
      throw Error("{}: the lock cannot be opened: {}", path.string(), reason(errno));
    while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK && errno != EACCES) {
        // Some network file systems have no locks. What is fetched is checked all the same.
        log::warning("{}: no lock to be had here: {}", path.string(), reason(errno));
        return;
      }
      if (++pauses == 20)  // a second: not for the files that are there in a moment
        log::warning("{}: another download of the same file is under way: waiting for it",
                     path.string());
      if (stop.stop_requested()) {
        ::close(descriptor_);
        throw_if_stopped(stop, path.string());
      }
      std::this_thread::sleep_for(kPause);
    }
    // Somebody may have removed the file between open and flock: such a lock guards nothing.
    struct stat ours, there;
    if (::fstat(descriptor_, &ours) == 0 && ::stat(path.c_str(), &there) == 0 &&
        ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
      return;
    ::close(descriptor_);
  }
}

FileLock::~FileLock() { ::close(descriptor_); }

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error("{}: the folder cannot be made: {}", folder.string(), error.message());
}

void move_into_place(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw Error("{}: cannot be renamed to {}: {}", from.string(), to.string(), reason(errno));
  sync_folder(to.parent_path());
}

void write_whole(const fs::path& path, std::string_view text) {
  make_folders(path.parent_path());
  // Unlike a fixed name, a random one lets two processes write at once; the last rename wins.
  fs::path part = path;
  part += fmt::format(".{:08x}.tmp", std::random_device{}());
  try {
    File file = File::open_to_extend(part);
    file.write(text);
    file.sync();
    move_into_place(part, path);
  } catch (...) {
    std::error_code ignored;
    fs::remove(part, ignored);
    throw;
  }
}

void need_space(const fs::path& folder, uint64_t bytes, std::string_view what) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  // Some file systems do not count, and say 0 of 0.
  if (!error && space.capacity > 0 && space.available < bytes)
    throw Error("{}: disk full: {} needs {}, {} are free", folder.string(), what, human_size(bytes),
                human_size(space.available));
}

void throw_if_stopped(const std::stop_token& stop, std::string_view what) {
  if (stop.stop_requested()) throw Error("{}: the download was cancelled", what);
}

std::string human_size(uint64_t bytes) {
  static constexpr std::array kUnits = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < kUnits.size()) value /= 1000, ++unit;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace mlxcpp::hub
