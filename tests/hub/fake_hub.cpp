#include "hub/fake_hub.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "core/error.h"
#include "hub/digest.h"

namespace fs = std::filesystem;

namespace mlxcpp::test {

FakeHub::FakeHub()
    : server_(std::make_unique<HttpServer>([this](const Request& request) {
        if (intercept)
          if (auto reply = intercept(request)) return *reply;
        return answer(request);
      })) {}

void FakeHub::add(const std::string& path, std::string content, bool large) {
  hub::Digest digest = large ? hub::Digest::sha256() : hub::Digest::git_blob(content.size());
  digest.update(content);
  files_[path] = {std::move(content), digest.hex(), large};
}

int FakeHub::count(const std::string& method, const std::string& text) const {
  int n = 0;
  for (const Request& r : requests())
    n += r.method == method && r.target.find(text) != std::string::npos;
  return n;
}

Reply FakeHub::content(const Request& request, const std::string& body, const std::string& etag) {
  Reply reply{200, {{"ETag", '"' + etag + '"'}, {"Accept-Ranges", "bytes"}}, body};
  const std::string range = request.header("range"), condition = request.header("if-range");
  if (range.empty() || (!condition.empty() && condition != '"' + etag + '"')) return reply;
  const size_t begin = std::stoul(range.substr(std::string("bytes=").size()));
  const std::string total = std::to_string(body.size());
  if (begin >= body.size()) return {416, {{"Content-Range", "bytes */" + total}}, ""};
  reply.status = 206;
  reply.headers["Content-Range"] =
      "bytes " + std::to_string(begin) + "-" + std::to_string(body.size() - 1) + "/" + total;
  reply.body = body.substr(begin);
  return reply;
}

Reply FakeHub::answer(const Request& request) {
  const std::string info = "/api/models/org/model/revision/", resolve = "/org/model/resolve/";
  Reply no_repo{404, {{"X-Error-Code", "RepoNotFound"}}, "{}"};
  if (request.target.starts_with(info)) {
    const std::string revision =
        request.target.substr(info.size(), request.target.find('?') - info.size());
    if (revision != "main" && revision != commit && revision != "refs%2Fpr%2F1")
      return {404, {{"X-Error-Code", "RevisionNotFound"}}, "{}"};
    Json json = {{"id", "org/model"}, {"sha", commit}, {"siblings", Json::array()}};
    for (const auto& [path, file] : files_) {
      Json sibling = {{"rfilename", path}};
      if (describe) {
        sibling["size"] = file.content.size();
        sibling["blobId"] = file.large ? std::string(40, 'b') : file.etag;
        if (file.large)
          sibling["lfs"] = {
              {"sha256", file.etag}, {"size", file.content.size()}, {"pointerSize", 130}};
      }
      json["siblings"].push_back(sibling);
    }
    if (change_info) change_info(json);
    return {200, {{"Content-Type", "application/json"}}, json.dump()};
  }
  if (request.target.starts_with(resolve + commit + "/")) {
    const auto it = files_.find(request.target.substr(resolve.size() + commit.size() + 1));
    if (it == files_.end()) return {404, {{"X-Error-Code", "EntryNotFound"}}, "{}"};
    const Entry& file = it->second;
    if (!file.large) {
      Reply reply = content(request, file.content, file.etag);
      reply.headers["X-Repo-Commit"] = commit;
      return reply;
    }
    return {302,
            {{"X-Repo-Commit", commit},
             {"X-Linked-Etag", '"' + file.etag + '"'},
             {"X-Linked-Size", std::to_string(file.content.size())},
             {"ETag", "\"of-the-pointer\""},
             {"Location", server_->url(storage_host) + "/storage/" + it->first}},
            "moved"};
  }
  if (request.target.starts_with("/storage/")) {
    const Entry& file = files_.at(request.target.substr(std::string("/storage/").size()));
    return content(request, file.content, "the-storage-has-its-own");
  }
  return no_repo;
}

TemporaryFolder::TemporaryFolder() {
  std::string name = (fs::temp_directory_path() / "mlxcpp-hub-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary folder");
  path = name;
}
TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

namespace {

void set_variable(const std::string& name, const std::optional<std::string>& value) {
  if (value)
    ::setenv(name.c_str(), value->c_str(), 1);
  else
    ::unsetenv(name.c_str());
}

}  // namespace

Environment::Environment(const std::map<std::string, std::optional<std::string>>& variables) {
  for (const auto& [name, value] : variables) {
    const char* old = std::getenv(name.c_str());
    before_[name] = old ? std::optional<std::string>(old) : std::nullopt;
    set_variable(name, value);
  }
}
Environment::~Environment() {
  for (const auto& [name, value] : before_) set_variable(name, value);
}

std::string random_bytes(size_t size, uint64_t seed) {
  std::string bytes(size, '\0');
  for (char& c : bytes) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    c = static_cast<char>(seed >> 56);
  }
  return bytes;
}

std::string read_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const fs::path& file, std::string_view text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

int start_child(const std::string& name, const std::map<std::string, std::string>& variables) {
  std::string program = fs::absolute(::testing::internal::GetArgvs()[0]).string();
  std::vector<std::string> arguments = {program, "--gtest_filter=" + name};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::vector<std::string> settings;
  for (const auto& [key, value] : variables) settings.push_back(fmt::format("{}={}", key, value));
  for (char** entry = ::environ; *entry; ++entry) settings.push_back(*entry);
  std::vector<char*> envp;
  for (std::string& setting : settings) envp.push_back(setting.data());
  envp.push_back(nullptr);
  const pid_t id = ::fork();
  if (id == 0) {
    const int nothing = ::open("/dev/null", O_WRONLY);
    ::dup2(nothing, STDOUT_FILENO);
    ::execve(program.c_str(), argv.data(), envp.data());
    ::_exit(127);
  }
  return id;
}

int wait_for_child(int id) {
  int status = 0;
  ::waitpid(id, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace mlxcpp::test
