#include "hub/blob_download.h"

#include <charconv>
#include <optional>
#include <system_error>

#include <fmt/format.h>

#include "core/log.h"
#include "hub/digest.h"

namespace fs = std::filesystem;

namespace mlxcpp::hub {
namespace {

// An attempt that brought this much is no failure: the count of attempts starts again.
constexpr uint64_t kGoodProgress = 1 << 20;

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "bytes 5-9/10" or "bytes */10".
struct ContentRange {
  std::optional<uint64_t> begin, total;

  explicit ContentRange(std::string_view header) {
    if (!header.starts_with("bytes ")) return;
    header.remove_prefix(6);
    const size_t slash = header.find('/'), dash = header.find('-');
    if (slash == header.npos) return;
    total = number(header.substr(slash + 1));
    if (dash < slash) begin = number(header.substr(0, dash));
  }
};

bool is_strong(const std::string& etag) { return is_commit(etag) || is_sha256(etag); }

// The server's own words, made fit for one line of a terminal.
std::string spoken(const HttpResponse& response) {
  std::string text = response.header("x-error-message").substr(0, 200);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  return text.empty() ? "" : fmt::format(" ('{}')", text);
}

}  // namespace

// The growing file, with the digest of what it holds.
struct BlobDownload::Part {
  Part(const fs::path& path, const RepoFile& of, ProgressMeter& meter, const std::stop_token& stop)
      : file(File::open_to_extend(path)), of(of), meter(meter) {
    begin_digest();
    const uint64_t present = file.size();
    if (of.size && present > *of.size) {
      restart();
      return;
    }
    file.read_all([&](std::string_view piece) {
      throw_if_stopped(stop, of.path);
      if (digest) digest->update(piece);
      have += piece.size();
    });
    resumed = have > 0;
    meter.present(of.path, static_cast<int64_t>(have));
  }

  void begin_digest() {
    if (is_sha256(of.etag))
      digest.emplace(Digest::sha256());
    else if (is_commit(of.etag) && of.size)
      digest.emplace(Digest::git_blob(*of.size));
  }
  void restart() {
    meter.present(of.path, -static_cast<int64_t>(have));
    file.truncate_to(0);
    have = 0;
    resumed = false;
    begin_digest();
  }
  void add(std::string_view bytes) {
    if (of.size && have + bytes.size() > *of.size)
      throw Error("{}: the server sends more than the {} bytes it announced", of.path, *of.size);
    file.write(bytes);
    if (digest) digest->update(bytes);
    have += bytes.size();
    meter.received(of.path, bytes.size());
  }

