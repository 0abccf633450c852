#include "support/child.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

namespace mlxcpp::bench {
namespace {

constexpr Child::Seconds kToLeave{5};  // for a child whose input was closed

// Neither end may live on in a child that is started later: it would keep this one's input open.
std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) throw Error("cannot make a pipe: {}", std::strerror(errno));
  for (const int fd : ends) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return ends;
}

// For the child of a fork.
[[noreturn]] void execute(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const auto& a : command) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

int exit_status(const std::vector<std::string>& command) {
  const pid_t pid = ::fork();
  if (pid < 0) throw Error("cannot fork: {}", std::strerror(errno));
  if (pid == 0) execute(command);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

Child::Child(std::string name, const std::vector<std::string>& command, Seconds limit)
    : name_(std::move(name)), limit_(limit) {
  start(command);
  try {
    read_line("the start");
  } catch (...) {
    end();
    throw;
  }
  to_ready_ = age();
}

Child::~Child() { end(); }

Child::Seconds Child::age() const { return std::chrono::steady_clock::now() - started_; }

void Child::start(const std::vector<std::string>& command) {
  std::signal(SIGPIPE, SIG_IGN);
  const auto in = make_pipe(), out = make_pipe();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(in[0], STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    execute(command);
  }
  const int error = errno;
  ::close(in[0]);
  ::close(out[1]);
  to_ = in[1];
  from_ = out[0];
  if (pid_ < 0) {
    end();
    throw Error("{}: cannot fork: {}", name_, std::strerror(error));
  }
}

void Child::end() {
  for (int* fd : {&to_, &from_})
    if (*fd >= 0) ::close(std::exchange(*fd, -1));
  if (pid_ < 0) return;
  const auto asked = std::chrono::steady_clock::now();
  while (::waitpid(pid_, nullptr, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() - asked > kToLeave) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  pid_ = -1;
}

Json Child::ask(const std::string& request) {
  const std::string line = request + "\n";
  if (::write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    throw Error("{}: has ended before '{}'", name_, request);
  return read_line("'" + request + "'");
}

Json Child::read_line(const std::string& what) {
  const auto until = std::chrono::steady_clock::now() + limit_;
  size_t end = 0;
  while ((end = buffer_.find('\n')) == std::string::npos) {
    const Seconds left = until - std::chrono::steady_clock::now();
    pollfd ready{.fd = from_, .events = POLLIN, .revents = 0};
    const int polled =
        ::poll(&ready, 1, static_cast<int>(std::clamp(left.count() * 1000, 0.0, 1e6)));
    if (polled == 0 && left.count() <= 0) {
      ::kill(pid_, SIGKILL);
      throw Error("{}: no answer to {} within {} s (--limit); ended", name_, what, limit_.count());
    }
    if (polled <= 0) continue;  // a signal, or not yet all of the limit
    char piece[4096];
    const ssize_t n = ::read(from_, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw Error("{}: ended without an answer to {}", name_, what);
    buffer_.append(piece, static_cast<size_t>(n));
  }
  const Json answer = parse_json(std::string_view(buffer_).substr(0, end), name_);
  buffer_.erase(0, end + 1);
  if (answer.contains("error")) throw Error("{}: {}", name_, answer["error"].get<std::string>());
  return answer;
}

}  // namespace mlxcpp::bench
