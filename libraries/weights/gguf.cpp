#include "weights/gguf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "weights/mapped_array.h"

namespace mlxcpp {
namespace {

using kernels::QuantMode;

constexpr uint32_t kString = 8, kList = 9;
constexpr int kMostNesting = 4;  // lists in lists; none is known to have any
constexpr size_t kMostKeyBytes = 65535;
constexpr std::array<std::string_view, 13> kValueTypes = {
    "uint8",   "int8", "uint16", "int16",  "uint32", "int32",  "float32",
    "boolean", "text", "list",   "uint64", "int64",  "float64"};
constexpr std::array<size_t, 13> kValueBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// What ggml numbers as tensor types; those that are nothing of this cannot be read here.
struct TensorType {
  uint32_t id;
  std::string_view name;
  std::optional<mx::Dtype> dtype;
  std::optional<QuantMode> mode;
  std::optional<TernaryBlocks> ternary = {};

  bool readable() const { return dtype || mode || ternary; }
  // Weights of a block; 0: plain numbers.
  int block() const {
    return mode ? kernels::quant_type(*mode).group_size : ternary ? kTernaryBlockWeights : 0;
  }
};

// Of whole blocks.
size_t bytes_of_row(const std::optional<QuantMode>& mode,
                    const std::optional<TernaryBlocks>& ternary, int cols) {
  if (mode) return row_bytes(kernels::quant_type(*mode), cols);
  return static_cast<size_t>(cols / kTernaryBlockWeights) * block_bytes(*ternary);
}

const std::array kTensorTypes = {
    TensorType{0, "F32", mx::float32, {}},
    TensorType{1, "F16", mx::float16, {}},
    TensorType{2, "Q4_0", {}, QuantMode::q4_0},
    TensorType{3, "Q4_1", {}, QuantMode::q4_1},
    TensorType{6, "Q5_0", {}, QuantMode::q5_0},
    TensorType{7, "Q5_1", {}, QuantMode::q5_1},
    TensorType{8, "Q8_0", {}, QuantMode::q8_0},
    TensorType{9, "Q8_1", {}, {}},
    TensorType{10, "Q2_K", {}, QuantMode::q2_k},
    TensorType{11, "Q3_K", {}, QuantMode::q3_k},
    TensorType{12, "Q4_K", {}, QuantMode::q4_k},
    TensorType{13, "Q5_K", {}, QuantMode::q5_k},
    TensorType{14, "Q6_K", {}, QuantMode::q6_k},
    TensorType{15, "Q8_K", {}, {}},
    TensorType{16, "IQ2_XXS", {}, {}},
    TensorType{17, "IQ2_XS", {}, {}},
    TensorType{18, "IQ3_XXS", {}, {}},
    TensorType{19, "IQ1_S", {}, {}},
    TensorType{20, "IQ4_NL", {}, QuantMode::iq4_nl},
    TensorType{21, "IQ3_S", {}, {}},
    TensorType{22, "IQ2_S", {}, {}},
    TensorType{23, "IQ4_XS", {}, {}},
    TensorType{24, "I8", mx::int8, {}},
    TensorType{25, "I16", mx::int16, {}},
    TensorType{26, "I32", mx::int32, {}},
    TensorType{27, "I64", mx::int64, {}},
    TensorType{28, "F64", mx::float64, {}},
    TensorType{29, "IQ1_M", {}, {}},
    TensorType{30, "BF16", mx::bfloat16, {}},
    TensorType{34, "TQ1_0", {}, {}, TernaryBlocks::tq1_0},
    TensorType{35, "TQ2_0", {}, {}, TernaryBlocks::tq2_0},
    TensorType{39, "MXFP4", {}, {}},
};

std::string_view value_type_name(uint32_t type) {
  return type < kValueTypes.size() ? kValueTypes[type] : "unknown";
}

// Reads forward through bytes; never past their end.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, std::string where)
      : bytes_(bytes), where_(std::move(where)) {}

