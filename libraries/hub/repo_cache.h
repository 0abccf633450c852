#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"

namespace mlxcpp::hub {

// A file of a model on the hub, as the listing of a commit or the answer for the file describes it.
struct RepoFile {
  std::string path;              // relative, with slashes; checked by check_repo_path
  std::optional<uint64_t> size;  // bytes
  std::string blob_id;           // git's id of the blob (of the pointer, for large files)
  std::string sha256;            // of files in large-file storage
  std::string etag;              // the blob's name in the cache; empty: not known yet
};

// The part of the cache that belongs to one model, laid out as huggingface_hub does
// (file_download.py, _tree_cache.py):
//   models--org--name/blobs/ETAG                         the content, by the hub's name of it
//   models--org--name/snapshots/COMMIT/path/in/repo      relative symlinks to blobs
//   models--org--name/refs/REVISION                      the commit of a branch or tag
//   models--org--name/trees/COMMIT.json                  all files of a commit
//   .locks/models--org--name/ETAG.lock
class RepoCache {
 public:
  RepoCache(const std::filesystem::path& cache, const std::string& id);

  std::filesystem::path blob(const std::string& etag) const;
  std::filesystem::path partial(const std::string& etag) const;  // what has come of the blob
  std::filesystem::path lock(const std::string& etag) const;
  std::filesystem::path snapshot(const std::string& commit) const;

  // A revision that is a commit stands for itself; a branch or tag is looked up in refs.
  std::optional<std::string> commit_of(const std::string& revision) const;
  void set_commit(const std::string& revision, const std::string& commit) const;

  // Marks the whole cache for backup programs (CACHEDIR.TAG).
  void tag() const;

  // The listing kept for `commit`; empty when there is none or it cannot be used.
  std::optional<std::vector<RepoFile>> listing(const std::string& commit) const;
  // Kept only when every file's size and blob id are known, as the format wants.
  void set_listing(const std::string& commit, const std::vector<RepoFile>& files) const;

  // The paths of the files that lie in the snapshot of `commit`.
  std::vector<std::string> files_of(const std::string& commit) const;
  bool has(const std::string& commit, const RepoFile& file) const;  // whole, as far as size tells
  uint64_t bytes_to_fetch(const RepoFile& file) const;              // 0 where the size is not known
  void link(const std::string& commit, const RepoFile& file) const;

 private:
  std::filesystem::path cache_, folder_;
};

bool is_commit(const std::string& text);  // 40 hexadecimal digits
bool is_sha256(const std::string& text);  // 64

// These throw for names that a hostile hub could use to write elsewhere.
void check_repo_path(const std::string& path, const std::string& id);
void check_revision(const std::string& revision, const std::string& id);
// From an ETag header: quotes and the mark of a weak tag removed. Throws unless a plain file name.
std::string normalised_etag(const std::string& header, const std::string& where);

// The files of a model info's "siblings".
std::vector<RepoFile> read_siblings(const Json& info, const std::string& id);

}  // namespace mlxcpp::hub
