#include "hub/repo_cache.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>
#include <map>
#include <system_error>

#include <fmt/format.h>

#include "core/log.h"
#include "hub/file.h"

namespace fs = std::filesystem;

namespace mlxcpp::hub {
namespace {

constexpr size_t kMaxPath = 1024;
constexpr int kListingFormat = 1;
constexpr std::string_view kCacheTag =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Backup programs may leave this folder out: https://bford.info/cachedir/\n";

bool is_hex(const std::string& text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// A string, or an empty one where the field is absent or something else.
std::string text_of(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

std::optional<uint64_t> size_of(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_number_unsigned()) return std::nullopt;
  return it->get<uint64_t>();
}

// The hub's ETag of a file is its SHA-256, when in large-file storage, else git's blob id.
void set_etag(RepoFile& file) {
  if (is_sha256(file.sha256))
    file.etag = file.sha256;
  else if (file.sha256.empty() && is_commit(file.blob_id))
    file.etag = file.blob_id;
}

// Why `path` must not be used as a relative path; empty: it may.
std::string_view fault_of(const std::string& path) {
  if (path.empty() || path.size() > kMaxPath) return "its length";
  if (path.front() == '/') return "it is absolute";
  if (path.find('\\') != path.npos) return "a backslash";
  if (path.size() > 1 && path[1] == ':') return "a drive letter";
  if (std::any_of(path.begin(), path.end(), [](unsigned char c) { return c < 32 || c == 127; }))
    return "a control character";
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part(path.data() + begin, end - begin);
    if (part.empty() || part == "." || part == "..") return "an empty, '.' or '..' part";
    begin = end + 1;
  }
  return {};
}

// Why git has no revision of this name; empty: it may.
std::string_view fault_of_revision(const std::string& name) {
  if (const std::string_view fault = fault_of(name); !fault.empty()) return fault;
  if (name.find_first_of(" ~^:?*[") != name.npos) return "a space or one of ~^:?*[";
  if (name.find("..") != name.npos || name.find("@{") != name.npos) return "'..' or '@{'";
  return {};
}

}  // namespace

bool is_commit(const std::string& text) { return is_hex(text, 40); }
bool is_sha256(const std::string& text) { return is_hex(text, 64); }

void check_repo_path(const std::string& path, const std::string& id) {
  if (const std::string_view fault = fault_of(path); !fault.empty())
    throw Error("{}: the hub lists a file named {}, refused because of {}", id,
                describe(Json(path)), fault);
}

void check_revision(const std::string& revision, const std::string& id) {
  if (const std::string_view fault = fault_of_revision(revision); !fault.empty())
    throw Error("{}: {} cannot be a revision because of {}", id, describe(Json(revision)), fault);
}

std::string normalised_etag(const std::string& header, const std::string& where) {
  std::string etag = header.starts_with("W/") ? header.substr(2) : header;
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"')
    etag = etag.substr(1, etag.size() - 2);
  const auto plain = [](unsigned char c) {
    return c < 128 && (std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '+' || c == '=');
  };
  if (etag.empty() || etag.size() > 128 || etag.front() == '.' ||
      !std::all_of(etag.begin(), etag.end(), plain))
    throw Error("{}: the server's ETag {} cannot name a file of the cache", where,
                describe(Json(header)));
  return etag;
}

std::vector<RepoFile> read_siblings(const Json& info, const std::string& id) {
  const auto siblings = info.is_object() ? info.find("siblings") : info.end();
  if (!info.is_object() || siblings == info.end() || !siblings->is_array())
    throw Error("{}: the hub's model info has no list 'siblings'", id);
  std::map<std::string, RepoFile> files;  // a path listed twice counts once
  for (const Json& sibling : *siblings) {
    if (!sibling.is_object() || text_of(sibling, "rfilename").empty())
      throw Error("{}: the hub's model info: expected 'rfilename' in 'siblings', found {}", id,
                  describe(sibling));
    RepoFile file;
    file.path = text_of(sibling, "rfilename");
    check_repo_path(file.path, id);
    file.size = size_of(sibling, "size");
    file.blob_id = text_of(sibling, "blobId");
    if (const auto lfs = sibling.find("lfs"); lfs != sibling.end() && lfs->is_object()) {
      file.sha256 = text_of(*lfs, "sha256");
      file.size = size_of(*lfs, "size");
    }
    set_etag(file);
    files.emplace(file.path, std::move(file));
  }
  std::vector<RepoFile> list;
  for (auto& [path, file] : files) list.push_back(std::move(file));
  return list;
}

RepoCache::RepoCache(const fs::path& cache, const std::string& id) : cache_(cache) {
  std::string name = "models--" + id;
  if (const size_t slash = name.find('/'); slash != name.npos) name.replace(slash, 1, "--");
  folder_ = cache_ / name;
}

fs::path RepoCache::blob(const std::string& etag) const { return folder_ / "blobs" / etag; }
fs::path RepoCache::partial(const std::string& etag) const {
  return folder_ / "blobs" / (etag + ".incomplete");
}
fs::path RepoCache::lock(const std::string& etag) const {
  return cache_ / ".locks" / folder_.filename() / (etag + ".lock");
}
fs::path RepoCache::snapshot(const std::string& commit) const {
  return folder_ / "snapshots" / commit;
}

std::optional<std::string> RepoCache::commit_of(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  std::ifstream in(folder_ / "refs" / revision);
  std::string commit;
  if (!(in >> commit) || !is_commit(commit)) return std::nullopt;
  return commit;
}

void RepoCache::set_commit(const std::string& revision, const std::string& commit) const {
  if (revision != commit && commit_of(revision) != commit)
    write_whole(folder_ / "refs" / revision, commit);
}

void RepoCache::tag() const {
  std::error_code ignored;
  if (!fs::exists(cache_ / "CACHEDIR.TAG", ignored))
    write_whole(cache_ / "CACHEDIR.TAG", kCacheTag);
}

std::optional<std::vector<RepoFile>> RepoCache::listing(const std::string& commit) const {
  const fs::path path = folder_ / "trees" / (commit + ".json");
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  try {
    const Json json = read_json(path);
    if (!json.is_object() || json.value("format_version", 0) != kListingFormat) return std::nullopt;
    std::vector<RepoFile> files;
    for (const auto& [name, entry] : json.at("files").items()) {
      RepoFile file;
      file.path = name;
      check_repo_path(file.path, path.string());
      file.sha256 = text_of(entry, "lfs_sha256");
      file.blob_id = text_of(entry, "blob_id");
      file.size = size_of(entry, file.sha256.empty() ? "size" : "lfs_size");
      set_etag(file);
      files.push_back(std::move(file));
    }
    return files;
  } catch (const std::exception& e) {
    log::warning("{}: a listing that cannot be used: {}", path.string(), e.what());
    return std::nullopt;
  }
}

void RepoCache::set_listing(const std::string& commit, const std::vector<RepoFile>& files) const {
  Json entries = Json::object();
  for (const RepoFile& file : files) {
    if (!file.size || file.blob_id.empty()) return;
    Json& entry = entries[file.path] = {{"size", *file.size}, {"blob_id", file.blob_id}};
    if (!file.sha256.empty()) entry.update({{"lfs_sha256", file.sha256}, {"lfs_size", *file.size}});
  }
  const Json json = {{"format_version", kListingFormat}, {"files", std::move(entries)}};
  write_whole(folder_ / "trees" / (commit + ".json"),
              json.dump(2, ' ', false, Json::error_handler_t::replace));
}

std::vector<std::string> RepoCache::files_of(const std::string& commit) const {
  std::vector<std::string> files;
  std::error_code error;
  const fs::path root = snapshot(commit);
  for (fs::recursive_directory_iterator it(root, error), end; !error && it != end;
       it.increment(error))
    if (std::error_code ignored; fs::is_regular_file(it->path(), ignored))
      files.push_back(it->path().lexically_relative(root).generic_string());
  std::sort(files.begin(), files.end());
  return files;
}

bool RepoCache::has(const std::string& commit, const RepoFile& file) const {
  std::error_code error;
  const fs::path path = snapshot(commit) / file.path;
  if (!fs::is_regular_file(path, error)) return false;
  return !file.size || (fs::file_size(path, error) == *file.size && !error);
}

uint64_t RepoCache::bytes_to_fetch(const RepoFile& file) const {
  uint64_t bytes = file.size.value_or(0);
  for (const fs::path& path : {blob(file.etag), partial(file.etag)})
    if (std::error_code missing; fs::is_regular_file(path, missing))
      bytes -= std::min<uint64_t>(bytes, fs::file_size(path, missing));
  return bytes;
}

void RepoCache::link(const std::string& commit, const RepoFile& file) const {
  const fs::path pointer = snapshot(commit) / file.path;
  make_folders(pointer.parent_path());
  const fs::path target = blob(file.etag).lexically_relative(pointer.parent_path());
  std::error_code error;
  if (fs::read_symlink(pointer, error) == target && !error) return;
  fs::remove(pointer, error);
  fs::create_symlink(target, pointer, error);
  if (!error || error == std::errc::file_exists) return;  // another process made the same link
  // A file system without symlinks: the file itself lies in the snapshot, as in huggingface_hub.
  log::debug("{}: no symlink: {}", pointer.string(), error.message());
  move_into_place(blob(file.etag), pointer);
}

}  // namespace mlxcpp::hub
