#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "embedders/index/chunks.h"
#include "embedders/index/database.h"

namespace mlxcpp::embedders {

namespace mx = mlx::core;

// What made the vectors. Those of two makers cannot be compared.
struct VectorMaker {
  std::string model;  // its name, and all else that changes vectors (prompt, pooling, ...)
  int dimension = 0;
};

struct IndexedFile {
  std::string path;
  int64_t size = 0, modified = 0;  // bytes, and the time of the last change in nanoseconds
};

struct FileVectors {
  IndexedFile file;
  std::vector<Chunk> chunks;
  std::vector<float> vectors;  // [chunks, dimension]
};

struct Hit {
  float score = 0;  // the product of the vectors: the cosine, for those of length 1
  std::string path;
  Chunk chunk;
};

// Parts of files and their vectors, in one SQLite file. Each change is one transaction: a process
// that is killed, or a full disk, leaves what was there before. For one thread at a time; several
// processes may use a file, one writes while the others wait.
class VectorIndex {
 public:
  // Opens an index, or makes an empty one. Error for a file that is something else or broken, and
  // for an index of another maker, unless `rebuild`, which empties it then.
  VectorIndex(const std::filesystem::path& file, const VectorMaker& maker, bool rebuild = false);

  int64_t files();
  int64_t chunks();
  std::vector<IndexedFile> list();

  // Puts files in, in place of what was there under their paths, and takes others out.
  void update(const std::vector<FileVectors>& add, const std::vector<std::string>& remove = {});

  // The `count` parts nearest to a vector [dimension], best first. Every vector is looked at, a
  // block at a time.
  std::vector<Hit> search(const mx::array& query, int count);

 private:
  void make(const VectorMaker& maker);

  Database db_;
  int dimension_;
};

}  // namespace mlxcpp::embedders
