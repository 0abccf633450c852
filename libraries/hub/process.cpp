#include "hub/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "core/error.h"
#include "hub/environment.h"
#include "hub/file.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): macOS's headers have none

namespace mlxcpp::hub {
namespace {

constexpr size_t kKeptOutput = 64 << 10;
constexpr int kTickMilliseconds = 100;
constexpr int kCannotRun = 127;

struct Pipe {
  int read_end = -1, write_end = -1;
  Pipe() {
    int ends[2];
    if (::pipe(ends) != 0)
      throw Error("no pipe to be had: {}", std::generic_category().message(errno));
    read_end = ends[0], write_end = ends[1];
    ::fcntl(read_end, F_SETFD, FD_CLOEXEC);
    ::fcntl(write_end, F_SETFD, FD_CLOEXEC);
  }
  ~Pipe() {
    ::close(read_end);
    if (write_end >= 0) ::close(write_end);
  }
};

// Kills and reaps, unless it was reaped.
struct Child {
  pid_t id;
  ~Child() {
    if (id <= 0) return;
    ::kill(id, SIGKILL);
    wait();
  }
  int wait() {
    int status = 0;
    while (::waitpid(id, &status, 0) < 0 && errno == EINTR) {
    }
    id = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
};

// Where execve finds the program: after fork only calls that need no lock are allowed.
std::string find_program(const std::string& name) {
  if (name.find('/') != name.npos) return name;
  const std::string path = environment("PATH").value_or("/usr/local/bin:/usr/bin:/bin");
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string file = path.substr(begin, end - begin) + "/" + name;
    if (end > begin && ::access(file.c_str(), X_OK) == 0) return file;
    begin = end + 1;
  }
  throw Error("'{}' is not installed: it is nowhere on PATH", name);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::map<std::string, std::string>& variables,
                          const std::stop_token& stop, const std::function<void()>& tick) {
  const std::string program = find_program(arguments.at(0));
  std::vector<std::string> argument_copies = arguments, settings;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    if (!variables.contains(text.substr(0, text.find('=')))) settings.push_back(text);
  }
  for (const auto& [name, value] : variables) settings.push_back(fmt::format("{}={}", name, value));
  const std::vector<char*> argv = pointers(argument_copies), envp = pointers(settings);

  Pipe pipe;
  Child child{::fork()};
  if (child.id < 0)
    throw Error("{}: cannot be started: {}", program, std::generic_category().message(errno));
  if (child.id == 0) {
#ifdef __linux__
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    const int nothing = ::open("/dev/null", O_RDONLY);
    if (nothing >= 0 && ::dup2(nothing, STDIN_FILENO) >= 0 &&
        ::dup2(pipe.write_end, STDOUT_FILENO) >= 0 && ::dup2(pipe.write_end, STDERR_FILENO) >= 0)
      ::execve(program.c_str(), argv.data(), envp.data());
    ::_exit(kCannotRun);
  }
  ::close(std::exchange(pipe.write_end, -1));

  ProcessResult result;
  for (;;) {
    throw_if_stopped(stop, program);
    pollfd wait{pipe.read_end, POLLIN, 0};
    const int ready = ::poll(&wait, 1, kTickMilliseconds);
    if (tick) tick();
    if (ready <= 0) continue;
    char buffer[4096];
    const ssize_t n = ::read(pipe.read_end, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    result.output.append(buffer, static_cast<size_t>(n));
    if (result.output.size() > 2 * kKeptOutput)
      result.output.erase(0, result.output.size() - kKeptOutput);
  }
  result.exit_code = child.wait();
  // Ctrl-C reaches the child too: its end is then no fault of its own.
  throw_if_stopped(stop, program);
  if (result.exit_code == kCannotRun && result.output.empty())
    throw Error("{}: cannot be run", program);
  return result;
}

}  // namespace mlxcpp::hub
