#include "hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>

#include <fmt/format.h>

#include "core/error.h"
#include "core/log.h"
#include "hub/file.h"

namespace mlxcpp::hub {
namespace {

constexpr int kMaxRedirects = 10;
constexpr size_t kMaxHeaderBytes = 256 << 10;
constexpr size_t kMaxIgnoredBody = 1 << 20;  // of an error or a redirect
constexpr long kReceiveBuffer = 256 << 10;
constexpr long kConnectSeconds = 20, kSilentSeconds = 60;

void start_curl() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) throw Error("libcurl does not start");
  });
}

struct Url {
  explicit Url(const std::string& text) : handle(curl_url(), curl_url_cleanup) {
    if (!handle || curl_url_set(handle.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK)
      throw Error("'{}' is not a URL", text);
  }
  std::string part(CURLUPart which, unsigned flags = 0) const {
    char* text = nullptr;
    if (curl_url_get(handle.get(), which, &text, flags) != CURLUE_OK) return "";
    const std::unique_ptr<char, decltype(&curl_free)> owner(text, curl_free);
    return text;
  }
  std::string scheme() const { return part(CURLUPART_SCHEME); }
  bool same_origin(const Url& other) const {
    return scheme() == other.scheme() && part(CURLUPART_HOST) == other.part(CURLUPART_HOST) &&
           part(CURLUPART_PORT, CURLU_DEFAULT_PORT) ==
               other.part(CURLUPART_PORT, CURLU_DEFAULT_PORT);
  }
  std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> handle;
};

// What the callbacks of one exchange share.
struct Exchange {
  HttpResponse response;
  const BodySink& sink;
  const std::stop_token& stop;
  size_t header_bytes = 0, ignored = 0;
  bool begun = false;
  std::exception_ptr thrown;

  void begin() {
    if (!std::exchange(begun, true)) sink.begin(response);
  }
};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

size_t on_header(char* data, size_t, size_t size, void* user) {
  auto& e = *static_cast<Exchange*>(user);
  std::string_view line(data, size);
  e.header_bytes += size;
  if (e.header_bytes > kMaxHeaderBytes) return 0;
  while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back())))
    line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {  // a new answer, for example after 100 Continue
    e.response.headers.clear();
    const size_t space = line.find(' ');
    e.response.status =
        space == line.npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
  } else if (const size_t colon = line.find(':'); colon != line.npos) {
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t'))
      value.remove_prefix(1);
    e.response.headers[lower(std::string(line.substr(0, colon)))] = value;
  }
  return size;
}

size_t on_body(char* data, size_t, size_t size, void* user) {
  auto& e = *static_cast<Exchange*>(user);
  try {
    if (e.response.ok()) {
      e.begin();
      e.sink.write({data, size});
    } else {
      e.ignored += size;
      if (e.ignored > kMaxIgnoredBody) return 0;
    }
    return size;
  } catch (...) {
    e.thrown = std::current_exception();
    return 0;
  }
}

int on_tick(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Exchange*>(user)->stop.stop_requested() ? 1 : 0;
}

bool is_transient(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

bool is_transient(int status) {
  return status == 408 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

}  // namespace

struct HttpClient::Handle {
  CURL* curl = curl_easy_init();
  ~Handle() { curl_easy_cleanup(curl); }
};

HttpClient::HttpClient() {
  start_curl();
  handle_ = std::make_unique<Handle>();
  if (!handle_->curl) throw Error("libcurl gives no handle");
}

HttpClient::~HttpClient() = default;

std::string HttpResponse::header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? std::string{} : it->second;
}

