#include "weights/npz.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/mapped_file.h"
#include "weights/mapped_array.h"

namespace mlxcpp {
namespace {

using Bytes = std::span<const std::byte>;

template <class T>
T number(Bytes bytes, size_t at) {
  T v;
  std::memcpy(&v, bytes.data() + at, sizeof v);
  return v;
}

std::string_view text_of(Bytes b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

struct Descr {
  std::string_view name;
  mx::Dtype dtype;
};
const std::array kDescrs = {
    Descr{"<f8", mx::float64},  Descr{"<f4", mx::float32},  Descr{"<f2", mx::float16},
    Descr{"<V2", mx::bfloat16}, Descr{"|V2", mx::bfloat16}, Descr{"<i8", mx::int64},
    Descr{"<i4", mx::int32},    Descr{"<i2", mx::int16},    Descr{"|i1", mx::int8},
    Descr{"<u8", mx::uint64},   Descr{"<u4", mx::uint32},   Descr{"<u2", mx::uint16},
    Descr{"|u1", mx::uint8},    Descr{"|b1", mx::bool_},    Descr{"<c8", mx::complex64},
};

struct Header {
  mx::Dtype dtype = mx::float32;
  mx::Shape shape;
  bool fortran = false;
  size_t data = 0, bytes = 0;  // where the numbers begin, and their size
};

// The dictionary of a .npy header, a Python literal: {'descr': '<f4', 'fortran_order': False,
// 'shape': (2, 3), }.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  Header parse() {
    Header h;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const auto key = quoted();
      expect(':');
      if (key == "descr" && !descr) {
        h.dtype = dtype();
        descr = true;
      } else if (key == "fortran_order" && !order) {
        h.fortran = boolean();
        order = true;
      } else if (key == "shape" && !shape) {
        h.shape = tuple();
        shape = true;
      } else {
        throw Error("{}: .npy header: expected descr, fortran_order and shape, found '{}'", where_,
                    key);
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (!descr || !order || !shape || skip_space() < text_.size())
      throw Error("{}: .npy header: expected descr, fortran_order and shape", where_);
    return h;
  }

 private:
  size_t skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_;
  }
  bool accept(char c) {
    if (skip_space() == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) throw Error("{}: .npy header: expected '{}' at byte {}", where_, c, at_);
  }
  std::string_view quoted() {
    expect('\'');
    const size_t end = text_.find('\'', at_);
    if (end == std::string_view::npos) throw Error("{}: .npy header: a text does not end", where_);
    const auto out = text_.substr(at_, end - at_);
    at_ = end + 1;
    return out;
  }
  bool boolean() {
    skip_space();
    for (const auto& [word, value] : {std::pair{"True", true}, {"False", false}})
      if (text_.substr(at_).starts_with(word)) {
        at_ += std::string_view(word).size();
        return value;
      }
    throw Error("{}: .npy header: 'fortran_order' must be True or False", where_);
  }
  mx::Dtype dtype() {
    if (skip_space() < text_.size() && text_[at_] == '[')
      throw Error("{}: structured arrays are not supported", where_);
    const auto name = quoted();
    if (name == "|O")
      throw Error("{}: holds pickled Python objects, which are not read: they can run code",
                  where_);
    for (const Descr& d : kDescrs)
      if (d.name == name) return d.dtype;
    throw Error("{}: numbers of type '{}' are not supported", where_, name);
  }
  mx::Shape tuple() {
    mx::Shape out;
    expect('(');
    while (!accept(')')) {
      skip_space();
      int d = -1;
      const char* begin = text_.data() + at_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), d);
      if (error != std::errc() || d < 0 || out.size() == 16)
        throw Error("{}: .npy header: 'shape' must be up to 16 sizes under 2^31", where_);
      at_ += static_cast<size_t>(end - begin);
      out.push_back(d);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return out;
  }

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
};

// Reads the header of a .npy whose whole size is `whole`; `bytes` are its beginning.
Header read_header(Bytes bytes, uint64_t whole, const std::string& where) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  if (bytes.size() < 12 || text_of(bytes.first(6)) != kMagic)
    throw Error("{}: expected a .npy array", where);
  const auto version = std::to_integer<int>(bytes[6]);
  if (version < 1 || version > 3)
    throw Error("{}: .npy version {} is not supported, only 1 to 3", where, version);
  const size_t begin = version == 1 ? 10 : 12;
  const size_t length = version == 1 ? number<uint16_t>(bytes, 8) : number<uint32_t>(bytes, 8);
  if (length > bytes.size() - begin)
    throw Error("{}: the .npy header takes {} bytes, there are {}", where, length,
                bytes.size() - begin);
  Header h = HeaderParser(text_of(bytes.subspan(begin, length)), where).parse();
  h.data = begin + length;
  h.bytes = mx::size_of(h.dtype);
  for (const int d : h.shape)
    if (__builtin_mul_overflow(h.bytes, static_cast<size_t>(d), &h.bytes))
      throw Error("{}: shape ({}) is too large", where, fmt::join(h.shape, ", "));
  if (h.bytes != whole - h.data)
    throw Error("{}: shape ({}) takes {} bytes, there are {}", where, fmt::join(h.shape, ", "),
                h.bytes, whole - h.data);
  return h;
}

