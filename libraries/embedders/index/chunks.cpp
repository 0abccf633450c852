#include "embedders/index/chunks.h"

#include <algorithm>

namespace mlxcpp::embedders {
namespace {

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

bool is_heading(std::string_view line) {
  const size_t marks = line.find_first_not_of('#');
  return marks != 0 && marks <= 6 && marks != std::string_view::npos && line[marks] == ' ';
}

// Where a line that is too long is cut: at a blank, else between two characters.
size_t cut(std::string_view line, size_t max_bytes) {
  const size_t blank = line.rfind(' ', max_bytes);
  if (blank != std::string_view::npos && blank > max_bytes / 2) return blank + 1;
  size_t end = max_bytes;
  while (end > 1 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) --end;
  return end;
}

// Gathers lines until they are enough for a part.
class Splitter {
 public:
  explicit Splitter(size_t max_bytes) : max_bytes_(max_bytes) {}

  void line(std::string_view line, int number) {
    if (is_heading(line)) end(lines_.size());
    for (; line.size() > max_bytes_; line.remove_prefix(cut(line, max_bytes_))) {
      end(lines_.size());
      add(line.substr(0, cut(line, max_bytes_)), number);
      end(lines_.size());
    }
    // A paragraph that does not fit any more goes into the next part as a whole.
    while (!lines_.empty() && bytes_ + line.size() > max_bytes_)
      end(paragraph_ > 0 ? paragraph_ : lines_.size());
    add(line, number);
    if (is_blank(line)) paragraph_ = lines_.size();
  }

  std::vector<Chunk> finish() {
    end(lines_.size());
    return std::move(chunks_);
  }

 private:
  struct Line {
    std::string_view text;
    int number;
  };

  void add(std::string_view text, int number) {
    lines_.push_back({text, number});
    bytes_ += text.size() + 1;
  }
  // The first n lines become a part, without blank ones at its ends.
  void end(size_t n) {
    size_t begin = 0, stop = n;
    while (begin < stop && is_blank(lines_[begin].text)) ++begin;
    while (stop > begin && is_blank(lines_[stop - 1].text)) --stop;
    if (begin < stop) {
      Chunk chunk{.first_line = lines_[begin].number, .last_line = lines_[stop - 1].number};
      for (size_t i = begin; i < stop; ++i)
        chunk.text.append(i > begin ? "\n" : "").append(lines_[i].text);
      chunks_.push_back(std::move(chunk));
    }
    for (size_t i = 0; i < n; ++i) bytes_ -= lines_[i].text.size() + 1;
    lines_.erase(lines_.begin(), lines_.begin() + static_cast<ptrdiff_t>(n));
    paragraph_ = 0;
  }

  size_t max_bytes_, bytes_ = 0;
  std::vector<Line> lines_;
  size_t paragraph_ = 0;  // lines up to the end of the last paragraph; 0: none has ended
  std::vector<Chunk> chunks_;
};

}  // namespace

std::vector<Chunk> split_text(std::string_view text, size_t max_bytes) {
  Splitter splitter(std::max<size_t>(max_bytes, 8));
  int number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    splitter.line(line, ++number);
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  return splitter.finish();
}

bool is_text(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    const auto at = [&](size_t k) { return static_cast<unsigned char>(bytes[k]); };
    const unsigned char c = at(i);
    if (c == 0) return false;
    if (c < 0x80) {
      ++i;
      continue;
    }
    const int more = c >= 0xF0 && c <= 0xF4 ? 3 : c >= 0xE0 ? 2 : c >= 0xC2 ? 1 : 0;
    if (more == 0 || c > 0xF4 || i + static_cast<size_t>(more) >= bytes.size()) return false;
    uint32_t code = c & (0x3F >> more);
    for (int k = 1; k <= more; ++k) {
      if ((at(i + static_cast<size_t>(k)) & 0xC0) != 0x80) return false;
      code = code << 6 | (at(i + static_cast<size_t>(k)) & 0x3Fu);
    }
    static constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    if (code < kLeast[more] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    i += static_cast<size_t>(more) + 1;
  }
  return true;
}

}  // namespace mlxcpp::embedders
