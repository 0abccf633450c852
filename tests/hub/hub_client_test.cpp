#include "hub/hub_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "hub/digest.h"
#include "hub/fake_hub.h"

namespace mlxcpp::test {
namespace {

namespace fs = std::filesystem;
using hub::fetch_snapshot;
using hub::HubModel;
using hub::HubSettings;
using hub::Snapshot;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const DownloadOptions kDefault;

Snapshot fetch(const HubSettings& settings, const DownloadOptions& options = kDefault,
               const std::string& revision = "main") {
  return fetch_snapshot(
      settings, {"org/model", revision},
      [&](const std::vector<std::string>& files) {
        return hub::filter_files(files, options.patterns, options.ignore_patterns);
      },
      options);
}

class HubTest : public ::testing::Test {
 protected:
  HubTest() {
    hub.add("config.json", R"({"model_type": "llama"})", false);
    hub.add("README.md", "# not asked for", false);
    hub.add("model.safetensors", weights, true);
    settings = settings_for(hub.url());
  }

  HubSettings settings_for(const std::string& endpoint) {
    HubSettings s;
    s.endpoint = endpoint;
    s.cache = folder.path / "hub";
    s.retry.wait = [this](std::chrono::milliseconds time, const std::stop_token&) {
      const std::lock_guard lock(mutex);
      waits.push_back(static_cast<int>(time.count()));
    };
    return s;
  }
  fs::path repo() const { return settings.cache / "models--org--model"; }
  fs::path blob(const std::string& file) const { return repo() / "blobs" / hub.etag(file); }
  fs::path partial(const std::string& file) const {
    fs::path path = blob(file);
    return path += ".incomplete";
  }

  void expect_whole(const Snapshot& snapshot) {
    EXPECT_EQ(snapshot.folder, repo() / "snapshots" / hub.commit);
    EXPECT_THAT(snapshot.files, ElementsAre("config.json", "model.safetensors"));
    EXPECT_EQ(read_file(snapshot.folder / "config.json"), R"({"model_type": "llama"})");
    EXPECT_EQ(read_file(snapshot.folder / "model.safetensors"), weights);
    EXPECT_FALSE(fs::exists(partial("model.safetensors")));
  }
  // The requests for the content of the large file.
  std::vector<Request> storage_requests() const {
    std::vector<Request> list;
    for (const Request& r : hub.requests())
      if (r.target.starts_with("/storage/")) list.push_back(r);
    return list;
  }

