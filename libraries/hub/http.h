#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace mlxcpp::hub {

struct HttpRequest {
  std::string url;
  bool head = false;
  std::vector<std::string> headers;  // "Name: value"
  std::string token;                 // bearer token, sent to the origin of `url` and nowhere else
};

struct HttpResponse {
  int status = 0;                              // 0: no whole answer, `failure` says why
  std::string url;                             // that answered, after redirects
  std::map<std::string, std::string> headers;  // names in lower case
  std::string failure;
  bool transient = false;  // worth another try
  std::optional<std::chrono::seconds> retry_after;

  std::string header(const std::string& lower_case_name) const;  // empty when absent
  bool ok() const { return status >= 200 && status < 300; }
};

// Receives the body of a 2xx answer. Either may throw: the exchange ends and the exception passes.
struct BodySink {
  std::function<void(const HttpResponse&)> begin = [](const HttpResponse&) {};
  std::function<void(std::string_view)> write;
};

// One connection pool on libcurl; for one thread at a time. Speaks http and https only, keeps the
// proxies of the environment, never goes from https to http, and follows at most 10 redirects. An
// answer of the server, good or bad, is returned; only misuse and cancellation throw.
class HttpClient {
 public:
  HttpClient();
  ~HttpClient();

  // A redirect of a HEAD request that carries X-Linked-Etag is returned, not followed: the headers
  // asked for are there, and the storage behind it need not be troubled.
  HttpResponse send(const HttpRequest& request, const BodySink& sink, const std::stop_token& stop);

 private:
  HttpResponse exchange(const HttpRequest& request, const BodySink& sink,
                        const std::stop_token& stop);
  struct Handle;
  std::unique_ptr<Handle> handle_;
};

struct RetryPolicy {
  int attempts = 5;
  std::chrono::milliseconds first{1000}, longest{60000};  // doubled from one to the next
  // Waits, or returns early when asked to stop.
  std::function<void(std::chrono::milliseconds, const std::stop_token&)> wait = wait_for;

  static void wait_for(std::chrono::milliseconds time, const std::stop_token& stop);
  // Before attempt `next` (1, 2, ...) after `response`. False: no more attempts.
  bool pause(int next, const HttpResponse& response, const std::stop_token& stop) const;
};

// As `org/my model` in a path: every byte but letters, digits and -._~ is written %XX.
std::string url_quote(std::string_view text, bool keep_slashes);

}  // namespace mlxcpp::hub
