#include "support/child.h"

#include <cerrno>
#include <csignal>
#include <cstring>

#include <sys/wait.h>
#include <unistd.h>

namespace mlxcpp::bench {
namespace {

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

Child::Child(const std::vector<std::string>& command) : name_(command.at(0)) {
  int in[2], out[2];
  if (::pipe(in) != 0 || ::pipe(out) != 0)
    throw Error("cannot make a pipe: {}", std::strerror(errno));
  std::signal(SIGPIPE, SIG_IGN);
  const auto started = std::chrono::steady_clock::now();
  pid_ = ::fork();
  if (pid_ < 0) throw Error("cannot fork: {}", std::strerror(errno));
  if (pid_ == 0) {
    ::dup2(in[0], STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    for (const int fd : {in[0], in[1], out[0], out[1]}) ::close(fd);
    execute(command);
  }
  ::close(in[0]);
  ::close(out[1]);
  to_ = in[1];
  from_ = out[0];
  ready_ = read_line();
  seconds_to_ready_ =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

Child::~Child() {
  ::close(to_);
  ::close(from_);
  ::waitpid(pid_, nullptr, 0);
}

Json Child::ask(const std::string& request) {
  const std::string line = request + "\n";
  if (::write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    throw Error("{}: has ended", name_);
  return read_line();
}

Json Child::read_line() {
  size_t end = 0;
  while ((end = buffer_.find('\n')) == std::string::npos) {
    char piece[4096];
    const ssize_t n = ::read(from_, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw Error("{}: ended without an answer", name_);
    buffer_.append(piece, static_cast<size_t>(n));
  }
  const Json answer = parse_json(std::string_view(buffer_).substr(0, end), name_);
  buffer_.erase(0, end + 1);
  if (answer.contains("error")) throw Error("{}: {}", name_, answer["error"].get<std::string>());
  return answer;
}

}  // namespace mlxcpp::bench
