#include "weights/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "core/mapped_file.h"
#include "weights/mapped_array.h"
#include "weights/safetensors_dtypes.h"

namespace mlxcpp {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the formats read here are little-endian");

constexpr size_t kMostHeaderBytes = 100'000'000;  // the format's own bound

struct Entry {
  std::string name, dtype;
  std::vector<uint64_t> shape, offsets;
  bool has_shape = false;
};

// Takes the header's JSON as events, so that nothing but entries is ever built, whatever the text.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(std::string where) : where_(std::move(where)) {}

  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  // MLX writes null for metadata that it has not.
  bool null() override { return (at_ == At::root && key_ == "__metadata__") || unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(int64_t v) override { return unexpected(fmt::format("the number {}", v)); }
  bool number_float(double, const std::string& s) override {
    return unexpected("the number " + s.substr(0, 40));
  }
  bool binary(binary_t&) override { return unexpected("bytes"); }

  bool number_unsigned(uint64_t v) override {
    if (at_ != At::list) return unexpected(fmt::format("the number {}", v));
    if (list_->size() >= kMostDims)
      throw Error("{}: tensor '{}': '{}' has more than {} numbers", where_, name(), key_,
                  kMostDims);
    list_->push_back(v);
    return true;
  }
  bool string(std::string& s) override {
    if (at_ == At::metadata) {
      metadata[key_] = std::move(s);
    } else if (at_ == At::tensor && key_ == "dtype") {
      entries.back().dtype = std::move(s);
    } else {
      return unexpected("a string");
    }
    return true;
  }
  bool start_object(size_t) override {
    if (at_ == At::outside) {
      at_ = At::root;
    } else if (at_ == At::root) {
      at_ = key_ == "__metadata__" ? At::metadata : At::tensor;
      if (at_ == At::tensor) entries.push_back({key_, {}, {}, {}, false});
    } else {
      return unexpected("an object");
    }
    return true;
  }
  bool key(std::string& k) override {
    if (at_ == At::root && !names_.insert(k).second)
      throw Error("{}: tensor '{}' is there twice", where_, k);
    key_ = std::move(k);
    if (at_ == At::tensor && key_ != "dtype" && key_ != "shape" && key_ != "data_offsets")
      throw Error("{}: tensor '{}': expected dtype, shape and data_offsets, found '{}'", where_,
                  name(), key_);
    return true;
  }
  bool end_object() override {
    at_ = at_ == At::root ? At::outside : At::root;
    return true;
  }
  bool start_array(size_t) override {
    if (at_ != At::tensor || key_ == "dtype") return unexpected("a list");
    at_ = At::list;
    Entry& e = entries.back();
    list_ = key_ == "shape" ? &e.shape : &e.offsets;
    if (!list_->empty()) throw Error("{}: tensor '{}': '{}' is there twice", where_, name(), key_);
    e.has_shape |= key_ == "shape";
    return true;
  }
  bool end_array() override {
    at_ = At::tensor;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const Json::exception& e) override {
    throw Error("{}: the header is not valid JSON at byte {}: {}", where_, position, e.what());
  }

 private:
  enum class At { outside, root, metadata, tensor, list };
  static constexpr size_t kMostDims = 16;

  std::string name() const { return entries.empty() ? "" : entries.back().name; }
  bool unexpected(const std::string& what) const {
    switch (at_) {
      case At::outside:
        throw Error("{}: the header must be an object, found {}", where_, what);
      case At::root:
        throw Error("{}: tensor '{}': expected an object, found {}", where_, key_, what);
      case At::metadata:
        throw Error("{}: __metadata__: '{}' must be a string, found {}", where_, key_, what);
      default:
        throw Error("{}: tensor '{}': '{}' must be {}, found {}", where_, name(), key_,
                    key_ == "dtype" ? "a string" : "a list of non-negative integers", what);
    }
  }

  std::string where_, key_;
  std::set<std::string> names_;
  std::vector<uint64_t>* list_ = nullptr;
  At at_ = At::outside;
};

// The value of an 8-bit float with `exponent` exponent and 7 - `exponent` mantissa bits
// (Micikevicius et al., "FP8 formats for deep learning", arXiv 2209.05433): E5M2 has infinities,
// E4M3 has not.
float fp8_value(uint8_t byte, int exponent) {
  const int mantissa = 7 - exponent, bias = (1 << (exponent - 1)) - 1;
  const int e = (byte & 0x7f) >> mantissa, m = byte & ((1 << mantissa) - 1);
  const float sign = byte & 0x80 ? -1.0f : 1.0f;
  const bool last = e == (1 << exponent) - 1;
  if (exponent == 5 && last)
    return m == 0 ? sign * std::numeric_limits<float>::infinity()
                  : std::numeric_limits<float>::quiet_NaN();
  if (exponent == 4 && last && m == 7) return std::numeric_limits<float>::quiet_NaN();
  const float fraction = static_cast<float>(m) / static_cast<float>(1 << mantissa);
  return sign * (e == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, e - bias));
}

