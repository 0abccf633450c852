#include "lm_common/tools/example_tools.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <ctime>
#include <numbers>
#include <utility>

#include <fmt/ranges.h>

#include "core/error.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxNames = 200;

// expression = term {+- term}; term = factor {*/% factor}; factor = [+-] factor | power;
// power = atom [^ factor]; atom = number | name | name ( expression ) | ( expression )
class Calculator {
 public:
  explicit Calculator(std::string_view text) : text_(text) {}

  double all() {
    const double value = expression();
    space();
    if (at_ < text_.size()) throw bad("an operator");
    return value;
  }

 private:
  Error bad(const char* expected) const {
    return Error("'{}': expected {} at position {}", text_, expected, at_ + 1);
  }
  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n'))
      ++at_;
  }
  bool take(char c) {
    space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  double expression() {
    double value = term();
    for (;;) {
      if (take('+'))
        value += term();
      else if (take('-'))
        value -= term();
      else
        return value;
    }
  }
  double term() {
    double value = factor();
    for (;;) {
      if (take('*')) {
        if (take('*'))  // Python's power
          value = std::pow(value, factor());
        else
          value *= factor();
      } else if (take('/')) {
        value /= factor();
      } else if (take('%')) {
        value = std::fmod(value, factor());
      } else {
        return value;
      }
    }
  }
  double factor() {
    if (++depth_ > 100) throw Error("the expression is nested too deep");
    double value = 0;
    if (take('-'))
      value = -factor();
    else if (take('+'))
      value = factor();
    else
      value = power();
    --depth_;
    return value;
  }
  double power() {
    const double base = atom();
    return take('^') ? std::pow(base, factor()) : base;
  }
  double atom() {
    if (take('(')) return closed();
    const size_t begin = at_;
    while (at_ < text_.size() && ((text_[at_] >= 'a' && text_[at_] <= 'z') ||
                                  (at_ > begin && text_[at_] >= '0' && text_[at_] <= '9')))
      ++at_;
    if (at_ > begin) return named(text_.substr(begin, at_ - begin));
    double value = 0;
    const auto r = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (r.ec != std::errc()) throw bad("a number");
    at_ = static_cast<size_t>(r.ptr - text_.data());
    return value;
  }
  double closed() {
    const double value = expression();
    if (!take(')')) throw bad("')'");
    return value;
  }
  double named(std::string_view name) {
    if (name == "pi") return std::numbers::pi;
    if (name == "e") return std::numbers::e;
    using Function = double (*)(double);
    static constexpr std::array<std::pair<std::string_view, Function>, 11> kFunctions = {{
        {"sqrt", [](double x) { return std::sqrt(x); }},
        {"ln", [](double x) { return std::log(x); }},
        {"log10", [](double x) { return std::log10(x); }},
        {"exp", [](double x) { return std::exp(x); }},
        {"sin", [](double x) { return std::sin(x); }},
        {"cos", [](double x) { return std::cos(x); }},
        {"tan", [](double x) { return std::tan(x); }},
        {"abs", [](double x) { return std::abs(x); }},
        {"floor", [](double x) { return std::floor(x); }},
        {"ceil", [](double x) { return std::ceil(x); }},
        {"round", [](double x) { return std::round(x); }},
    }};
    for (const auto& [known, function] : kFunctions)
      if (name == known) {
        if (!take('(')) throw bad("'('");
        return function(closed());
      }
    throw Error("'{}': there is no function or constant '{}'", text_, name);
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

std::string listing(const fs::path& root, const std::string& path) {
  std::error_code ec;
  const fs::path base = fs::weakly_canonical(root, ec);
  const fs::path folder = fs::weakly_canonical(base / path, ec);
  // Links are resolved before it is judged where the path leads.
  const bool inside =
      std::mismatch(base.begin(), base.end(), folder.begin(), folder.end()).first == base.end();
  if (ec || !inside) throw Error("'{}' lies outside of the folder that may be listed", path);
  if (!fs::is_directory(folder, ec)) throw Error("'{}' is no folder", path);
  std::vector<std::string> names;
  for (auto it = fs::directory_iterator(folder, ec); !ec && it != fs::directory_iterator();
       it.increment(ec)) {
    std::error_code unreadable;
    names.push_back(it->path().filename().string() + (it->is_directory(unreadable) ? "/" : ""));
  }
  if (ec) throw Error("'{}' cannot be read: {}", path, ec.message());
  if (names.empty()) return "(empty)";
  std::sort(names.begin(), names.end());
  const size_t more = names.size() - std::min(names.size(), kMaxNames);
  names.resize(names.size() - more);
  std::string out = fmt::format("{}", fmt::join(names, "\n"));
  if (more > 0) out += fmt::format("\n({} more)", more);
  return out;
}

}  // namespace

double calculate(std::string_view expression) {
  const double value = Calculator(expression).all();
  if (!std::isfinite(value)) throw Error("'{}' has no finite value", expression);
  return value;
}

Tool clock_tool(std::function<std::chrono::system_clock::time_point()> now) {
  return {{.name = "current_time", .description = "Tells the current date and time."},
          [now = std::move(now)](const OrderedJson&) {
            const std::time_t time = std::chrono::system_clock::to_time_t(now());
            std::tm local{};
            localtime_r(&time, &local);
            std::array<char, 64> text{};
            const size_t length =
                std::strftime(text.data(), text.size(), "%A, %Y-%m-%d %H:%M:%S %z", &local);
            return std::string(text.data(), length);
          }};
}

Tool calculator_tool() {
  return {{.name = "calculate",
           .description = "Evaluates an arithmetic expression.",
           .parameters = {{.name = "expression",
                           .description = "for example: (2 + 3) * sqrt(16) / 7"}}},
          [](const OrderedJson& arguments) {
            return fmt::format("{:.15g}", calculate(arguments.at("expression").get<std::string>()));
          }};
}

Tool directory_tool(fs::path root) {
  return {{.name = "list_directory",
           .description = "Lists the files and folders in a folder.",
           .parameters = {{.name = "path",
                           .description = "relative to the current folder; \".\" is that folder",
                           .required = false}}},
          [root = std::move(root)](const OrderedJson& arguments) {
            const auto path = arguments.find("path");
            return listing(root, path != arguments.end() && path->is_string()
                                     ? path->get<std::string>()
                                     : ".");
          }};
}

std::vector<Tool> example_tools() {
  return {clock_tool(), calculator_tool(), directory_tool(fs::current_path())};
}

}  // namespace mlxcpp