HttpResponse HttpClient::exchange(const HttpRequest& request, const BodySink& sink,
                                  const std::stop_token& stop) {
  CURL* curl = handle_->curl;
  curl_easy_reset(curl);  // keeps the connections
  Exchange e{{}, sink, stop, 0, 0, false, nullptr};
  char text[CURL_ERROR_SIZE] = "";
  const auto set = [&](auto option, auto value) {
    if (const CURLcode code = curl_easy_setopt(curl, option, value); code != CURLE_OK)
      throw Error("{}: {}", request.url, curl_easy_strerror(code));
  };
  curl_slist* list = nullptr;
  for (const std::string& header : request.headers) list = curl_slist_append(list, header.c_str());
  list = curl_slist_append(list, "Accept-Encoding: identity");
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> owner(list,
                                                                          curl_slist_free_all);
  set(CURLOPT_URL, request.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_HTTPHEADER, list);
  set(CURLOPT_USERAGENT, "mlxcpp/0.1");
  set(CURLOPT_NOBODY, request.head ? 1L : 0L);
  // A wish only: libcurl refuses it on a handle that still has the buffer of a failed transfer.
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, kReceiveBuffer);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, kSilentSeconds);
  set(CURLOPT_ERRORBUFFER, text);
  set(CURLOPT_HEADERFUNCTION, &on_header);
  set(CURLOPT_HEADERDATA, &e);
  set(CURLOPT_WRITEFUNCTION, &on_body);
  set(CURLOPT_WRITEDATA, &e);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &on_tick);
  set(CURLOPT_XFERINFODATA, &e);
  if (!request.token.empty()) {
    set(CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
    set(CURLOPT_XOAUTH2_BEARER, request.token.c_str());
  }
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"})  // as the curl program does
    if (const char* bundle = std::getenv(name); bundle && *bundle) {
      set(CURLOPT_CAINFO, bundle);
      break;
    }

  const CURLcode code = curl_easy_perform(curl);
  if (e.thrown) std::rethrow_exception(e.thrown);
  throw_if_stopped(stop, request.url);
  HttpResponse response = std::move(e.response);
  response.url = request.url;
  const bool body_dropped = code == CURLE_WRITE_ERROR && response.status && !response.ok();
  if (code != CURLE_OK && !body_dropped) {
    response.failure = *text ? text : curl_easy_strerror(code);
    response.status = 0;
    response.transient = is_transient(code);
    return response;
  }
  response.transient = is_transient(response.status);
  curl_off_t seconds = 0;
  if (curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &seconds) == CURLE_OK && seconds > 0)
    response.retry_after = std::chrono::seconds(seconds);
  if (response.ok()) {
    // An empty body has called nobody yet.
    if (!e.begun) sink.begin(response);
  }
  return response;
}

HttpResponse HttpClient::send(const HttpRequest& first, const BodySink& sink,
                              const std::stop_token& stop) {
  HttpRequest request = first;
  const Url origin(first.url);
  std::map<std::string, std::string> hub_headers;  // stand in any answer on the way
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    HttpResponse response = exchange(request, sink, stop);
    log::debug("{} {}: {}{}", request.head ? "HEAD" : "GET", request.url, response.status,
               response.failure);
    for (const char* name : {"x-repo-commit", "x-linked-etag", "x-linked-size"})
      if (const std::string value = response.header(name); !value.empty())
        hub_headers.emplace(name, value);
    for (const auto& [name, value] : hub_headers) response.headers[name] = value;

    const std::string location = response.header("location");
    const bool redirect = response.status >= 300 && response.status < 400 && !location.empty();
    if (!redirect || (request.head && hub_headers.contains("x-linked-etag"))) return response;

    Url next(request.url);
    const bool secure = next.scheme() == "https";
    if (curl_url_set(next.handle.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK)
      throw Error("{}: redirected to '{}', which is not a URL", request.url, location);
    const std::string scheme = next.scheme();
    if (scheme != "https" && (scheme != "http" || secure))
      throw Error("{}: redirected to '{}': only {} is followed from here", request.url, location,
                  secure ? "https" : "http and https");
    request.url = next.part(CURLUPART_URL);
    if (!next.same_origin(origin)) request.token.clear();
  }
  throw Error("{}: redirected more than {} times", first.url, kMaxRedirects);
}

void RetryPolicy::wait_for(std::chrono::milliseconds time, const std::stop_token& stop) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any().wait_for(lock, stop, time, [] { return false; });
}

bool RetryPolicy::pause(int next, const HttpResponse& response, const std::stop_token& stop) const {
  if (!response.transient || next >= attempts) return false;
  std::chrono::milliseconds time = std::min(first * (1 << std::min(next - 1, 16)), longest);
  if (response.retry_after) {
    if (*response.retry_after > longest) return false;
    time = *response.retry_after;
  }
  log::info("{}: {}; trying again in {} ms", response.url,
            response.status ? fmt::format("HTTP {}", response.status) : response.failure,
            time.count());
  wait(time, stop);
  throw_if_stopped(stop, response.url);
  return true;
}

std::string url_quote(std::string_view text, bool keep_slashes) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (byte < 128 && std::isalnum(byte)) ||
                       std::string_view("-._~").find(c) != std::string_view::npos ||
                       (c == '/' && keep_slashes);
    if (plain)
      out.push_back(c);
    else
      out += fmt::format("%{:02X}", byte);
  }
  return out;
}

}  // namespace mlxcpp::hub