// Column-major numbers in row-major order.
mx::array from_fortran(const std::byte* data, const Header& h) {
  mx::allocator::Data out = mx::allocator::malloc(h.bytes);
  mx::allocator::Buffer buffer = out.buffer();
  auto* to = static_cast<std::byte*>(buffer.raw_ptr());
  const size_t item = mx::size_of(h.dtype), dims = h.shape.size();
  std::vector<size_t> stride(dims, item), index(dims, 0);
  for (size_t d = 1; d < dims; ++d) stride[d] = stride[d - 1] * static_cast<size_t>(h.shape[d - 1]);
  for (size_t done = 0, from = 0; done < h.bytes; done += item) {
    std::memcpy(to + done, data + from, item);
    for (size_t d = dims; d-- > 0;) {  // the next index, last axis fastest
      from += stride[d];
      if (++index[d] < static_cast<size_t>(h.shape[d])) break;
      from -= stride[d] * index[d];
      index[d] = 0;
    }
  }
  return mx::array(std::move(out), h.shape, h.dtype);
}

// A .npy that lies uncompressed at `offset` of the file.
mx::array stored_array(const std::shared_ptr<const MappedFile>& file, size_t offset, size_t size,
                       const std::string& where) {
  const Bytes bytes = file->bytes().subspan(offset, size);
  const Header h = read_header(bytes, size, where);
  if (h.fortran && h.shape.size() > 1) return from_fortran(bytes.data() + h.data, h);
  return mapped_array(file, offset + h.data, h.shape, h.dtype);
}

