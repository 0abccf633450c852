#pragma once

#include <stop_token>
#include <string>

#include "hub/file.h"
#include "hub/hub_client.h"
#include "hub/progress.h"
#include "hub/repo_cache.h"

namespace mlxcpp::hub {

// Fetches the content of one file into `blobs/ETAG`, unless it is there.
//
// What has come lies in `ETAG.incomplete`, which a later call, in this process or the next one,
// goes on with. An ETag that is a hash is checked over the whole content, so a resumed part needs
// no other guard; any other ETag is sent as If-Range. Only what is whole and right gets its name,
// by a rename, after it has reached the disk. Throws when the server keeps failing, when size or
// hash are wrong after a fresh download, when the disk is full, or when asked to stop.
class BlobDownload {
 public:
  BlobDownload(const HubSettings& settings, const HubModel& model, const std::string& commit,
               const RepoCache& cache, const RepoFile& file, ProgressMeter& meter);

  void run(HttpClient& http, const std::stop_token& stop);

 private:
  struct Part;
  HttpResponse request(HttpClient& http, Part& part, const std::stop_token& stop);
  void fetch(HttpClient& http, Part& part, const std::stop_token& stop);
  std::string wrong(Part& part) const;  // what is wrong with a whole part; empty: nothing

  const HubSettings& settings_;
  const HubModel& model_;
  const std::string& commit_;
  const RepoCache& cache_;
  const RepoFile& file_;
  ProgressMeter& meter_;
  std::string name_;  // for messages
};

// A fault that the hub's answer stands for. `fatal` ones are not to be papered over by the cache.
class HubError : public Error {
 public:
  HubError(bool fatal_, const std::string& text) : Error("{}", text), fatal(fatal_) {}
  bool fatal;
};
// `file`: the one asked for, empty for the model itself.
HubError hub_error(const HubSettings& settings, const HubModel& model, const std::string& file,
                   const HttpResponse& response);

}  // namespace mlxcpp::hub
