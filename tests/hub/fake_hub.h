#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/json.h"
#include "hub/http_server.h"
#include "hub/hub_client.h"

namespace mlxcpp::test {

// A hub with one model, org/model, that behaves as the real one does: model info, resolve
// addresses, large files behind a redirect to a "storage" that knows ranges. Tests change its
// behaviour by `intercept`, which sees each request first.
class FakeHub {
 public:
  FakeHub();

  void add(const std::string& path, std::string content, bool large);
  std::string url() const { return server_->url(); }
  std::vector<Request> requests() const { return server_->requests(); }
  // How many requests of this method have a target that holds `text`.
  int count(const std::string& method, const std::string& text) const;
  std::string etag(const std::string& path) const { return files_.at(path).etag; }

  // The answer to a GET of content, with ranges.
  static Reply content(const Request& request, const std::string& body, const std::string& etag);

  std::string commit = std::string(40, 'c');
  bool describe = true;                    // sizes and hashes in the model info
  std::string storage_host = "localhost";  // where large files are said to lie
  std::function<std::optional<Reply>(const Request&)> intercept;
  std::function<void(Json&)> change_info;

 private:
  struct Entry {
    std::string content, etag;
    bool large;
  };
  Reply answer(const Request& request);

  std::map<std::string, Entry> files_;
  std::unique_ptr<HttpServer> server_;  // last: its threads use the rest
};

// A folder of its own for one test, removed afterwards.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  std::filesystem::path path;
};

// Sets environment variables (nullopt: unsets) and restores them.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::optional<std::string>>& variables);
  Environment(const char* name, const std::string& value)
      : Environment(std::map<std::string, std::optional<std::string>>{{name, value}}) {}
  ~Environment();

 private:
  std::map<std::string, std::optional<std::string>> before_;
};

std::string random_bytes(size_t size, uint64_t seed);
std::string read_file(const std::filesystem::path& file);
void write_file(const std::filesystem::path& file, std::string_view text);
// The text of the Error that f() throws; a failure of the test when it throws none.
std::string error_of(const std::function<void()>& f);

// This test program again, running the test `name` with these variables: a second
// process to kill, or to work against. Returns its id.
int start_child(const std::string& name, const std::map<std::string, std::string>& variables);
int wait_for_child(int id);  // its exit code; 128 + signal

}  // namespace mlxcpp::test
