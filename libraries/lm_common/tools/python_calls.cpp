#include <charconv>
#include <cstdint>

#include "lm_common/tools/calls.h"

namespace mlxcpp::tool_text {
namespace {

constexpr int kMaxDepth = 50;

void append_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

// Calls and literals of Python, from a whole text.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  bool calls(std::vector<ToolCall>& out) {
    const bool list = take('[');
    for (;;) {
      while (take(',') || take(';')) {
      }
      if (list ? take(']') : at_ == text_.size()) break;
      if (!statement(out)) return false;
    }
    space();
    return at_ == text_.size() && !out.empty();
  }
  bool value(OrderedJson& out, int depth = 0) {
    space();
    if (at_ == text_.size() || depth > kMaxDepth) return false;
    const char c = text_[at_];
    if (c == '"' || c == '\'') return string(out);
    if (c == '[' || c == '(') return list(out, depth);
    if (c == '{') return dict(out, depth);
    if (const std::string_view w = word(); !w.empty()) {
      if (w == "True" || w == "true")
        out = true;
      else if (w == "False" || w == "false")
        out = false;
      else if (w == "None" || w == "null")
        out = nullptr;
      else
        return false;
      return true;
    }
    return number(out);
  }
  bool at_end() {
    space();
    return at_ == text_.size();
  }

