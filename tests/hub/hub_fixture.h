#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "core/error.h"
#include "hub/fake_hub.h"
#include "hub/hub_client.h"

// What the tests of the hub client share: a hub with a small model, and a cache of their own.
namespace mlxcpp::test {

namespace fs = std::filesystem;
using hub::fetch_snapshot;
using hub::HubSettings;
using hub::Snapshot;

inline const DownloadOptions kDefault;

inline Snapshot fetch(const HubSettings& settings, const DownloadOptions& options = kDefault,
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
    EXPECT_THAT(snapshot.files, ::testing::ElementsAre("config.json", "model.safetensors"));
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

}  // namespace mlxcpp::test
