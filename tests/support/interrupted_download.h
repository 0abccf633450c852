#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/paths.h"
#include "tests/support/shell.h"

namespace mlxcpp::test {

// What becomes of a tool that Ctrl-C reaches while it waits for a hub that takes calls and never
// answers.
inline Outcome interrupted_download(const std::string& name,
                                    const std::vector<std::string>& arguments,
                                    const TempFolder& scratch) {
  const int hub = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(hub, generic, size), 0);
  EXPECT_EQ(::listen(hub, 1), 0);
  EXPECT_EQ(::getsockname(hub, generic, &size), 0);
  const std::string endpoint = fmt::format("http://127.0.0.1:{}", ntohs(address.sin_port));
  const std::string error = (scratch / "error").string(), program = tool(name);
  std::vector<char*> line{const_cast<char*>(program.c_str())};
  for (const auto& argument : arguments) line.push_back(const_cast<char*>(argument.c_str()));
  line.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::unsetenv("HF_HUB_OFFLINE");
    ::setenv("HF_ENDPOINT", endpoint.c_str(), 1);
    ::setenv("HF_HOME", scratch.path().c_str(), 1);
    ::dup2(::open(error.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
    ::execv(program.c_str(), line.data());
    ::_exit(127);
  }
  pollfd called{.fd = hub, .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&called, 1, 120'000), 1) << "the hub was not called";
  ::kill(pid, SIGINT);
  int status = 0;
  ::waitpid(pid, &status, 0);
  ::close(hub);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, "", read_all(error)};
}

}  // namespace mlxcpp::test