  const std::string weights = random_bytes(300000, 1);
  std::mutex mutex;
  std::vector<int> waits;
  TemporaryFolder folder;
  FakeHub hub;
  HubSettings settings;
};

TEST_F(HubTest, LaysTheCacheOutAsHuggingfaceHubDoes) {
  const Snapshot snapshot = fetch(settings);
  expect_whole(snapshot);
  EXPECT_EQ(read_file(repo() / "refs" / "main"), hub.commit);
  EXPECT_EQ(fs::read_symlink(snapshot.folder / "model.safetensors"),
            "../../blobs/" + hub.etag("model.safetensors"));
  EXPECT_EQ(read_file(blob("config.json")), R"({"model_type": "llama"})");
  EXPECT_FALSE(fs::exists(snapshot.folder / "README.md"));
  const Json tree = Json::parse(read_file(repo() / "trees" / (hub.commit + ".json")));
  EXPECT_EQ(tree["format_version"], 1);
  EXPECT_EQ(tree["files"]["model.safetensors"]["lfs_sha256"], hub.etag("model.safetensors"));
  EXPECT_EQ(tree["files"]["README.md"]["blob_id"], hub.etag("README.md"));
  EXPECT_TRUE(fs::exists(settings.cache / "CACHEDIR.TAG"));
}

TEST_F(HubTest, AsksForEachFileWhenTheModelInfoDoesNotDescribeIt) {
  hub.describe = false;
  expect_whole(fetch(settings));
  EXPECT_EQ(hub.count("HEAD", "/resolve/"), 2);
  EXPECT_EQ(hub.count("HEAD", "/storage/"), 0);
  EXPECT_TRUE(fs::exists(blob("model.safetensors")));
}

TEST_F(HubTest, FetchesNothingTwice) {
  fetch(settings);
  const size_t before = hub.requests().size();
  expect_whole(fetch(settings));
  EXPECT_EQ(hub.requests().size(), before + 1) << "only the branch's commit";
  expect_whole(fetch(settings, kDefault, hub.commit));
  EXPECT_EQ(hub.requests().size(), before + 1) << "a commit never changes";
}

TEST_F(HubTest, FetchesOnlyWhatAnUpdateChanged) {
  fetch(settings);
  hub.commit = std::string(40, 'd');
  hub.add("config.json", "{}", false);
  const Snapshot snapshot = fetch(settings);
  EXPECT_EQ(read_file(snapshot.folder / "config.json"), "{}");
  EXPECT_EQ(read_file(snapshot.folder / "model.safetensors"), weights);
  EXPECT_EQ(storage_requests().size(), 1u);
  EXPECT_EQ(read_file(repo() / "refs" / "main"), hub.commit);
}

TEST_F(HubTest, RevisionsAreQuotedAndKeptByName) {
  fetch(settings, kDefault, "refs/pr/1");
  EXPECT_EQ(read_file(repo() / "refs" / "refs" / "pr" / "1"), hub.commit);
  EXPECT_THAT(error_of([&] { fetch(settings, kDefault, "v9"); }),
              AllOf(HasSubstr("org/model"), HasSubstr("no revision 'v9'")));
  for (const std::string bad : {"../../x", "/etc", "a//b", "a\\b", ""})
    EXPECT_THAT(error_of([&] { fetch(settings, kDefault, bad); }), HasSubstr("revision"));
}

TEST_F(HubTest, PatternsChooseFiles) {
  hub.add("onnx/config.json", "{}", false);
  hub.add("a.json", "{}", false);
  DownloadOptions options;
  options.patterns = {"*.json"};
  options.ignore_patterns = {"onnx/"};
  EXPECT_THAT(fetch(settings, options).files, ElementsAre("a.json", "config.json"));
}

// Broken transfers ------------------------------------------------------------------------------

TEST_F(HubTest, GoesOnAfterCutOffs) {
  int cuts = 0;
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/") || cuts == 3) return std::nullopt;
    Reply reply = FakeHub::content(r, weights, "x");
    reply.cut_after = 70000;
    ++cuts;
    return reply;
  };
  expect_whole(fetch(settings));
  std::vector<std::string> ranges;
  for (const Request& r : storage_requests()) ranges.push_back(r.header("range"));
  EXPECT_THAT(ranges, ElementsAre("", "bytes=70000-", "bytes=140000-", "bytes=210000-"));
  EXPECT_THAT(waits, ElementsAre(1000, 2000, 4000));
}

TEST_F(HubTest, AServerWithoutRangesSendsTheFileAgain) {
  int answers = 0;
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/")) return std::nullopt;
    Reply reply{200, {}, weights};
    if (answers++ == 0) reply.cut_after = 70000;
    return reply;
  };
  expect_whole(fetch(settings));
}

TEST_F(HubTest, ARangeThatDoesNotFitStartsAgain) {
  write_file(partial("model.safetensors"), weights.substr(0, 1000));
  int answers = 0;
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/") || answers++ > 0) return std::nullopt;
    return Reply{206, {{"Content-Range", "bytes 5-299999/300000"}}, weights.substr(5)};
  };
  expect_whole(fetch(settings));
}

TEST_F(HubTest, GivesUpAfterFiveFailures) {
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/")) return std::nullopt;
    return Reply{503};
  };
  EXPECT_THAT(error_of([&] { fetch(settings); }),
              AllOf(HasSubstr("org/model/model.safetensors"), HasSubstr("HTTP 503")));
  EXPECT_EQ(storage_requests().size(), 5u);
  EXPECT_FALSE(fs::exists(repo() / "refs" / "main")) << "the branch stays unset until all is there";
}

TEST_F(HubTest, WaitsAsLongAsTheServerAsks) {
  int refusals = 0;
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (r.target.starts_with("/api/") && refusals++ == 0) return Reply{429, {{"Retry-After", "7"}}};
    return std::nullopt;
  };
  expect_whole(fetch(settings));
  EXPECT_THAT(waits, ElementsAre(7000));
}

TEST_F(HubTest, DoesNotWaitForHours) {
  hub.intercept = [&](const Request&) { return Reply{429, {{"Retry-After", "7200"}}}; };
  EXPECT_THAT(error_of([&] { fetch(settings); }), AllOf(HasSubstr("429"), HasSubstr("7200 s")));
  EXPECT_TRUE(waits.empty());
}

