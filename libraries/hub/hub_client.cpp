#include "hub/hub_client.h"

#include <fnmatch.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <iterator>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "hub/blob_download.h"
#include "hub/environment.h"
#include "hub/file.h"
#include "hub/progress.h"
#include "hub/repo_cache.h"

namespace fs = std::filesystem;

namespace mlxcpp::hub {
namespace {

constexpr size_t kMaxInfo = 32 << 20;  // bytes of JSON; a listing of 100,000 files is half of it

// Calls f(i, http, stop) for i in [0, n) on some threads; the first exception stops the others.
template <class F>
void for_each_file(size_t n, int workers, const std::stop_token& outer, F&& f) {
  std::stop_source inner;
  const std::stop_callback forward(outer, [&] { inner.request_stop(); });
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::exception_ptr first;
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < std::min(n, static_cast<size_t>(workers)); ++t)
      threads.emplace_back([&] {
        try {
          HttpClient http;
          for (size_t i; (i = next++) < n;) f(i, http, inner.get_token());
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!first) first = std::current_exception();
          inner.request_stop();
        }
      });
  }
  if (first) std::rethrow_exception(first);
}

struct Listing {
  std::string commit;
  std::vector<RepoFile> files;
};

class HubClient {
 public:
  HubClient(const HubSettings& settings, const HubModel& model, const DownloadOptions& options)
      : settings_(settings), model_(model), options_(options), cache_(settings.cache, model.id) {}

  Snapshot fetch(const SelectFiles& select) {
    std::string missing;
    const std::optional<Snapshot> cached = from_cache(select, missing);
    if (cached && (settings_.offline || (is_commit(model_.revision) && cached_listing_)))
      return *cached;
    if (settings_.offline)
      throw Error("{}: offline (HF_HUB_OFFLINE), and not whole in the cache {}: {}", model_.id,
                  settings_.cache.string(), missing);
    try {
      return from_hub(select, cached ? 1 : settings_.retry.attempts);
    } catch (const HubError& e) {
      if (!cached || e.fatal) throw;
      log::warning("{}; using what the cache has", e.what());
      return *cached;
    }
  }

 private:
  // What the cache has of the revision, when nothing wanted is missing; else `missing` says what.
  std::optional<Snapshot> from_cache(const SelectFiles& select, std::string& missing) {
    const auto commit = cache_.commit_of(model_.revision);
    if (!commit) {
      missing = fmt::format("revision '{}' was never fetched", model_.revision);
      return std::nullopt;
    }
    const std::vector<std::string> present = cache_.files_of(*commit);
    const auto listing = cache_.listing(*commit);
    cached_listing_ = listing.has_value();
    std::vector<RepoFile> known = listing.value_or(std::vector<RepoFile>{});
    if (!listing)
      for (const std::string& path : present) known.push_back({path, {}, {}, {}, {}});
    try {
      std::vector<std::string> absent;
      Snapshot snapshot{cache_.snapshot(*commit), select_from(known, select)};
      for (const RepoFile& file : known)
        if (std::binary_search(snapshot.files.begin(), snapshot.files.end(), file.path) &&
            !cache_.has(*commit, file))
          absent.push_back(file.path);
      if (!listing) absent = missing_shards(snapshot);
      if (absent.empty()) return snapshot;
      missing = fmt::format("{} missing or cut off ({} in all)", absent.front(), absent.size());
    } catch (const Error& e) {
      missing = e.what();
    }
    return std::nullopt;
  }

  // Without a listing, the index of a sharded checkpoint tells what must be there.
  static std::vector<std::string> missing_shards(const Snapshot& snapshot) {
    std::set<std::string> missing;
    for (const std::string& file : snapshot.files) {
      if (!file.ends_with(".safetensors.index.json")) continue;
      const Json index = read_json(snapshot.folder / file);
      const auto map = index.is_object() ? index.find("weight_map") : index.end();
      if (!index.is_object() || map == index.end() || !map->is_object()) continue;
      for (const auto& [tensor, shard] : map->items()) {
        if (!shard.is_string()) continue;
        const std::string path =
            (fs::path(file).parent_path() / shard.get<std::string>()).generic_string();
        if (!std::binary_search(snapshot.files.begin(), snapshot.files.end(), path))
          missing.insert(path);
      }
    }
    return {missing.begin(), missing.end()};
  }

  static std::vector<std::string> select_from(const std::vector<RepoFile>& files,
                                              const SelectFiles& select) {
    std::vector<std::string> paths;
    for (const RepoFile& file : files) paths.push_back(file.path);
    std::sort(paths.begin(), paths.end());
    paths = select(paths);
    std::sort(paths.begin(), paths.end());
    return paths;
  }

  Snapshot from_hub(const SelectFiles& select, int attempts) {
    const Listing listing = ask_for_listing(attempts);
    Snapshot snapshot{cache_.snapshot(listing.commit), select_from(listing.files, select)};
    std::vector<RepoFile> wanted;
    for (const RepoFile& file : listing.files)
      if (std::binary_search(snapshot.files.begin(), snapshot.files.end(), file.path) &&
          !cache_.has(listing.commit, file))
        wanted.push_back(file);

    for_each_file(wanted.size(), settings_.workers, options_.stop,
                  [&](size_t i, HttpClient& http, const std::stop_token& stop) {
                    if (wanted[i].etag.empty() || !wanted[i].size)
                      ask_for_file(http, listing.commit, wanted[i], stop);
                  });
    uint64_t total = 0, missing = 0;
    for (const RepoFile& file : wanted) {
      total += file.size.value_or(0);
      missing += cache_.bytes_to_fetch(file);
    }
    if (!wanted.empty()) {
      make_folders(settings_.cache);
      need_space(settings_.cache, missing, model_.id);
    }
    ProgressMeter meter(options_.on_progress, total);
    for_each_file(
        wanted.size(), settings_.workers, options_.stop,
        [&](size_t i, HttpClient& http, const std::stop_token& stop) {
          BlobDownload(settings_, model_, listing.commit, cache_, wanted[i], meter).run(http, stop);
          cache_.link(listing.commit, wanted[i]);
        });
    if (!wanted.empty()) {
      meter.finish();
      keep([&] { cache_.tag(); });
    }
    // Last, so that an interrupted update leaves the branch at the commit that is whole.
    if (!cache_.listing(listing.commit))
      keep([&] { cache_.set_listing(listing.commit, listing.files); });
    keep([&] { cache_.set_commit(model_.revision, listing.commit); });
    return snapshot;
  }

