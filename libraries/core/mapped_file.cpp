#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace mlxcpp {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Error cannot_read(const std::filesystem::path& file, int error) {
  return Error("{}: cannot be read: {}", file.string(), std::generic_category().message(error));
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& file) {
  const Descriptor d{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  if (d.fd < 0) throw cannot_read(file, errno);
  struct stat info{};
  if (::fstat(d.fd, &info) != 0) throw cannot_read(file, errno);
  if (!S_ISREG(info.st_mode)) throw Error("{}: expected a regular file", file.string());
  const auto size = static_cast<size_t>(info.st_size);
  const std::byte* data = nullptr;
  if (size > 0) {  // an empty mapping does not exist
    // No swap is set aside: writable private pages of a model larger than memory would be refused.
    void* p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, d.fd, 0);
    if (p == MAP_FAILED) throw cannot_read(file, errno);
    data = static_cast<const std::byte*>(p);
  }
  return std::shared_ptr<const MappedFile>(new MappedFile(file, data, size));
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::advise(Advice advice, size_t offset, size_t size) const {
  if (!data_ || offset >= size_) return;
  size = std::min(size, size_ - offset);
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = offset / page * page;  // madvise wants whole pages
  const int what = advice == Advice::sequential  ? MADV_SEQUENTIAL
                   : advice == Advice::will_need ? MADV_WILLNEED
                                                 : MADV_DONTNEED;
  ::madvise(const_cast<std::byte*>(data_) + begin, offset + size - begin, what);
}

}  // namespace mlxcpp