TEST_F(HubTest, ResumesWhatAnEarlierRunLeft) {
  write_file(partial("model.safetensors"), weights.substr(0, 123456));
  expect_whole(fetch(settings));
  ASSERT_EQ(storage_requests().size(), 1u);
  EXPECT_EQ(storage_requests()[0].header("range"), "bytes=123456-");
}

TEST_F(HubTest, AWholePartialFileNeedsNoRequest) {
  write_file(partial("model.safetensors"), weights);
  expect_whole(fetch(settings));
  EXPECT_TRUE(storage_requests().empty());
}

TEST_F(HubTest, ADamagedPartialFileIsFetchedAgain) {
  write_file(partial("model.safetensors"), random_bytes(1000, 2));
  expect_whole(fetch(settings));
  EXPECT_EQ(storage_requests().size(), 2u);
}

TEST_F(HubTest, APartialFileThatIsTooLongIsFetchedAgain) {
  write_file(partial("model.safetensors"), weights + "more");
  expect_whole(fetch(settings));
}

TEST_F(HubTest, RefusesAWrongSha256) {
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/")) return std::nullopt;
    return Reply{200, {}, std::string(weights.size(), 'x')};
  };
  EXPECT_THAT(error_of([&] { fetch(settings); }),
              AllOf(HasSubstr("org/model/model.safetensors"), HasSubstr("expected SHA-256"),
                    HasSubstr(hub.etag("model.safetensors"))));
  EXPECT_FALSE(fs::exists(blob("model.safetensors")));
  EXPECT_FALSE(fs::exists(partial("model.safetensors")));
}

TEST_F(HubTest, RefusesAWrongGitBlobId) {
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.ends_with("/config.json")) return std::nullopt;
    return Reply{200, {}, std::string(23, 'x')};
  };
  EXPECT_THAT(error_of([&] { fetch(settings); }),
              AllOf(HasSubstr("org/model/config.json"), HasSubstr("expected git blob id"),
                    HasSubstr(hub.etag("config.json"))));
  EXPECT_FALSE(fs::exists(blob("config.json")));
}

TEST_F(HubTest, RefusesAWrongLength) {
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/")) return std::nullopt;
    return Reply{200, {}, weights + "more"};
  };
  EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("more than the 300000 bytes"));
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/")) return std::nullopt;
    return Reply{200, {}, weights.substr(0, 299999)};
  };
  EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("cut off after 299999 of 300000"));
}

TEST_F(HubTest, AnEtagThatIsNoHashGuardsResumingByIfRange) {
  hub.describe = false;
  const std::string old(5000, 'o');
  write_file(repo() / "blobs" / "v1.incomplete", old.substr(0, 100));
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (r.target.find("/resolve/") == std::string::npos) return std::nullopt;
    if (!r.target.ends_with("config.json")) return std::nullopt;
    Reply reply = FakeHub::content(r, old, "v1");
    reply.headers["ETag"] = "W/\"v1\"";
    return reply;
  };
  const Snapshot snapshot = fetch(settings);
  EXPECT_EQ(read_file(snapshot.folder / "config.json"), old);
  bool resumed = false;
  for (const Request& r : hub.requests())
    resumed |= r.header("range") == "bytes=100-" && r.header("if-range") == "\"v1\"";
  EXPECT_TRUE(resumed);
}

TEST_F(HubTest, SizesTheServerDoesNotTellAreTakenAsTheyCome) {
  hub.describe = false;
  const std::string text(5000, 'o');
  write_file(repo() / "blobs" / "v1.incomplete", text);  // whole, but who knows: 416 tells
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.ends_with("config.json")) return std::nullopt;
    Reply reply = FakeHub::content(r, text, "v1");
    if (r.method == "HEAD") reply.headers["Content-Length"] = "";
    return reply;
  };
  EXPECT_EQ(read_file(fetch(settings).folder / "config.json"), text);
}

TEST_F(HubTest, EmptyFiles) {
  hub.add("empty.txt", "", false);
  EXPECT_EQ(read_file(fetch(settings).folder / "empty.txt"), "");
}

// Faults in words --------------------------------------------------------------------------------

