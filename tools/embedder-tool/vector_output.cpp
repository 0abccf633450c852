#include "embedder-tool/vector_output.h"

#include <bit>

#include "core/atomic_file.h"
#include "support/program.h"

namespace mlxcpp::tools {
namespace {

// {"text": "...", "embedding": [...]}, one a line; the objects of JSONL input keep what they had.
class JsonLines final : public VectorOutput {
 public:
  explicit JsonLines(const std::string& file) {
    if (!file.empty()) file_ = std::make_unique<AtomicFile>(file);
  }
  void add(const std::vector<InputText>& texts, const mlx::core::array& vectors) override {
    const auto width = static_cast<size_t>(vectors.shape(1));
    std::string lines;
    for (size_t i = 0; i < texts.size(); ++i) {
      Json object = texts[i].object;
      if (object.is_null()) object = {{"text", texts[i].text}};
      object.erase("embedding");
      std::string line = object.dump(-1, ' ', false, Json::error_handler_t::replace);
      line.pop_back();  // the brace
      lines += fmt::format("{}{}\"embedding\":{}}}\n", line, object.empty() ? "" : ",",
                           json_list(vectors.data<float>() + i * width, width));
    }
    if (file_)
      file_->write(lines);
    else
      print(lines);
  }
  void finish() override {
    if (file_) file_->commit();
  }

 private:
  std::unique_ptr<AtomicFile> file_;
};

// A header of fixed size, whose shape is known at the end, then the numbers.
class Numbers : public VectorOutput {
 public:
  explicit Numbers(const std::string& file) : file_(file) {
    file_.write(std::string(kHeader, ' '));
  }
  void add(const std::vector<InputText>&, const mlx::core::array& vectors) override {
    static_assert(std::endian::native == std::endian::little);
    width_ = vectors.shape(1);
    rows_ += vectors.shape(0);
    file_.write(std::as_bytes(std::span(vectors.data<float>(), vectors.size())));
  }
  void finish() override {
    std::string text = header(rows_, width_);
    if (text.size() > kHeader) throw Error("a header of {} bytes", text.size());
    file_.write_at(0, text);
    file_.commit();
  }

 protected:
  static constexpr size_t kHeader = 256;
  virtual std::string header(int64_t rows, int64_t width) const = 0;

 private:
  AtomicFile file_;
  int64_t rows_ = 0, width_ = 0;
};

// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0
class Npy final : public Numbers {
 public:
  using Numbers::Numbers;

 private:
  std::string header(int64_t rows, int64_t width) const override {
    constexpr size_t kBefore = 10;  // magic, version, length
    std::string text =
        fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, width);
    text.resize(kHeader - kBefore - 1, ' ');
    text += '\n';
    std::string out = "\x93NUMPY\x01";
    out += '\0';
    out += static_cast<char>(text.size() & 0xFF);
    out += static_cast<char>(text.size() >> 8);
    return out + text;
  }
};

// The JSON header may be padded with blanks.
class SafetensorsFile final : public Numbers {
 public:
  using Numbers::Numbers;

 private:
  std::string header(int64_t rows, int64_t width) const override {
    constexpr size_t kBefore = 8;  // length
    std::string text =
        fmt::format(R"({{"embeddings":{{"dtype":"F32","shape":[{},{}],"data_offsets":[0,{}]}}}})",
                    rows, width, rows * width * 4);
    text.resize(kHeader - kBefore, ' ');
    std::string out(kBefore, '\0');
    for (size_t i = 0; i < kBefore; ++i) out[i] = static_cast<char>(text.size() >> (8 * i) & 0xFF);
    return out + text;
  }
};

}  // namespace

std::string json_list(const float* numbers, size_t count) {
  std::string out = "[";
  for (size_t i = 0; i < count; ++i) out += fmt::format("{}{}", i ? "," : "", numbers[i]);
  return out + "]";
}

std::unique_ptr<VectorOutput> vector_output(const std::string& file, std::string format) {
  if (format.empty())
    format = file.ends_with(".npy")           ? "npy"
             : file.ends_with(".safetensors") ? "safetensors"
                                              : "jsonl";
  if (format == "jsonl") return std::make_unique<JsonLines>(file);
  if (file.empty()) throw Error("--format {}: needs a file; name it with --output", format);
  if (format == "npy") return std::make_unique<Npy>(file);
  if (format == "safetensors") return std::make_unique<SafetensorsFile>(file);
  throw Error("--format: expected jsonl, npy or safetensors, found '{}'", format);
}

}  // namespace mlxcpp::tools