mx::array from_fp8(std::span<const std::byte> bytes, const mx::Shape& shape, int exponent) {
  std::array<mx::bfloat16_t, 256> table;
  for (int i = 0; i < 256; ++i) table[i] = fp8_value(static_cast<uint8_t>(i), exponent);
  std::vector<mx::bfloat16_t> values(bytes.size());
  std::transform(bytes.begin(), bytes.end(), values.begin(),
                 [&](std::byte b) { return table[std::to_integer<uint8_t>(b)]; });
  return mx::array(values.begin(), shape, mx::bfloat16);
}

// Checks one entry against its own numbers; returns the tensor's dimensions.
mx::Shape checked_shape(const Entry& e, size_t item, const std::string& where) {
  uint64_t size = item;
  mx::Shape shape;
  for (const uint64_t d : e.shape) {
    if (d > static_cast<uint64_t>(std::numeric_limits<int>::max()) ||
        __builtin_mul_overflow(size, d, &size))
      throw Error("{}: tensor '{}': shape [{}] is too large", where, e.name,
                  fmt::join(e.shape, ", "));
    shape.push_back(static_cast<int>(d));
  }
  if (e.offsets[1] < e.offsets[0] || e.offsets[1] - e.offsets[0] != size)
    throw Error("{}: tensor '{}': {} of shape [{}] takes {} bytes, data_offsets are [{}, {}]",
                where, e.name, e.dtype, fmt::join(e.shape, ", "), size, e.offsets[0], e.offsets[1]);
  return shape;
}

}  // namespace