TEST_F(HubTest, SaysWhatTheHubRefuses) {
  std::map<std::string, std::string> headers;
  int status = 0;
  hub.intercept = [&](const Request&) { return Reply{status, headers}; };
  const auto message = [&](int code, const std::string& error_code) {
    status = code;
    headers = {{"X-Error-Code", error_code}};
    return error_of([&] { fetch(settings); });
  };
  EXPECT_THAT(message(401, "GatedRepo"),
              AllOf(HasSubstr("gated"), HasSubstr(hub.url() + "/org/model"),
                    HasSubstr("HF_TOKEN is not set")));
  EXPECT_THAT(message(401, "RepoNotFound"), HasSubstr("not found or private"));
  EXPECT_THAT(message(404, ""), HasSubstr("not found or private"));
  EXPECT_THAT(message(418, ""), HasSubstr("HTTP 418"));
  settings.token = "hf_secret";
  const std::string gated = message(403, "GatedRepo");
  EXPECT_THAT(gated, AllOf(HasSubstr("gated"), HasSubstr("with the token given")));
  EXPECT_EQ(gated.find("hf_secret"), std::string::npos);
  headers = {{"X-Error-Message", "Line\x1b[31m"}};
  EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("access refused"));
}

TEST_F(HubTest, AFileThatIsNotThere) {
  hub.describe = false;
  hub.change_info = [](Json& info) { info["siblings"].push_back({{"rfilename", "gone.json"}}); };
  EXPECT_THAT(error_of([&] { fetch(settings); }),
              AllOf(HasSubstr("org/model/gone.json"), HasSubstr("no such file")));
}

TEST_F(HubTest, NobodyListens) {
  std::string url;
  {
    url = FakeHub().url();
  }
  EXPECT_THAT(error_of([&] { fetch(settings_for(url)); }),
              AllOf(HasSubstr("org/model"), HasSubstr(url)));
  EXPECT_EQ(waits.size(), 4u);
}

// The token ------------------------------------------------------------------------------------

TEST_F(HubTest, TheTokenGoesToTheHubOnly) {
  settings.token = "hf_secret";
  expect_whole(fetch(settings));
  ASSERT_EQ(storage_requests().size(), 1u);
  for (const Request& r : hub.requests()) {
    const bool storage = r.target.starts_with("/storage/");
    EXPECT_EQ(r.header("authorization"), storage ? "" : "Bearer hf_secret") << r.target;
  }
}

TEST_F(HubTest, TheTokenStaysWithinTheOrigin) {
  settings.token = "hf_secret";
  hub.storage_host = "127.0.0.1";
  fetch(settings);
  EXPECT_EQ(storage_requests().at(0).header("authorization"), "Bearer hf_secret");
}

// A hostile hub --------------------------------------------------------------------------------

TEST_F(HubTest, RefusesNamesThatLeaveTheFolder) {
  for (const std::string bad : {"../x.json", "a/../../x.json", "/etc/x.json", "a\\..\\x.json",
                                "C:x.json", "a//x.json", "./x.json", "x\n.json", "a/.."}) {
    hub.change_info = [&](Json& info) { info["siblings"].push_back({{"rfilename", bad}}); };
    EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("refused because of")) << bad;
  }
}

TEST_F(HubTest, RefusesEtagsThatAreNoFileNames) {
  hub.describe = false;
  for (const std::string bad : {"\"../../x\"", "\"\"", "\".hidden\"", "\"a/b\""}) {
    hub.intercept = [&](const Request& r) -> std::optional<Reply> {
      if (r.method != "HEAD") return std::nullopt;
      return Reply{200, {{"ETag", bad}}, "x"};
    };
    EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("ETag")) << bad;
  }
}

TEST_F(HubTest, RefusesModelInfosThatAreNone) {
  for (const std::string bad :
       {"", "<html>", "[]", "{}", R"({"sha": 1})", R"({"sha": "../../../etc"})",
        R"({"sha": "cccccccccccccccccccccccccccccccccccccccc"})",
        R"({"sha": "cccccccccccccccccccccccccccccccccccccccc", "siblings": [1]})",
        R"({"sha": "cccccccccccccccccccccccccccccccccccccccc", "siblings": [{"rfilename": 7}]})"}) {
    hub.intercept = [&](const Request&) { return Reply{200, {}, bad}; };
    EXPECT_FALSE(error_of([&] { fetch(settings); }).empty()) << bad;
  }
  hub.intercept = [&](const Request&) { return Reply{200, {}, std::string(33 << 20, ' ')}; };
  EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("longer than"));
}

TEST_F(HubTest, FollowsRedirectsWithBounds) {
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/api/")) return std::nullopt;
    return Reply{307, {{"Location", r.target}}};
  };
  EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("redirected more than 10 times"));
  for (const std::string bad : {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x"}) {
    hub.intercept = [&](const Request&) { return Reply{302, {{"Location", bad}}}; };
    EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("redirected to")) << bad;
  }
}

