#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "hub/http.h"
#include "hub/model_source.h"

namespace mlxcpp::hub {

struct HubSettings {
  std::string endpoint, token;
  std::filesystem::path cache;
  bool offline = false;
  int workers = 4;  // files at a time
  RetryPolicy retry = {};

  // From the environment; `options` come first.
  static HubSettings from_environment(const DownloadOptions& options);
};

struct HubModel {
  std::string id;  // org/name
  std::string revision = "main";
};

// Says which files of a model are wanted. It is asked again for another listing, and may throw.
using SelectFiles = std::function<std::vector<std::string>(const std::vector<std::string>&)>;

struct Snapshot {
  std::filesystem::path folder;
  std::vector<std::string> files;  // those that were wanted, sorted
};

// Brings the wanted files into the cache. The hub is asked for the commit of a branch or tag each
// time; nobody is asked when a whole snapshot of a commit is there. Where the hub cannot or will
// not answer, a whole snapshot in the cache serves, with a warning. Of `options`, on_progress and
// stop are used. Thread-safe.
Snapshot fetch_snapshot(const HubSettings& settings, const HubModel& model,
                        const SelectFiles& select, const DownloadOptions& options);

// The files that match one of `allow` and none of `ignore`: globs as Python's fnmatch has them
// (* matches / too); a pattern that ends in / means all below it.
std::vector<std::string> filter_files(const std::vector<std::string>& files,
                                      const std::vector<std::string>& allow,
                                      const std::vector<std::string>& ignore);

}  // namespace mlxcpp::hub