  // A cache that may only be read serves all the same.
  template <class F>
  static void keep(F&& f) {
    try {
      f();
    } catch (const Error& e) {
      log::warning("{}", e.what());
    }
  }

  Listing ask_for_listing(int attempts) {
    HttpRequest request;
    request.url = fmt::format("{}/api/models/{}/revision/{}?blobs=true", settings_.endpoint,
                              model_.id, url_quote(model_.revision, false));
    request.token = settings_.token;
    HttpClient http;
    RetryPolicy retry = settings_.retry;
    retry.attempts = attempts;
    std::string body;
    BodySink sink;
    sink.begin = [&](const HttpResponse&) { body.clear(); };
    sink.write = [&](std::string_view bytes) {
      if (body.size() + bytes.size() > kMaxInfo)
        throw Error("{}: the model info of {} is longer than {} bytes", model_.id,
                    settings_.endpoint, kMaxInfo);
      body += bytes;
    };
    for (int attempt = 1;; ++attempt) {
      const HttpResponse response = http.send(request, sink, options_.stop);
      if (response.ok()) break;
      if (!retry.pause(attempt, response, options_.stop))
        throw hub_error(settings_, model_, "", response);
    }
    const auto fault = [&](const std::string& text) {  // a portal's page, say, and no hub
      return HubError(false, fmt::format("{}: {}", request.url, text));
    };
    Json info;
    try {
      info = parse_json(body, "the model info");
    } catch (const Error& e) {
      throw fault(e.what());
    }
    const auto sha = info.is_object() ? info.find("sha") : info.end();
    if (!info.is_object() || sha == info.end() || !sha->is_string() ||
        !is_commit(sha->get<std::string>()))
      throw fault("expected a model info whose 'sha' is a commit of 40 hexadecimal digits");
    return {sha->get<std::string>(), read_siblings(info, model_.id)};
  }

  // ETag and size of a file that the listing does not describe.
  void ask_for_file(HttpClient& http, const std::string& commit, RepoFile& file,
                    const std::stop_token& stop) {
    HttpRequest request;
    request.url = fmt::format("{}/{}/resolve/{}/{}", settings_.endpoint, model_.id, commit,
                              url_quote(file.path, true));
    request.head = true;
    request.token = settings_.token;
    HttpResponse response;
    for (int attempt = 1;; ++attempt) {
      response = http.send(request, {}, stop);
      if (response.ok() || !response.header("x-linked-etag").empty()) break;
      if (!settings_.retry.pause(attempt, response, stop))
        throw hub_error(settings_, model_, file.path, response);
    }
    const std::string found = response.header("x-repo-commit");
    if (!found.empty() && found != commit)
      throw Error("{}: expected commit {}, the server answered for {}", request.url, commit, found);
    std::string etag = response.header("x-linked-etag");
    if (etag.empty()) etag = response.header("etag");
    if (etag.empty())
      throw Error("{}: the server gives no ETag: is HF_ENDPOINT a hub?", request.url);
    file.etag = normalised_etag(etag, request.url);
    std::string size = response.header("x-linked-size");
    if (size.empty() && response.ok()) size = response.header("content-length");
    if (!size.empty() && size.size() < 19 &&
        std::all_of(size.begin(), size.end(), [](char c) { return c >= '0' && c <= '9'; }))
      file.size = std::stoull(size);
  }

  const HubSettings& settings_;
  const HubModel& model_;
  const DownloadOptions& options_;
  const RepoCache cache_;
  bool cached_listing_ = false;
};

}  // namespace

HubSettings HubSettings::from_environment(const DownloadOptions& options) {
  HubSettings settings;
  settings.endpoint = hub_endpoint();
  settings.token = hub_token();
  settings.cache = options.cache.empty() ? hub_cache() : options.cache;
  settings.offline = options.offline || hub_offline();
  return settings;
}

Snapshot fetch_snapshot(const HubSettings& settings, const HubModel& model,
                        const SelectFiles& select, const DownloadOptions& options) {
  check_revision(model.revision, model.id);
  return HubClient(settings, model, options).fetch(select);
}

std::vector<std::string> filter_files(const std::vector<std::string>& files,
                                      const std::vector<std::string>& allow,
                                      const std::vector<std::string>& ignore) {
  const auto matches = [](const std::vector<std::string>& patterns, const std::string& file) {
    return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
      const std::string whole = pattern.ends_with('/') ? pattern + "*" : pattern;
      return ::fnmatch(whole.c_str(), file.c_str(), FNM_NOESCAPE) == 0;
    });
  };
  std::vector<std::string> chosen;
  std::copy_if(files.begin(), files.end(), std::back_inserter(chosen),
               [&](const std::string& f) { return matches(allow, f) && !matches(ignore, f); });
  return chosen;
}

}  // namespace mlxcpp::hub
