#include "mnist/idx.h"

#include <zlib.h>

#include <string>

#include "core/error.h"
#include "core/mapped_file.h"

namespace mlxcpp::mnist {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxBytes = size_t{1} << 30;  // far above MNIST's and its kin's
constexpr uint8_t kUint8 = 8;                  // the one type that MNIST has

bool is_gzip(std::string_view bytes) { return bytes.starts_with("\x1f\x8b"); }

std::string gunzip(std::string_view bytes, std::string_view where) {
  struct Stream {
    z_stream z{};
    ~Stream() { ::inflateEnd(&z); }
  } s;
  constexpr int kGzip = 16 + MAX_WBITS;
  if (::inflateInit2(&s.z, kGzip) != Z_OK) throw Error("{}: zlib cannot be set up", where);
  s.z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  s.z.avail_in = static_cast<uInt>(bytes.size());
  std::string out;
  char piece[1 << 16];
  for (int state = Z_OK; state != Z_STREAM_END;) {
    s.z.next_out = reinterpret_cast<Bytef*>(piece);
    s.z.avail_out = sizeof piece;
    state = ::inflate(&s.z, Z_NO_FLUSH);
    if (state == Z_BUF_ERROR) throw Error("{}: the gzip stream is cut off", where);
    if (state != Z_OK && state != Z_STREAM_END)
      throw Error("{}: the gzip stream is damaged: {}", where, s.z.msg ? s.z.msg : "unknown fault");
    out.append(piece, sizeof piece - s.z.avail_out);
    if (out.size() > kMaxBytes)
      throw Error("{}: expected at most {} bytes when unpacked, found more", where, kMaxBytes);
  }
  return out;
}

uint32_t big_endian(std::string_view four) {
  uint32_t v = 0;
  for (const char c : four) v = v << 8 | static_cast<uint8_t>(c);
  return v;
}

}  // namespace

Idx read_idx(std::string_view bytes, int axes, std::string_view where) {
  if (bytes.size() > kMaxBytes)
    throw Error("{}: expected at most {} bytes, found {}", where, kMaxBytes, bytes.size());
  std::string unpacked;
  if (is_gzip(bytes)) bytes = unpacked = gunzip(bytes, where);

  const size_t header = 4 + 4 * static_cast<size_t>(axes);
  if (bytes.size() < 4) throw Error("{}: cut off: it has {} bytes", where, bytes.size());
  const uint32_t magic = big_endian(bytes.substr(0, 4));
  const uint32_t wanted = uint32_t{kUint8} << 8 | static_cast<uint32_t>(axes);
  if (magic != wanted)
    throw Error("{}: expected the magic number {:#010x} (bytes with {} axes), found {:#010x}",
                where, wanted, axes, magic);
  if (bytes.size() < header) throw Error("{}: cut off within its header", where);
  Idx idx;
  size_t count = 1;
  for (int i = 0; i < axes; ++i) {
    const uint32_t n = big_endian(bytes.substr(4 + 4 * static_cast<size_t>(i), 4));
    if (n == 0 || n > kMaxBytes || count > kMaxBytes / n)
      throw Error("{}: axis {} has the impossible size {}", where, i, n);
    count *= n;
    idx.shape.push_back(static_cast<int>(n));
  }
  if (bytes.size() - header != count)
    throw Error("{}: {}: the header promises {} values, found {}", where,
                bytes.size() - header < count ? "cut off" : "too long", count,
                bytes.size() - header);
  idx.values.assign(bytes.begin() + static_cast<std::ptrdiff_t>(header), bytes.end());
  return idx;
}

Idx read_idx_file(const fs::path& file, int axes) {
  fs::path name = file;
  if (!fs::exists(name)) name += ".gz";
  if (!fs::exists(name)) throw Error("{}[.gz]: there is no such file", file.string());
  const auto mapped = MappedFile::open(name);
  const auto bytes = mapped->bytes();
  return read_idx({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, axes, name.string());
}

}  // namespace mlxcpp::mnist
