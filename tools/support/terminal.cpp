#include "support/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "hub/file.h"

namespace mlxcpp::tools {
namespace {

constexpr const char* kGreen = "\x1b[32m";
constexpr const char* kPlain = "\x1b[0m";
constexpr const char* kEraseLine = "\r\x1b[K";
constexpr int kMinimalBar = 10, kMaximalBar = 40;
constexpr uint64_t kFirstStep = 16 << 20;  // bytes between plain lines, where the total is unknown

bool is_set(const char* name) {
  const char* text = std::getenv(name);
  return text && *text;
}

double share_of(const Progress& p) {
  return std::min(1.0, static_cast<double>(p.done) / static_cast<double>(p.total));
}

std::string clock(double seconds) {
  const auto total = static_cast<long>(std::min(std::ceil(seconds), 359999.0));
  if (total >= 3600)
    return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

// A name that is too long keeps its end, where the number of a shard is. Bytes of a character
// beyond ASCII stay together.
std::string shortened(const std::string& name, size_t width) {
  if (name.size() <= width) return name;
  if (width < 4) return "";
  size_t begin = name.size() - (width - 3);
  while (begin < name.size() && (static_cast<unsigned char>(name[begin]) & 0xC0) == 0x80) ++begin;
  return "..." + name.substr(begin);
}

std::string bar(double share, int width, bool colour) {
  const int full = static_cast<int>(share * width);
  return fmt::format("{}{}{}{}", colour ? kGreen : "", std::string(full, '#'), colour ? kPlain : "",
                     std::string(width - full, '-'));
}

class ProgressDisplay {
 public:
  ProgressDisplay(std::FILE* stream, const Terminal& terminal)
      : stream_(stream), terminal_(terminal) {}
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;
  ~ProgressDisplay() {
    if (terminal_.interactive && drawn_) put("\n");
  }

  void show(const Progress& progress) {
    if (terminal_.interactive) {
      put(kEraseLine + progress_line(progress, terminal_.width - 1, terminal_.colour));
      drawn_ = !progress.finished;
      if (progress.finished) put("\n");
      return;
    }
    // Plain lines: whenever another tenth is done, or twice as much where the total is unknown.
    const uint64_t step = progress.total
                              ? static_cast<uint64_t>(share_of(progress) * 10)
                              : static_cast<uint64_t>(std::bit_width(progress.done / kFirstStep));
    if (drawn_ && (progress.finished ? progress.done == done_ : step == step_)) return;
    put(progress_line(progress, 0, false) + "\n");
    step_ = step;
    done_ = progress.done;
    drawn_ = true;
  }

 private:
  void put(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stream_);
    std::fflush(stream_);
  }

  std::FILE* stream_;
  Terminal terminal_;
  bool drawn_ = false;
  uint64_t step_ = 0, done_ = 0;  // of the last plain line
};

}  // namespace

Terminal terminal_of(std::FILE* stream) {
  Terminal terminal;
  const char* kind = std::getenv("TERM");
  terminal.interactive = ::isatty(::fileno(stream)) == 1 && !(kind && std::string(kind) == "dumb");
  terminal.colour = terminal.interactive && !is_set("NO_COLOR");
  winsize size{};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    terminal.width = size.ws_col;
  return terminal;
}

std::string progress_line(const Progress& p, int width, bool colour) {
  // From the most to the least useful.
  std::vector<std::string> facts;
  if (p.total) {
    facts.push_back(fmt::format("{:3.0f}%", std::floor(share_of(p) * 100)));
    facts.push_back(hub::human_size(p.done) + " of " + hub::human_size(p.total));
  } else {
    facts.push_back(hub::human_size(p.done));
  }
  if (p.bytes_per_second > 0) {
    facts.push_back(hub::human_size(static_cast<uint64_t>(p.bytes_per_second)) + "/s");
    if (p.total > p.done)
      facts.push_back(clock(static_cast<double>(p.total - p.done) / p.bytes_per_second) + " left");
  }
  std::string tail;
  const size_t room = width > 0 ? static_cast<size_t>(width) : 10000;
  for (const std::string& fact : facts) {
    const std::string next = fmt::format("{}{}{}", tail, tail.empty() ? "" : "  ", fact);
    if (next.size() <= room) tail = next;
  }
  if (width == 0) return p.file + "  " + tail;

  // The name and the bar share what is left.
  const size_t left = room - tail.size();
  const size_t gaps = 4;
  const bool with_bar = p.total && left >= kMinimalBar + gaps;
  const size_t bar_width = with_bar ? std::clamp<size_t>(left / 2, kMinimalBar, kMaximalBar) : 0;
  const size_t taken = with_bar ? bar_width + gaps : 2;
  const std::string name = left > taken ? shortened(p.file, left - taken) : "";
  std::string line = name.empty() ? "" : name + "  ";
  if (with_bar) line += bar(share_of(p), static_cast<int>(bar_width), colour) + "  ";
  return line + tail;
}

std::function<void(const Progress&)> progress_bar(std::FILE* stream) {
  return progress_bar(stream, terminal_of(stream));
}

std::function<void(const Progress&)> progress_bar(std::FILE* stream, const Terminal& terminal) {
  const auto display = std::make_shared<ProgressDisplay>(stream, terminal);
  return [display](const Progress& progress) { display->show(progress); };
}

}  // namespace mlxcpp::tools