Safetensors read_safetensors(const std::filesystem::path& path) {
  const std::string where = path.string();
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  uint64_t header = 0;
  if (bytes.size() < sizeof header)
    throw Error("{}: expected a safetensors file, found {} bytes", where, bytes.size());
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header > kMostHeaderBytes)
    throw Error(
        "{}: the header's length is {}, more than the {} that safetensors allows; not a "
        "safetensors file?",
        where, header, kMostHeaderBytes);
  if (header > bytes.size() - sizeof header)
    throw Error("{}: the file is cut off: its header takes {} bytes, the file has {}", where,
                header, bytes.size());

  HeaderReader reader(where);
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + sizeof header;
  Json::sax_parse(text, text + header, &reader);

  // In the order of their bytes: each must begin where the last one ended.
  std::sort(reader.entries.begin(), reader.entries.end(),
            [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  const size_t base = sizeof header + header;
  const uint64_t data = bytes.size() - base;
  uint64_t end = 0;
  Safetensors out;
  for (const Entry& e : reader.entries) {
    if (e.dtype.empty() || !e.has_shape || e.offsets.size() != 2)
      throw Error("{}: tensor '{}': expected dtype, shape and two data_offsets", where, e.name);
    const auto dtype = dtype_from_safetensors(e.dtype);
    const int fp8 = e.dtype == "F8_E4M3" ? 4 : e.dtype == "F8_E5M2" ? 5 : 0;
    if (!dtype && !fp8)
      throw Error("{}: tensor '{}': dtype '{}' is not supported", where, e.name, e.dtype);
    const mx::Shape shape = checked_shape(e, fp8 ? 1 : mx::size_of(*dtype), where);
    if (e.offsets[0] != end)
      throw Error("{}: tensor '{}': its data begin at {}, expected {} ({})", where, e.name,
                  e.offsets[0], end, e.offsets[0] < end ? "tensors overlap" : "a hole");
    end = e.offsets[1];
    if (end > data)
      throw Error("{}: the file is cut off: tensor '{}' ends at byte {}, the file has {}", where,
                  e.name, base + end, bytes.size());
    out.tensors.emplace(
        e.name, fp8 ? from_fp8(bytes.subspan(base + e.offsets[0], end - e.offsets[0]), shape, fp8)
                    : mapped_array(file, base + e.offsets[0], shape, *dtype));
  }
  if (end != data)
    throw Error("{}: the tensors end at byte {}, the file has {}", where, base + end, bytes.size());
  out.metadata = std::move(reader.metadata);
  out.bytes = data;
  return out;
}

namespace {

// The files that an index names, in order, and its weight_map.
std::map<std::string, std::string> read_weight_map(const std::filesystem::path& index) {
  const Json json = read_json(index);
  const std::string where = index.string();
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    throw Error("{}: expected an object with 'weight_map'", where);
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    if (!file.is_string())
      throw Error("{}: weight_map: '{}' must be a file name, found {}", where, tensor,
                  describe(file));
    const auto name = file.get<std::string>();
    if (name.empty() || name == ".." || name.find_first_of("/\\") != std::string::npos ||
        name.find('\0') != std::string::npos)
      throw Error("{}: weight_map: '{}' must be a file of this folder, found {}", where, tensor,
                  describe(file));
    map[tensor] = name;
  }
  return map;
}

void append(Safetensors& all, Safetensors part, const std::filesystem::path& file) {
  for (auto& [name, array] : part.tensors)
    if (!all.tensors.emplace(name, std::move(array)).second)
      throw Error("{}: tensor '{}' is in another shard, too", file.string(), name);
  if (all.bytes == 0) all.metadata = std::move(part.metadata);
  all.bytes += part.bytes;
}

}  // namespace

Safetensors read_safetensors_folder(const std::filesystem::path& folder, const std::string& stem) {
  namespace fs = std::filesystem;
  const std::string whole = stem + ".safetensors";
  if (fs::exists(folder / whole)) return read_safetensors(folder / whole);

  Safetensors all;
  if (const fs::path index = folder / (whole + ".index.json"); fs::exists(index)) {
    const auto map = read_weight_map(index);
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : map) shards.insert(shard);
    for (const std::string& shard : shards) {
      if (!fs::exists(folder / shard))
        throw Error("{}: the shard '{}' is missing; download the model again", index.string(),
                    shard);
      Safetensors part = read_safetensors(folder / shard);
      for (const auto& [tensor, file] : map)
        if (file == shard && !part.tensors.count(tensor))
          throw Error("{}: tensor '{}' is not in '{}'", index.string(), tensor, shard);
      append(all, std::move(part), folder / shard);
    }
    return all;
  }

  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (const std::string name = entry.path().filename().string();
        name.starts_with(stem) && name.ends_with(".safetensors"))
      files.push_back(entry.path());
  if (files.empty())
    throw Error("{}: no {}, {}.index.json or {}*.safetensors", folder.string(), whole, whole, stem);
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) append(all, read_safetensors(file), file);
  return all;
}

}  // namespace mlxcpp