class Inflater {
 public:
  Inflater(Bytes from, const std::string& where) : where_(where) {
    if (inflateInit2(&z_, -MAX_WBITS) != Z_OK) throw Error("{}: out of memory", where_);
    left_ = from;
  }
  ~Inflater() { inflateEnd(&z_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Fills `to`; returns how much there was.
  size_t read(std::span<std::byte> to) {
    size_t done = 0;
    while (done < to.size() && !ended_) {
      if (z_.avail_in == 0) {
        const size_t n = std::min<size_t>(left_.size(), kChunk);
        z_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(left_.data()));
        z_.avail_in = static_cast<uInt>(n);
        left_ = left_.subspan(n);
      }
      const size_t room = std::min<size_t>(to.size() - done, kChunk);
      z_.next_out = reinterpret_cast<Bytef*>(to.data() + done);
      z_.avail_out = static_cast<uInt>(room);
      const int rc = inflate(&z_, Z_NO_FLUSH);
      done += room - z_.avail_out;
      if (rc == Z_STREAM_END)
        ended_ = true;
      else if (rc != Z_OK)
        throw Error("{}: the compressed data are damaged", where_);
    }
    return done;
  }

 private:
  static constexpr size_t kChunk = size_t{1} << 30;
  std::string where_;
  z_stream z_{};
  Bytes left_;
  bool ended_ = false;
};

mx::array inflated_array(Bytes packed, uint64_t size, const std::string& where) {
  // Deflate packs at most 1032 to 1: what claims more is a lie, found before memory is spent on it.
  if (size / 1032 > packed.size())
    throw Error("{}: {} bytes cannot come from {} compressed ones", where, size, packed.size());
  Inflater inflater(packed, where);
  // The header first, since the numbers go straight into their array.
  std::vector<std::byte> head(std::min<uint64_t>(size, 12));
  head.resize(inflater.read(head));
  if (head.size() == 12) {
    const size_t length = std::to_integer<int>(head[6]) == 1
                              ? number<uint16_t>(head, 8) + size_t{10}
                              : number<uint32_t>(head, 8) + size_t{12};
    if (length > 12 && length <= size) {
      head.resize(length);
      head.resize(12 + inflater.read(std::span(head).subspan(12)));
    }
  }
  const Header h = read_header(head, size, where);
  mx::allocator::Data out = mx::allocator::malloc(h.bytes);
  mx::allocator::Buffer buffer = out.buffer();
  auto* data = static_cast<std::byte*>(buffer.raw_ptr());
  if (const size_t n = inflater.read({data, h.bytes}); n != h.bytes)
    throw Error("{}: expected {} bytes of numbers, found {}", where, h.bytes, n);
  if (h.fortran && h.shape.size() > 1) return from_fortran(data, h);
  return mx::array(std::move(out), h.shape, h.dtype);
}

// An entry of a zip's central directory (PKWARE APPNOTE.TXT 4.3.12), and where its data begin.
struct ZipEntry {
  std::string name;
  int method = 0;
  uint64_t packed = 0, size = 0, header = 0;
};

constexpr uint32_t kEndOfDirectory = 0x06054b50, kEnd64Locator = 0x07064b50, kEnd64 = 0x06064b50,
                   kDirectoryEntry = 0x02014b50, kLocalHeader = 0x04034b50;

class Zip {
 public:
  Zip(Bytes bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  std::vector<ZipEntry> entries() const {
    auto [at, count] = directory();
    std::vector<ZipEntry> out;
    for (uint64_t i = 0; i < count; ++i) {
      need(at, 46);
      if (number<uint32_t>(bytes_, at) != kDirectoryEntry) throw damaged();
      const auto name = number<uint16_t>(bytes_, at + 28),
                 extra = number<uint16_t>(bytes_, at + 30),
                 comment = number<uint16_t>(bytes_, at + 32);
      need(at, uint64_t{46} + name + extra + comment);
      ZipEntry e;
      e.name = text_of(bytes_.subspan(at + 46, name));
      e.method = number<uint16_t>(bytes_, at + 10);
      e.packed = number<uint32_t>(bytes_, at + 20);
      e.size = number<uint32_t>(bytes_, at + 24);
      e.header = number<uint32_t>(bytes_, at + 42);
      if (number<uint16_t>(bytes_, at + 8) & 1)
        throw Error("{}: '{}' is encrypted", where_, e.name);
      read_extra(bytes_.subspan(at + 46 + name, extra), e);
      out.push_back(std::move(e));
      at += uint64_t{46} + name + extra + comment;
    }
    return out;
  }

  // Offset of an entry's data, its whole range checked.
  uint64_t data(const ZipEntry& e) const {
    need(e.header, 30);
    if (number<uint32_t>(bytes_, e.header) != kLocalHeader) throw damaged();
    const uint64_t at = e.header + 30 + number<uint16_t>(bytes_, e.header + 26) +
                        number<uint16_t>(bytes_, e.header + 28);
    need(at, e.packed);
    return at;
  }

 private:
  Error damaged() const { return Error("{}: not a .npz file, or cut off", where_); }
  void need(uint64_t at, uint64_t n) const {
    if (at > bytes_.size() || n > bytes_.size() - at) throw damaged();
  }

  // Where the central directory begins, and how many entries it has.
  std::pair<uint64_t, uint64_t> directory() const {
    if (bytes_.size() < 22) throw damaged();
    const size_t last = bytes_.size() - 22, first = last > 65535 ? last - 65535 : 0;
    for (size_t at = last + 1; at-- > first;) {  // a comment may follow it
      if (number<uint32_t>(bytes_, at) != kEndOfDirectory) continue;
      if (at >= 20 && number<uint32_t>(bytes_, at - 20) == kEnd64Locator) {
        const auto end = number<uint64_t>(bytes_, at - 20 + 8);
        need(end, 56);
        if (number<uint32_t>(bytes_, end) != kEnd64) throw damaged();
        return {number<uint64_t>(bytes_, end + 48), number<uint64_t>(bytes_, end + 32)};
      }
      return {number<uint32_t>(bytes_, at + 16), number<uint16_t>(bytes_, at + 10)};
    }
    throw damaged();
  }

  // The 64-bit sizes, of those fields that say 2^32 - 1.
  void read_extra(Bytes extra, ZipEntry& e) const {
    while (extra.size() >= 4) {
      const auto id = number<uint16_t>(extra, 0), size = number<uint16_t>(extra, 2);
      if (size > extra.size() - 4) throw damaged();
      Bytes field = extra.subspan(4, size);
      extra = extra.subspan(4 + size);
      if (id != 1) continue;
      for (uint64_t* v : {&e.size, &e.packed, &e.header}) {
        if (*v != 0xffffffff) continue;
        if (field.size() < 8) throw damaged();
        *v = number<uint64_t>(field, 0);
        field = field.subspan(8);
      }
    }
  }

  Bytes bytes_;
  std::string where_;
};

}  // namespace

mx::array read_npy(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  return stored_array(file, 0, file->size(), path.string());
}

std::map<std::string, mx::array> read_npz(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  const Zip zip(file->bytes(), path.string());
  std::map<std::string, mx::array> out;
  uint64_t total = 0;
  for (const ZipEntry& e : zip.entries()) {
    const std::string where = fmt::format("{}: '{}'", path.string(), e.name);
    if (!e.name.ends_with(".npy")) throw Error("{}: expected a .npy array", where);
    const uint64_t at = zip.data(e);
    // Entries that share their bytes would make much of little.
    total += e.packed;
    if (total > file->size()) throw Error("{}: the entries overlap", path.string());
    if (e.method != 0 && e.method != 8)
      throw Error("{}: compression method {} is not supported, only stored and deflated", where,
                  e.method);
    if (e.method == 0 && e.packed != e.size)
      throw Error("{}: stored, but its sizes differ: {} and {}", where, e.packed, e.size);
    const std::string name = e.name.substr(0, e.name.size() - 4);
    if (!out.emplace(name, e.method == 0
                               ? stored_array(file, at, e.size, where)
                               : inflated_array(file->bytes().subspan(at, e.packed), e.size, where))
             .second)
      throw Error("{}: is there twice", where);
  }
  return out;
}

}  // namespace mlxcpp
