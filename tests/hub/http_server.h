#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace mlxcpp::test {

struct Request {
  std::string method, target;                  // target: path and query
  std::map<std::string, std::string> headers;  // names in lower case
  std::string header(const std::string& name) const {
    const auto it = headers.find(name);
    return it == headers.end() ? "" : it->second;
  }
};

struct Reply {
  int status = 200;
  std::map<std::string, std::string> headers = {};  // an empty Content-Length: none is sent
  std::string body = {};
  std::optional<size_t> cut_after = {};    // close the connection after so many bytes of the body
  std::optional<size_t> stall_after = {};  // send so many, then nothing until the server ends
  std::optional<size_t> length = {};       // a Content-Length that is not the body's
};

// A small HTTP server on a free port of the loopback, with a thread for each connection and one
// request on each. The handler runs on those threads.
class HttpServer {
 public:
  using Handler = std::function<Reply(const Request&)>;
  explicit HttpServer(Handler handler);
  ~HttpServer();

  std::string url(const std::string& host = "127.0.0.1") const;
  std::vector<Request> requests() const;  // all so far, in order of arrival

 private:
  void accept_loop();
  void serve(int connection);

  Handler handler_;
  int listener_ = -1, port_ = 0;
  int wake_[2] = {-1, -1};  // closed to end everything that waits
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::vector<std::thread> connections_;
  std::thread acceptor_;
};

}  // namespace mlxcpp::test