 private:
  void space() {
    for (;;) {
      at_ = skip_space(text_, at_);
      if (at_ == text_.size() || text_[at_] != '#') return;
      at_ = std::min(text_.find('\n', at_), text_.size());
    }
  }
  bool take(char c) {
    space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  // A name with points in it, or nothing.
  std::string_view word() {
    space();
    const size_t begin = at_;
    const auto letter = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    while (at_ < text_.size() &&
           (letter(text_[at_]) ||
            (at_ > begin && (text_[at_] == '.' || (text_[at_] >= '0' && text_[at_] <= '9')))))
      ++at_;
    return text_.substr(begin, at_ - begin);
  }
  bool statement(std::vector<ToolCall>& out) {
    std::string_view name = word();
    if (name.empty()) return false;
    if (take('=')) name = word();
    const size_t begin = at_;
    if (name == "print" && take('(')) {
      const size_t inside = at_;
      const std::string_view inner = word();
      if (!inner.empty() && take('(')) return call(inner, out) && take(')');
      at_ = inside;
    }
    at_ = begin;
    return !name.empty() && take('(') && call(name, out);
  }
  // After the opening parenthesis.
  bool call(std::string_view name, std::vector<ToolCall>& out) {
    ToolCall c{.name = std::string(name)};
    for (bool first = true; !take(')'); first = false) {
      if (!first && !take(',')) return false;
      if (!first && take(')')) break;
      const std::string key(word());
      if (key.empty() || !take('=') || c.arguments.contains(key)) return false;
      if (!value(c.arguments[key])) return false;
    }
    out.push_back(std::move(c));
    return true;
  }
  bool list(OrderedJson& out, int depth) {
    const char close = text_[at_++] == '[' ? ']' : ')';
    out = OrderedJson::array();
    for (bool first = true; !take(close); first = false) {
      if (!first && !take(',')) return false;
      if (!first && take(close)) break;
      if (!value(out.emplace_back(), depth + 1)) return false;
    }
    return true;
  }
  bool dict(OrderedJson& out, int depth) {
    ++at_;
    out = OrderedJson::object();
    for (bool first = true; !take('}'); first = false) {
      if (!first && !take(',')) return false;
      if (!first && take('}')) break;
      OrderedJson key;
      if (!value(key, depth + 1) || !key.is_string() || !take(':')) return false;
      if (!value(out[key.get<std::string>()], depth + 1)) return false;
    }
    return true;
  }
  bool number(OrderedJson& out) {
    const size_t begin = at_;
    size_t end = text_.find_first_not_of("+-.0123456789eE_", begin);
    if (end == std::string_view::npos) end = text_.size();
    std::string digits;
    for (const char c : text_.substr(begin, end - begin))
      if (c != '_') digits += c;
    if (digits.starts_with('+')) digits.erase(0, 1);
    const char* last = digits.data() + digits.size();
    at_ = end;
    int64_t whole = 0;
    if (const auto r = std::from_chars(digits.data(), last, whole);
        r.ec == std::errc() && r.ptr == last) {
      out = whole;
      return true;
    }
    double real = 0;
    const auto r = std::from_chars(digits.data(), last, real);
    out = real;
    return r.ec == std::errc() && r.ptr == last && !digits.empty();
  }
  // Strings that stand side by side are one.
  bool string(OrderedJson& out) {
    std::string all;
    do {
      if (!one_string(all)) return false;
      space();
    } while (at_ < text_.size() && (text_[at_] == '"' || text_[at_] == '\''));
    out = std::move(all);
    return true;
  }
  bool one_string(std::string& out) {
    const char quote = text_[at_++];
    const std::string triple(2, quote);
    const bool three = text_.substr(at_).starts_with(triple) &&
                       text_.substr(at_ + 2).starts_with(std::string_view(&quote, 1));
    if (three) at_ += 2;
    while (at_ < text_.size()) {
      const char c = text_[at_++];
      if (c == quote) {
        if (!three) return true;
        if (text_.substr(at_).starts_with(triple)) return at_ += 2, true;
      }
      if (c != '\\') {
        out += c;
      } else if (!escape(out)) {
        return false;
      }
    }
    return false;
  }
  bool escape(std::string& out) {
    if (at_ == text_.size()) return false;
    const char c = text_[at_++];
    switch (c) {
      case 'n':
        out += '\n';
        return true;
      case 't':
        out += '\t';
        return true;
      case 'r':
        out += '\r';
        return true;
      case '0':
        out += '\0';
        return true;
      case '\n':
        return true;
      case '\\':
      case '\'':
      case '"':
      case '/':
        out += c;
        return true;
      case 'x':
        return code_point(2, out);
      case 'u':
        return code_point(4, out);
      case 'U':
        return code_point(8, out);
      default:  // as Python leaves what it does not know
        out += '\\';
        out += c;
        return true;
    }
  }
  bool hex(size_t digits, uint32_t& c) {
    const std::string_view part = text_.substr(at_, digits);
    const auto r = std::from_chars(part.data(), part.data() + part.size(), c, 16);
    at_ += part.size();
    return part.size() == digits && r.ec == std::errc() && r.ptr == part.data() + part.size();
  }
  bool code_point(size_t digits, std::string& out) {
    uint32_t c = 0, low = 0;
    if (!hex(digits, c)) return false;
    if (c >= 0xD800 && c < 0xDC00) {  // JSON's two halves
      if (!text_.substr(at_).starts_with("\\u")) return false;
      at_ += 2;
      if (!hex(4, low) || low < 0xDC00 || low > 0xDFFF) return false;
      c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    if (c > 0x10FFFF || (c >= 0xDC00 && c < 0xE000)) return false;
    append_utf8(out, c);
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::optional<std::vector<ToolCall>> python_calls(std::string_view text) {
  std::vector<ToolCall> calls;
  if (!Parser(text).calls(calls)) return std::nullopt;
  return calls;
}

ToolCallMatch python_list(std::string_view text, size_t begin, bool end) {
  const Scan body = bracketed(text, begin, true);
  if (body.found != Found::yes) return {end ? Found::no : body.found};
  auto calls = python_calls(text.substr(begin, body.end - begin));
  if (!calls) return {Found::no};
  return {Found::yes, body.end, std::move(*calls)};
}

std::optional<OrderedJson> python_value(std::string_view text) {
  Parser parser(text);
  OrderedJson value;
  if (!parser.value(value) || !parser.at_end()) return std::nullopt;
  return value;
}

}  // namespace mlxcpp::tool_text