  std::span<const std::byte> take(uint64_t n, std::string_view what) {
    if (n > bytes_.size() - at_)
      throw Error("{}: the file is cut off: {} takes {} bytes at {}, the file has {}", where_, what,
                  n, at_, bytes_.size());
    const auto out = bytes_.subspan(at_, n);
    at_ += n;
    return out;
  }
  template <class T>
  T number(std::string_view what) {
    T v;
    std::memcpy(&v, take(sizeof v, what).data(), sizeof v);
    return v;
  }
  std::string_view text(std::string_view what) {
    const auto bytes = take(number<uint64_t>(what), what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  size_t at() const { return at_; }
  std::span<const std::byte> since(size_t begin) const {
    return bytes_.subspan(begin, at_ - begin);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string where_;
  size_t at_ = 0;
};

// Walks over the value of a type without keeping it.
void skip_items(Cursor& c, uint32_t type, uint64_t count, std::string_view key,
                const std::string& where, int depth) {
  if (type >= kValueTypes.size())
    throw Error("{}: '{}' has the unknown value type {}", where, key, type);
  if (type == kString) {
    for (uint64_t i = 0; i < count; ++i) c.text(key);
  } else if (type == kList) {
    if (depth == kMostNesting)
      throw Error("{}: '{}' is nested deeper than {} lists", where, key, kMostNesting);
    for (uint64_t i = 0; i < count; ++i) {
      const auto element = c.number<uint32_t>(key);
      skip_items(c, element, c.number<uint64_t>(key), key, where, depth + 1);
    }
  } else {
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(count, kValueBytes[type], &bytes))
      throw Error("{}: '{}' has {} items, more than the file can hold", where, key, count);
    c.take(bytes, key);
  }
}

// One number of a stored type as T; false if it does not fit.
template <class T, class Stored>
bool convert(const std::byte* at, T& out) {
  Stored v;
  std::memcpy(&v, at, sizeof v);
  if constexpr (std::is_floating_point_v<T>) {
    out = static_cast<T>(v);
    return true;
  } else if constexpr (std::is_floating_point_v<Stored>) {
    return false;  // no integer from a float, even a whole one
  } else {
    out = static_cast<T>(v);  // NOLINT(bugprone-signed-char-misuse): int8 is a number here
    return std::in_range<T>(v);
  }
}

template <class T>
bool decode(uint32_t type, const std::byte* at, T& out) {
  if constexpr (std::is_same_v<T, bool>) {
    if (type != 7) return false;
    out = std::to_integer<int>(*at) != 0;
    return true;
  } else {
    switch (type) {
      case 0:
        return convert<T, uint8_t>(at, out);
      case 1:
        return convert<T, int8_t>(at, out);
      case 2:
        return convert<T, uint16_t>(at, out);
      case 3:
        return convert<T, int16_t>(at, out);
      case 4:
        return convert<T, uint32_t>(at, out);
      case 5:
        return convert<T, int32_t>(at, out);
      case 6:
        return convert<T, float>(at, out);
      case 10:
        return convert<T, uint64_t>(at, out);
      case 11:
        return convert<T, int64_t>(at, out);
      case 12:
        return convert<T, double>(at, out);
      default:
        return false;
    }
  }
}

template <class T>
struct ItemOf {
  using type = void;
};
template <class T>
struct ItemOf<std::vector<T>> {
  using type = T;
};

template <class T>
constexpr std::string_view type_name() {
  if constexpr (std::is_same_v<T, std::string_view>) return "text";
  if constexpr (std::is_same_v<T, bool>) return "a boolean";
  return std::is_floating_point_v<T> ? "a number" : "an integer in range";
}

}  // namespace

// What is known of a file while it is read.
struct GgufFile::Part {
  std::shared_ptr<const MappedFile> file;
  std::string where;
  Cursor cursor;
  uint64_t tensor_count = 0, value_count = 0;
};

mx::array GgufTensor::array() const {
  mx::Shape s(shape.begin(), shape.end());
  if (quantized || ternary) s.back() = static_cast<int>(bytes_of_row(quantized, ternary, s.back()));
  return mapped_array(file, offset, std::move(s), dtype);
}

kernels::QuantizedMatrix GgufTensor::repacked() const {
  if (!ternary) throw Error("{}: tensor '{}' is not ternary", file->path().string(), name);
  return repack(*ternary, file->bytes().subspan(offset, bytes),
                mx::Shape(shape.begin(), shape.end()));
}

std::vector<float> GgufTensor::floats() const {
  if (quantized || ternary || dtype != mx::float32)
    throw Error("{}: tensor '{}' must be F32", file->path().string(), name);
  std::vector<float> out(bytes / sizeof(float));
  std::memcpy(out.data(), file->bytes().data() + offset, bytes);
  return out;
}

GgufFile::GgufFile(const std::vector<std::filesystem::path>& files) {
  if (files.empty()) throw Error("expected a GGUF file, found none");
  read(files.front());
  const int count = get<int>("split.count", 1);
  std::vector<std::filesystem::path> parts = files;
  if (files.size() == 1 && count > 1) {
    // NAME-00001-of-00003.gguf, and the others beside it.
    const std::string name = files[0].filename().string();
    const std::string ending = fmt::format("-{:05}-of-{:05}.gguf", 1, count);
    if (count > 99999 || !name.ends_with(ending))
      throw Error("{}: is one of {} parts; expected the first, named ...{}", where(), count,
                  ending);
    const std::string stem = name.substr(0, name.size() - ending.size());
    for (int i = 2; i <= count; ++i)
      parts.push_back(files[0].parent_path() /
                      fmt::format("{}-{:05}-of-{:05}.gguf", stem, i, count));
  }
  if (parts.size() != static_cast<size_t>(count))
    throw Error("{}: split.count says {} parts, found {}", where(), count, parts.size());
  for (size_t i = 1; i < parts.size(); ++i) read(parts[i]);
  if (const auto expected = find<int64_t>("split.tensors.count");
      expected && *expected != static_cast<int64_t>(tensors_.size()))
    throw Error("{}: split.tensors.count says {} tensors, the {} parts have {}", where(), *expected,
                count, tensors_.size());
}

void GgufFile::read(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  Part part{file, path.string(), Cursor(file->bytes(), path.string())};
  const auto magic = part.cursor.take(4, "the magic");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    throw Error("{}: not a GGUF file: it does not begin with 'GGUF'", part.where);
  const auto version = part.cursor.number<uint32_t>("the version");
  if ((version & 0xffff) == 0 && version != 0)
    throw Error("{}: big-endian GGUF is not supported; convert it with gguf-convert-endian",
                part.where);
  if (version != 2 && version != 3)
    throw Error("{}: GGUF version {} is not supported, only 2 and 3", part.where, version);
  part.tensor_count = part.cursor.number<uint64_t>("the tensor count");
  part.value_count = part.cursor.number<uint64_t>("the metadata count");
  files_.push_back(std::move(file));
  read_metadata(part);
  read_tensors(part);
}

void GgufFile::read_metadata(Part& part) {
  std::map<std::string, Value, std::less<>> values;
  for (uint64_t i = 0; i < part.value_count; ++i) {
    const auto key = part.cursor.text("a metadata key");
    if (key.empty() || key.size() > kMostKeyBytes)
      throw Error("{}: metadata key {} has {} bytes, expected 1 to {}", part.where, i, key.size(),
                  kMostKeyBytes);
    Value v;
    v.type = part.cursor.number<uint32_t>(key);
    if (v.type == kList) {
      v.element = part.cursor.number<uint32_t>(key);
      v.count = part.cursor.number<uint64_t>(key);
    }
    const size_t begin = part.cursor.at();
    skip_items(part.cursor, v.type == kList ? v.element : v.type, v.count, key, part.where, 1);
    v.bytes = part.cursor.since(begin);
    if (!values.emplace(key, v).second)
      throw Error("{}: metadata key '{}' is there twice", part.where, key);
  }
  const int index = static_cast<int>(files_.size()) - 1;
  if (index == 0) {
    values_ = std::move(values);
    if (const int no = get<int>("split.no", 0); no != 0)
      throw Error("{}: is part {} of a split model; expected the first", part.where, no + 1);
    return;
  }
  // Later parts: only their place is of interest.
  std::swap(values, values_);
  const auto no = find<int>("split.no"), count = find<int>("split.count");
  std::swap(values, values_);
  if (no != index || count != find<int>("split.count"))
    throw Error("{}: expected split.no {} of split.count {}, found {} of {}", part.where, index,
                get<int>("split.count", 1), no.value_or(-1), count.value_or(-1));
}

void GgufFile::read_tensors(Part& part) {
  Cursor& c = part.cursor;
  std::vector<GgufTensor> tensors;
  for (uint64_t i = 0; i < part.tensor_count; ++i) {
    GgufTensor t;
    t.name = c.text("a tensor name");
    t.file = part.file;
    const auto dims = c.number<uint32_t>(t.name);
    if (dims > 4)
      throw Error("{}: tensor '{}' has {} dimensions, expected at most 4", part.where, t.name,
                  dims);
    std::vector<uint64_t> shape(dims);
    for (uint64_t& d : shape) d = c.number<uint64_t>(t.name);
    std::reverse(shape.begin(), shape.end());
    for (const uint64_t d : shape) {
      if (d == 0 || d > static_cast<uint64_t>(std::numeric_limits<int>::max()))
        throw Error("{}: tensor '{}': a dimension of {} is out of range", part.where, t.name, d);
      t.shape.push_back(static_cast<int>(d));
    }
    const auto type = c.number<uint32_t>(t.name);
    const auto known = std::find_if(kTensorTypes.begin(), kTensorTypes.end(),
                                    [&](const TensorType& k) { return k.id == type; });
    if (known == kTensorTypes.end() || !known->readable())
      throw Error("{}: tensor '{}' has type {}, which is not supported", part.where, t.name,
                  known == kTensorTypes.end() ? fmt::format("number {}", type) : known->name);
    uint64_t size = 0;
    if (const int block = known->block(); block != 0) {
      t.quantized = known->mode;
      t.ternary = known->ternary;
      if (shape.empty())
        throw Error("{}: tensor '{}': a single number cannot be {}", part.where, t.name,
                    known->name);
      if (t.shape.back() % block != 0)
        throw Error("{}: tensor '{}': rows of {} are no multiple of the {} of a {} block",
                    part.where, t.name, t.shape.back(), block, known->name);
      shape.back() = size = bytes_of_row(t.quantized, t.ternary, t.shape.back());
    } else {
      t.dtype = *known->dtype;
      size = mx::size_of(t.dtype) * (shape.empty() ? 1 : shape.back());
    }
    for (size_t d = 0; d + 1 < shape.size(); ++d)
      if (__builtin_mul_overflow(size, shape[d], &size))
        throw Error("{}: tensor '{}': shape [{}] is too large", part.where, t.name,
                    fmt::join(t.shape, ", "));
    if (!shape.empty() && shape.back() > static_cast<uint64_t>(std::numeric_limits<int>::max()))
      throw Error("{}: tensor '{}': rows of {} bytes are too large", part.where, t.name,
                  shape.back());
    t.bytes = size;
    t.offset = c.number<uint64_t>(t.name);
    tensors.push_back(std::move(t));
  }

  const auto alignment = get<uint64_t>("general.alignment", 32);
  if (alignment == 0 || alignment % 8 != 0 || alignment > (1u << 20))
    throw Error("{}: general.alignment is {}, expected a small multiple of 8", part.where,
                alignment);
  const size_t base = (c.at() + alignment - 1) / alignment * alignment;
  const size_t whole = part.file->size();
  // In the order of their bytes, so that an overlap shows.
  std::sort(tensors.begin(), tensors.end(),
            [](const GgufTensor& a, const GgufTensor& b) { return a.offset < b.offset; });
  uint64_t end = 0;
  for (GgufTensor& t : tensors) {
    if (t.offset % alignment != 0)
      throw Error("{}: tensor '{}' begins at {}, no multiple of the alignment {}", part.where,
                  t.name, t.offset, alignment);
    if (t.offset < end)
      throw Error("{}: tensor '{}' begins at {}, inside the one before, which ends at {}",
                  part.where, t.name, t.offset, end);
    if (__builtin_add_overflow(t.offset, t.bytes, &end) || base > whole || end > whole - base)
      throw Error("{}: the file is cut off: tensor '{}' takes {} bytes at {}, the file has {}",
                  part.where, t.name, t.bytes, t.offset, whole);
    t.offset += base;
    bytes_ += t.bytes;
    const std::string name = t.name;
    if (!tensors_.emplace(name, std::move(t)).second)
      throw Error("{}: tensor '{}' is there twice", part.where, name);
  }
}

const GgufTensor* GgufFile::tensor(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

std::vector<std::string_view> GgufFile::keys() const {
  std::vector<std::string_view> out;
  for (const auto& [key, value] : values_) out.push_back(key);
  return out;
}

bool GgufFile::is_list(std::string_view key) const {
  const Value* v = value(key);
  return v && v->type == kList;
}

const GgufFile::Value* GgufFile::value(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

Error GgufFile::missing(std::string_view key) const {
  return Error("{}: metadata key '{}' is missing", where(), key);
}

Error GgufFile::wrong_type(std::string_view key, const Value& v, std::string_view expected) const {
  return Error("{}: '{}' must be {}, found {}{}", where(), key, expected,
               v.type == kList ? "a list of " : "",
               value_type_name(v.type == kList ? v.element : v.type));
}

template <class T>
std::optional<T> GgufFile::find(std::string_view key) const {
  const Value* v = value(key);
  if (!v) return std::nullopt;
  using Item = typename ItemOf<T>::type;
  if constexpr (std::is_void_v<Item>) {
    if constexpr (std::is_same_v<T, std::string_view>) {
      if (v->type != kString) throw wrong_type(key, *v, "text");
      return Cursor(v->bytes, where()).text(key);
    } else {
      T out{};
      if (v->type >= kList + 4u || v->type == kString || v->type == kList ||
          !decode<T>(v->type, v->bytes.data(), out))
        throw wrong_type(key, *v, type_name<T>());
      return out;
    }
  } else {
    if (v->type != kList) throw wrong_type(key, *v, fmt::format("a list of {}", "values"));
    T out;
    out.reserve(v->count);  // each takes a byte of the file at least
    if constexpr (std::is_same_v<Item, std::string_view>) {
      if (v->element != kString) throw wrong_type(key, *v, "a list of text");
      Cursor c(v->bytes, where());
      for (uint64_t i = 0; i < v->count; ++i) out.push_back(c.text(key));
    } else {
      const size_t step = kValueBytes[v->element];
      for (uint64_t i = 0; i < v->count; ++i) {
        Item item{};
        if (step == 0 || !decode<Item>(v->element, v->bytes.data() + i * step, item))
          throw wrong_type(key, *v, fmt::format("a list, each {}", type_name<Item>()));
        out.push_back(item);
      }
    }
    return out;
  }
}

// NOLINTBEGIN(bugprone-macro-parentheses)
#define MLXCPP_GGUF_FIND(T)                                            \
  template std::optional<T> GgufFile::find<T>(std::string_view) const; \
  template std::optional<std::vector<T>> GgufFile::find<std::vector<T>>(std::string_view) const;
// NOLINTEND(bugprone-macro-parentheses)
MLXCPP_GGUF_FIND(bool)
MLXCPP_GGUF_FIND(int)
MLXCPP_GGUF_FIND(int64_t)
MLXCPP_GGUF_FIND(uint64_t)
MLXCPP_GGUF_FIND(float)
MLXCPP_GGUF_FIND(double)
MLXCPP_GGUF_FIND(std::string_view)
#undef MLXCPP_GGUF_FIND

}  // namespace mlxcpp