TEST_F(HubTest, EndlessHeadersAreCutOff) {
  settings.retry.attempts = 1;
  hub.intercept = [&](const Request&) {
    Reply reply;
    for (int i = 0; i < 40; ++i) reply.headers["X-" + std::to_string(i)] = std::string(10000, 'x');
    return reply;
  };
  EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("cannot be fetched"));
}

// Offline --------------------------------------------------------------------------------------

TEST_F(HubTest, OfflineUsesTheCache) {
  HubSettings offline = settings;
  offline.offline = true;
  EXPECT_THAT(error_of([&] { fetch(offline); }), AllOf(HasSubstr("offline"), HasSubstr("main")));
  fetch(settings);
  const size_t before = hub.requests().size();
  expect_whole(fetch(offline));
  expect_whole(fetch(offline, kDefault, hub.commit));
  EXPECT_EQ(hub.requests().size(), before);
  fs::remove(blob("config.json"));
  EXPECT_THAT(error_of([&] { fetch(offline); }),
              AllOf(HasSubstr("offline"), HasSubstr("config.json")));
}

TEST_F(HubTest, AnUnreachableHubIsNoMatterWhenTheCacheIsWhole) {
  fetch(settings);
  hub.intercept = [&](const Request&) { return Reply{500}; };
  expect_whole(fetch(settings));
  EXPECT_TRUE(waits.empty());
  hub.intercept = [&](const Request&) { return Reply{200, {}, "<html>a portal</html>"}; };
  expect_whole(fetch(settings));
}

TEST_F(HubTest, FindsWhatPythonFetched) {
  // As huggingface_hub before 2.0 leaves it: no listing.
  const fs::path snapshot = repo() / "snapshots" / hub.commit;
  const auto put = [&](const std::string& name, const std::string& text, const std::string& etag) {
    write_file(repo() / "blobs" / etag, text);
    fs::create_directories(snapshot);
    fs::create_symlink("../../blobs/" + etag, snapshot / name);
  };
  put("config.json", "{}", "e1");
  put("model-00001-of-00002.safetensors", "a", "e2");
  put("model.safetensors.index.json",
      R"({"weight_map": {"x": "model-00001-of-00002.safetensors",
                         "y": "model-00002-of-00002.safetensors"}})",
      "e3");
  write_file(repo() / "refs" / "main", hub.commit);
  settings.offline = true;
  EXPECT_THAT(error_of([&] { fetch(settings); }),
              AllOf(HasSubstr("offline"), HasSubstr("model-00002-of-00002.safetensors")));
  put("model-00002-of-00002.safetensors", "b", "e4");
  EXPECT_EQ(fetch(settings).folder, snapshot);
  EXPECT_EQ(fetch(settings).files.size(), 4u);
}

TEST_F(HubTest, ADamagedListingIsIgnored) {
  fetch(settings);
  for (const std::string bad : {"", "[]", R"({"format_version": 2})",
                                R"({"format_version": 1, "files": {"../x": {"size": 1}}})"}) {
    write_file(repo() / "trees" / (hub.commit + ".json"), bad);
    expect_whole(fetch(settings, kDefault, hub.commit));
  }
}

// Progress and cancellation
// ------------------------------------------------------------------------

TEST_F(HubTest, ReportsProgress) {
  write_file(partial("model.safetensors"), weights.substr(0, 100000));
  std::vector<Progress> reports;
  DownloadOptions options;
  options.on_progress = [&](const Progress& p) { reports.push_back(p); };
  fetch(settings, options);
  ASSERT_FALSE(reports.empty());
  EXPECT_EQ(reports.back().done, weights.size() + 23);
  EXPECT_TRUE(reports.back().finished);
  EXPECT_FALSE(reports.front().finished);
  for (const Progress& p : reports) {
    EXPECT_EQ(p.total, weights.size() + 23);
    EXPECT_LE(p.done, p.total);
    EXPECT_GE(p.bytes_per_second, 0);
  }
}

TEST_F(HubTest, StopsWhenAsked) {
  std::stop_source stop;
  DownloadOptions options;
  options.stop = stop.get_token();
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/")) return std::nullopt;
    Reply reply = FakeHub::content(r, weights, "x");
    reply.stall_after = 1000;
    stop.request_stop();
    return reply;
  };
  EXPECT_THAT(error_of([&] { fetch(settings, options); }), HasSubstr("cancelled"));
}