  File file;
  const RepoFile& of;
  ProgressMeter& meter;
  std::optional<Digest> digest;
  uint64_t have = 0;
  bool resumed = false;  // put together from more than one answer
};

BlobDownload::BlobDownload(const HubSettings& settings, const HubModel& model,
                           const std::string& commit, const RepoCache& cache, const RepoFile& file,
                           ProgressMeter& meter)
    : settings_(settings),
      model_(model),
      commit_(commit),
      cache_(cache),
      file_(file),
      meter_(meter),
      name_(model.id + "/" + file.path) {}

void BlobDownload::run(HttpClient& http, const std::stop_token& stop) {
  const fs::path blob = cache_.blob(file_.etag);
  const FileLock lock(cache_.lock(file_.etag), stop);
  std::error_code error;
  if (fs::is_regular_file(blob, error) &&
      (!file_.size || fs::file_size(blob, error) == *file_.size)) {
    meter_.present(file_.path, static_cast<int64_t>(file_.size.value_or(0)));
    return;
  }
  make_folders(blob.parent_path());
  const fs::path partial = cache_.partial(file_.etag);
  Part part(partial, file_, meter_, stop);
  for (bool second = false;; second = true) {
    fetch(http, part, stop);
    const bool resumed = part.resumed && !second;
    const std::string fault = wrong(part);
    if (fault.empty()) break;
    part.restart();
    // What was put together from several answers deserves one try in one piece.
    if (!resumed) {
      fs::remove(partial, error);
      throw Error("{}: {}; the damaged download was removed", name_, fault);
    }
    log::warning("{}: {}; fetching it again from the start", name_, fault);
  }
  part.file.sync();
  move_into_place(partial, blob);
}

std::string BlobDownload::wrong(Part& part) const {
  if (file_.size && part.have != *file_.size)
    return fmt::format("expected {} bytes, found {}", *file_.size, part.have);
  if (!part.digest) return "";
  const std::string found = part.digest->hex();
  if (found == file_.etag) return "";
  return fmt::format("expected {} {}, found {}", is_sha256(found) ? "SHA-256" : "git blob id",
                     file_.etag, found);
}

HttpResponse BlobDownload::request(HttpClient& http, Part& part, const std::stop_token& stop) {
  HttpRequest request;
  request.url = fmt::format("{}/{}/resolve/{}/{}", settings_.endpoint, model_.id, commit_,
                            url_quote(file_.path, true));
  request.token = settings_.token;
  if (part.have > 0) {
    part.resumed = true;
    request.headers.push_back(fmt::format("Range: bytes={}-", part.have));
    if (!is_strong(file_.etag))
      request.headers.push_back(fmt::format("If-Range: \"{}\"", file_.etag));
  }
  bool misplaced = false;
  BodySink sink;
  sink.begin = [&](const HttpResponse& response) {
    if (response.status == 206) {
      const ContentRange range(response.header("content-range"));
      misplaced =
          range.begin != part.have || (file_.size && range.total && range.total != file_.size);
    } else if (part.have > 0) {
      part.restart();  // the server sends the whole file
    }
  };
  sink.write = [&](std::string_view bytes) {
    if (!misplaced) part.add(bytes);
  };
  HttpResponse response = http.send(request, sink, stop);
  if (response.status == 416) {
    const ContentRange range(response.header("content-range"));
    if (!file_.size && range.total == part.have) return response;  // it was whole already
    misplaced = true;
  }
  if (misplaced) {
    part.restart();
    response.status = 0;
    response.transient = true;
    response.failure = "the server's range does not fit";
  }
  return response;
}

void BlobDownload::fetch(HttpClient& http, Part& part, const std::stop_token& stop) {
  for (int attempt = 1;; ++attempt) {
    if (file_.size && part.have == *file_.size) return;
    const uint64_t before = part.have;
    HttpResponse response = request(http, part, stop);
    const bool ended = response.ok() || response.status == 416;
    if (ended && (!file_.size || part.have == *file_.size)) return;
    if (ended) {
      response.failure = fmt::format("cut off after {} of {} bytes", part.have, *file_.size);
      response.status = 0;
      response.transient = true;
    }
    if (part.have >= before + kGoodProgress) attempt = 1;
    if (!settings_.retry.pause(attempt, response, stop))
      throw hub_error(settings_, model_, file_.path, response);
  }
}

HubError hub_error(const HubSettings& settings, const HubModel& model, const std::string& file,
                   const HttpResponse& response) {
  const std::string& id = model.id;
  const std::string code = response.header("x-error-code");
  const std::string has_token =
      settings.token.empty() ? "HF_TOKEN is not set" : "with the token given";
  const std::string name = file.empty() ? id : id + "/" + file;
  const auto fault = [&](bool fatal, const std::string& text) {
    return HubError(fatal, fmt::format("{}: {}{}", name, text, spoken(response)));
  };
  if (response.status == 0)
    return fault(false,
                 fmt::format("cannot be fetched from {}: {}", settings.endpoint, response.failure));
  if (code == "GatedRepo")
    return fault(
        false,
        fmt::format("the model is gated: accept its terms at {}/{} and set HF_TOKEN to a token "
                    "of that account (HTTP {}, {})",
                    settings.endpoint, id, response.status, has_token));
  if (code == "RevisionNotFound")
    return fault(true, fmt::format("no revision '{}' on {}", model.revision, settings.endpoint));
  if (code == "EntryNotFound" || (response.status == 404 && !file.empty()))
    return fault(true, fmt::format("no such file at revision '{}' on {}", model.revision,
                                   settings.endpoint));
  if (code == "RepoNotFound" || response.status == 404 || response.status == 401)
    return fault(false,
                 fmt::format("no such folder here, and on {} not found or private (HTTP {}, {})",
                             settings.endpoint, response.status, has_token));
  if (response.status == 403)
    return fault(false,
                 fmt::format("access refused by {} (HTTP 403, {})", settings.endpoint, has_token));
  if (response.status == 429)
    return fault(false,
                 fmt::format("{} refuses more requests for now (HTTP 429{})", settings.endpoint,
                             response.retry_after
                                 ? fmt::format(", try again in {} s", response.retry_after->count())
                                 : ""));
  return fault(false, fmt::format("{} answered HTTP {}", settings.endpoint, response.status));
}

}  // namespace mlxcpp::hub
