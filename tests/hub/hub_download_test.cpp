#include <signal.h>
#include <sys/resource.h>

#include <condition_variable>
#include <optional>
#include <thread>

#include "hub/digest.h"
#include "hub/file.h"
#include "hub/hub_fixture.h"

namespace mlxcpp::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

// The part of a second process (see start_child), which is told by variables what to fetch; on its
// own an ordinary download.
TEST_F(HubTest, FetchesInAProcessOfItsOwn) {
  if (const char* endpoint = std::getenv("TEST_ENDPOINT")) settings.endpoint = endpoint;
  if (const char* cache = std::getenv("TEST_CACHE")) settings.cache = cache;
  if (const char* bytes = std::getenv("TEST_FILE_LIMIT")) {  // stands in for a full disk
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{std::stoul(bytes), std::stoul(bytes)};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    EXPECT_THAT(error_of([&] { fetch(settings); }), HasSubstr("cannot be written"));
  } else {
    expect_whole(fetch(settings));
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
    children.push_back(start_child("HubTest.FetchesInAProcessOfItsOwn",
                                   {{"TEST_ENDPOINT", hub.url()}, {"TEST_CACHE", settings.cache}}));
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&] { expect_whole(fetch(settings)); });
  }
  for (const int child : children) EXPECT_EQ(wait_for_child(child), 0);
  EXPECT_EQ(storage_requests().size(), 1u);
}

TEST_F(HubTest, SaysThatItWaitsForAnotherDownload) {
  const fs::path name = fs::path(settings.cache) / ".locks" / "file.lock";
  std::optional<hub::FileLock> other(std::in_place, name, std::stop_token());
  ::testing::internal::CaptureStderr();
  std::jthread releasing([&] {
    std::this_thread::sleep_for(std::chrono::seconds(3));
    other.reset();
  });
  const hub::FileLock ours(name, std::stop_token());
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("file.lock"), HasSubstr("waiting for it")));
}

TEST_F(HubTest, AKilledDownloadIsResumed) {
  hub.intercept = [&](const Request& r) -> std::optional<Reply> {
    if (!r.target.starts_with("/storage/") || !r.header("range").empty()) return std::nullopt;
    Reply reply = FakeHub::content(r, weights, "x");
    reply.stall_after = 100000;
    return reply;
  };
  const int child = start_child("HubTest.FetchesInAProcessOfItsOwn",
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
      "HubTest.FetchesInAProcessOfItsOwn",
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