TEST_F(HubTest, AnExceptionOfTheCallbackPasses) {
  DownloadOptions options;
  options.on_progress = [](const Progress&) { throw std::runtime_error("mine"); };
  EXPECT_THROW(fetch(settings, options), std::runtime_error);
}

// Several at once, and sudden ends
// -------------------------------------------------------------------

// Runs in a process of its own, see start_child.
TEST(HubChild, DISABLED_Fetch) {
  HubSettings settings;
  settings.endpoint = std::getenv("TEST_ENDPOINT");
  settings.cache = std::getenv("TEST_CACHE");
  if (const char* bytes = std::getenv("TEST_FILE_LIMIT")) {  // stands in for a full disk
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{std::stoul(bytes), std::stoul(bytes)};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("cannot be written"));
  } else {
    fetch(settings);
  }
}

TEST_F(HubTest, ManyProcessesAndThreadsFetchAModelOnce) {
  std::condition_variable all_here;
  int asked = 0;
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    std::unique_lock lock(mutex);
    if (r.target.starts_with("/api/")) {
      ++asked;
      all_here.notify_all();
    } else {
      all_here.wait(lock, [&] { return asked >= 5; });
    }
    return std::nullopt;
  };
  std::vector<int> children;
  for (int i = 0; i < 2; ++i)
    children.push_back(start_child("HubChild.DISABLED_Fetch",
                                   {{"TEST_ENDPOINT", hub.url()}, {"TEST_CACHE", settings.cache}}));
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { expect_whole(fetch(settings)); });
  }
  for (const int child : children) EXPECT_EQ(wait_for_child(child), 0);
  EXPECT_EQ(storage_requests().size(), 1u);
}

TEST_F(HubTest, AKilledDownloadIsResumed) {
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/") || !r.header("range").empty()) return std::nullopt;
    Reply reply = FakeHub::content(r, weights, "x");
    reply.stall_after = 100000;
    return reply;
  };
  const int child = start_child("HubChild.DISABLED_Fetch",
                                {{"TEST_ENDPOINT", hub.url()}, {"TEST_CACHE", settings.cache}});
  std::error_code missing;
  while (fs::file_size(partial("model.safetensors"), missing) != 100000)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ::kill(child, SIGKILL);
  EXPECT_EQ(wait_for_child(child), 128 + SIGKILL);
  EXPECT_FALSE(fs::exists(blob("model.safetensors")));
  settings.offline = true;
  EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("offline"));
  settings.offline = false;
  expect_whole(fetch(settings));
  EXPECT_EQ(storage_requests().back().header("range"), "bytes=100000-");
}

TEST_F(HubTest, AFullDiskLosesNothing) {
  const int child = start_child(
      "HubChild.DISABLED_Fetch",
      {{"TEST_ENDPOINT", hub.url()}, {"TEST_CACHE", settings.cache}, {"TEST_FILE_LIMIT", "65536"}});
  EXPECT_EQ(wait_for_child(child), 0);
  EXPECT_EQ(fs::file_size(partial("model.safetensors")), 65536u);
  expect_whole(fetch(settings));
  EXPECT_EQ(storage_requests().back().header("range"), "bytes=65536-");
}

TEST_F(HubTest, NeedsTheSpaceBeforeItStarts) {
  hub.change_info = [](Json& info) {
    for (Json& file : info["siblings"])
      if (file["rfilename"] == "model.safetensors") file["lfs"]["size"] = uint64_t{1} << 60;
  };
  EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("disk full"));
  EXPECT_TRUE(storage_requests().empty());
}

TEST_F(HubTest, ACacheThatCannotBeWritten) {
  write_file(folder.path / "file", "");
  settings.cache = folder.path / "file" / "hub";
  EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("cannot be made"));
}

// The pieces -------------------------------------------------------------------------------------

TEST(Digest, AgreesWithKnownValues) {
  hub::Digest sha = hub::Digest::sha256();
  sha.update("ab");
  sha.update("c");
  EXPECT_EQ(sha.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  hub::Digest git = hub::Digest::git_blob(6);
  git.update("hello\n");  // git hash-object
  EXPECT_EQ(git.hex(), "ce013625030ba8dba906f756967f9e9ca394464a");
}

TEST(UrlQuote, KeepsWhatMayStay) {
  EXPECT_EQ(hub::url_quote("a b/c%~é", true), "a%20b/c%25~%C3%A9");
  EXPECT_EQ(hub::url_quote("refs/pr/1", false), "refs%2Fpr%2F1");
}

}  // namespace
}  // namespace mlxcpp::test
