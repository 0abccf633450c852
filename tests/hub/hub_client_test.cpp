#include "hub/hub_client.h"

#include "hub/hub_fixture.h"

namespace mlxcpp::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

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

// libcurl keeps the buffer of a failed look-up, and refuses another size of it at the next try.
TEST_F(HubTest, AnEndpointWithoutAddressIsSaid) {  // fails without asking a name server
  EXPECT_THAT(error_of([&] { fetch(settings_for("http://a..b")); }),
              AllOf(HasSubstr("a..b"), HasSubstr("esolve host")));
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

}  // namespace
}  // namespace mlxcpp::test
