#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>

namespace mlxcpp::hub {

// An open file; every fault of the system is an Error that names the path.
class File {
 public:
  static File open_to_read(const std::filesystem::path& path);
  static File open_to_extend(const std::filesystem::path& path);  // made when missing; at its start
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;
  ~File();

  const std::filesystem::path& path() const { return path_; }
  uint64_t size() const;
  // From the present position to the end, in pieces; afterwards the position is the end.
  void read_all(const std::function<void(std::string_view)>& piece);
  void write(std::string_view bytes);
  void truncate_to(uint64_t size);  // and moves there
  void sync();                      // to the disk

 private:
  File(std::filesystem::path path, int flags);
  std::filesystem::path path_;
  int descriptor_;
};

// Waits for the lock that huggingface_hub takes too (flock); freed by the destructor, and by the
// system when the process dies. The file stays: removing it would let two waiters in.
class FileLock {
 public:
  FileLock(const std::filesystem::path& path, const std::stop_token& stop);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  int descriptor_;
};

void make_folders(const std::filesystem::path& folder);
// Renames within one file system, replacing `to`, and brings the new name to the disk.
void move_into_place(const std::filesystem::path& from, const std::filesystem::path& to);
// Readers see the old content or the new, never a part.
void write_whole(const std::filesystem::path& path, std::string_view text);
// Throws when fewer than `bytes` are free where `folder` lies.
void need_space(const std::filesystem::path& folder, uint64_t bytes, std::string_view what);

void throw_if_stopped(const std::stop_token& stop, std::string_view what);

std::string human_size(uint64_t bytes);  // "98.4 MB"

}  // namespace mlxcpp::hub
