#include "support/program.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/ranges.h>
#include <mlx/mlx.h>

#include "core/error.h"

namespace mlxcpp::tools {
namespace {

// A signal handler may only write to a pipe; a thread at its other end asks the stop source.
struct Interrupts {
  int pipe[2] = {-1, -1};
  std::mutex mutex;
  std::stop_source* target = nullptr;

  Interrupts() {
    if (::pipe(pipe) != 0) throw Error("cannot make a pipe: {}", std::strerror(errno));
    std::thread([this] {
      char c;
      while (::read(pipe[0], &c, 1) == 1) {
        const std::lock_guard lock(mutex);
        if (target) target->request_stop();
      }
    }).detach();
  }
};

Interrupts& interrupts() {
  static auto* const one = new Interrupts;  // never destroyed: its thread may be reading
  return *one;
}

// A closed stream's number would go to the next file that is opened, and what is printed into that
// file. Standard output is held by something that cannot be written, for that is an error.
void hold_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(stream, F_GETFD) < 0 && errno == EBADF)
      ::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

// To stderr; when even that cannot be written, there is nobody to tell.
void complain(const CLI::App& app, const char* what) {
  std::fputs(fmt::format("{}: {}\n", app.get_name(), what).c_str(), stderr);
}

// The command that was given, of a command or of the program.
const CLI::App* innermost(const CLI::App* app) {
  const auto given = app->get_subcommands();
  return given.empty() ? app : innermost(given.front());
}

// In one line what is wrong, what was expected and what was found, where CLI11 leaves that out.
std::string usage_fault(const CLI::App& app, const CLI::ParseError& e) {
  const CLI::App& command = *innermost(&app);
  std::string text = e.what();
  constexpr std::string_view kNoNumber = "Could not convert: ";
  if (text.starts_with(kNoNumber)) {
    const size_t equals = text.find(" = ");
    const std::string option = text.substr(kNoNumber.size(), equals - kNoNumber.size());
    const CLI::Option* known = command.get_option_no_throw(option);
    const std::string type = known ? known->get_type_name() : "";
    return fmt::format("{}: expected {}, found '{}'", option,
                       type.starts_with("FLOAT")  ? "a number"
                       : type.starts_with("UINT") ? "a whole number from 0 on, of 32 bits"
                                                  : "a whole number of 32 bits",
                       equals == text.npos ? "" : text.substr(equals + 3));
  }
  if (const auto commands = command.get_subcommands({});
      !commands.empty() &&
      (dynamic_cast<const CLI::RequiredError*>(&e) || dynamic_cast<const CLI::ExtrasError*>(&e))) {
    std::vector<std::string> names;
    for (const CLI::App* one : commands) names.push_back(one->get_name());
    std::string found;
    for (const std::string& word : command.remaining())
      if (found.empty() || found.starts_with('-')) found = word;
    return fmt::format("expected one of {}{}", fmt::join(names, ", "),
                       found.empty() ? "" : fmt::format(", found '{}'", found));
  }
  constexpr std::string_view kTwice = ": At Most 1 required but received ";
  if (const size_t at = text.find(kTwice); at != text.npos)
    return fmt::format("{}: expected once, found {} times", text.substr(0, at),
                       text.substr(at + kTwice.size()));
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

int signal_pipe = -1;

void on_interrupt(int) {
  const int saved = errno;
  [[maybe_unused]] const auto n = ::write(signal_pipe, "i", 1);
  errno = saved;
}

}  // namespace

InterruptScope::InterruptScope() {
  Interrupts& all = interrupts();
  {
    const std::lock_guard lock(all.mutex);
    all.target = &source_;
  }
  signal_pipe = all.pipe[1];
  std::signal(SIGINT, on_interrupt);
}

InterruptScope::~InterruptScope() {
  std::signal(SIGINT, SIG_DFL);
  const std::lock_guard lock(interrupts().mutex);
  interrupts().target = nullptr;
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw Error("standard output: cannot be written: {}", std::strerror(errno));
}

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  hold_standard_streams();
  std::signal(SIGPIPE, SIG_IGN);
  int rc = 1;
  try {
    app.parse(argc, argv);
    rc = body();
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0) {
      complain(app, (usage_fault(app, e) + " (--help says what there is)").c_str());
      return 2;
    }
    app.exit(e);  // help was asked for
    if (std::cout.flush()) return 0;
    complain(app, "standard output: cannot be written");
    return 1;
  } catch (const std::exception& e) {
    complain(app, e.what());
  }
  mlx::core::clear_streams();  // ends MLX's threads before its globals go
  return rc;
}

}  // namespace mlxcpp::tools
