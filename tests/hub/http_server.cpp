#include "hub/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <stdexcept>
#include <string_view>

namespace mlxcpp::test {
namespace {

void send_all(int connection, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(connection, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

Request parse(const std::string& text) {
  Request request;
  const size_t line_end = text.find("\r\n");
  const std::string first = text.substr(0, line_end);
  const size_t space = first.find(' '), second = first.rfind(' ');
  request.method = first.substr(0, space);
  request.target = first.substr(space + 1, second - space - 1);
  for (size_t at = line_end + 2; at < text.size();) {
    const size_t end = text.find("\r\n", at);
    const std::string line = text.substr(at, end - at);
    at = end + 2;
    const size_t colon = line.find(": ");
    if (colon == line.npos) continue;
    std::string name = line.substr(0, colon);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    request.headers[name] = line.substr(colon + 2);
  }
  return request;
}

}  // namespace

HttpServer::HttpServer(Handler handler) : handler_(std::move(handler)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (listener_ < 0 || ::pipe(wake_) != 0 ||
      ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listener_, 64) != 0 ||
      ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("the test server cannot listen");
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_loop(); });
}

HttpServer::~HttpServer() {
  ::close(wake_[1]);
  acceptor_.join();
  for (std::thread& connection : connections_) connection.join();
  ::close(listener_);
  ::close(wake_[0]);
}

std::string HttpServer::url(const std::string& host) const {
  // Who is told the address may be another process: the lock, which serve() takes too, makes what
  // was written before visible to the handler.
  const std::lock_guard lock(mutex_);
  return "http://" + host + ":" + std::to_string(port_);
}

std::vector<Request> HttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void HttpServer::accept_loop() {
  for (;;) {
    pollfd waits[] = {{listener_, POLLIN, 0}, {wake_[0], POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0) continue;
    if (waits[1].revents) return;
    const int connection = ::accept(listener_, nullptr, nullptr);
    if (connection >= 0) connections_.emplace_back([this, connection] { serve(connection); });
  }
}

void HttpServer::serve(int connection) {
  std::string text;
  while (text.find("\r\n\r\n") == text.npos && text.size() < (64 << 10)) {
    pollfd waits[] = {{connection, POLLIN, 0}, {wake_[0], POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0) continue;
    char buffer[4096];
    const ssize_t n = waits[1].revents ? 0 : ::recv(connection, buffer, sizeof buffer, 0);
    if (n <= 0) {
      ::close(connection);
      return;
    }
    text.append(buffer, static_cast<size_t>(n));
  }
  const Request request = parse(text);
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
  }
  Reply reply = handler_(request);
  std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " Said\r\nConnection: close\r\n";
  if (!reply.headers.contains("Content-Length"))
    head += "Content-Length: " + std::to_string(reply.length.value_or(reply.body.size())) + "\r\n";
  for (const auto& [name, value] : reply.headers)
    if (!value.empty()) head += fmt::format("{}: {}\r\n", name, value);
  send_all(connection, head + "\r\n");
  if (request.method != "HEAD") {
    const size_t end = std::min({reply.body.size(), reply.cut_after.value_or(reply.body.size()),
                                 reply.stall_after.value_or(reply.body.size())});
    send_all(connection, std::string_view(reply.body).substr(0, end));
    if (reply.stall_after) {
      pollfd waits[] = {{connection, POLLIN, 0}, {wake_[0], POLLIN, 0}};
      while (::poll(waits, 2, -1) < 0) {
      }
    }
  }
  ::shutdown(connection, SHUT_RDWR);
  ::close(connection);
}

}  // namespace mlxcpp::test
