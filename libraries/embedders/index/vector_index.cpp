#include "embedders/index/vector_index.h"

#include <algorithm>
#include <cstring>
#include <queue>

#include "core/error.h"
#include "kernels/linear.h"

namespace mlxcpp::embedders {
namespace {

constexpr int64_t kApplication = 0x6D6C7876;  // "mlxv", SQLite's application_id
constexpr int64_t kVersion = 1;               // of the tables
constexpr int kBlock = 4096;                  // vectors compared at once

std::span<const std::byte> bytes_of(const float* values, int n) {
  return std::as_bytes(std::span(values, static_cast<size_t>(n)));
}

}  // namespace

VectorIndex::VectorIndex(const std::filesystem::path& file, const VectorMaker& maker, bool rebuild)
    : db_(file), dimension_(maker.dimension) {
  if (maker.dimension < 1) throw Error("an index of vectors of {} numbers", maker.dimension);
  // What is killed in the middle of a write is undone by SQLite from its journal.
  db_.run("PRAGMA foreign_keys = ON");
  const bool empty = db_.number("SELECT count(*) FROM sqlite_master") == 0;
  const int64_t application = db_.number("PRAGMA application_id");
  if (empty) {
    make(maker);
    return;
  }
  if (application != kApplication)
    throw Error("{}: a database of another program, not an index", file.string());
  if (const int64_t version = db_.number("PRAGMA user_version"); version != kVersion)
    throw Error("{}: an index of version {}, expected {}; remove it to make a new one",
                file.string(), version, kVersion);
  VectorMaker found;
  {
    Statement s(db_, "SELECT model, dimension FROM maker");
    if (!s.step()) throw Error("{}: the index does not say what made it", file.string());
    found = {s.text(0), static_cast<int>(s.number(1))};
  }
  if (found.model == maker.model && found.dimension == maker.dimension) return;
  if (!rebuild)
    throw Error("{}: made by {} with {} numbers a vector, asked for {} with {}", file.string(),
                found.model, found.dimension, maker.model, maker.dimension);
  Transaction all(db_);
  db_.run("DELETE FROM files");
  Statement s(db_, "UPDATE maker SET model = ?1, dimension = ?2");
  s.bind(1, maker.model).bind(2, maker.dimension).run();
  all.commit();
}

void VectorIndex::make(const VectorMaker& maker) {
  Transaction all(db_);
  db_.run(
      "CREATE TABLE maker(model TEXT NOT NULL, dimension INTEGER NOT NULL);"
      "CREATE TABLE files(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE,"
      "  size INTEGER NOT NULL, modified INTEGER NOT NULL);"
      "CREATE TABLE chunks(id INTEGER PRIMARY KEY,"
      "  file INTEGER NOT NULL REFERENCES files(id) ON DELETE CASCADE,"
      "  first_line INTEGER NOT NULL, last_line INTEGER NOT NULL, text TEXT NOT NULL);"
      "CREATE INDEX chunks_of_file ON chunks(file);"
      // Apart from the texts, so that a search reads vectors only.
      "CREATE TABLE vectors(chunk INTEGER PRIMARY KEY REFERENCES chunks(id) ON DELETE CASCADE,"
      "  vector BLOB NOT NULL);");
  db_.run(fmt::format("PRAGMA application_id = {}", kApplication).c_str());
  db_.run(fmt::format("PRAGMA user_version = {}", kVersion).c_str());
  Statement(db_, "INSERT INTO maker VALUES(?1, ?2)")
      .bind(1, maker.model)
      .bind(2, maker.dimension)
      .run();
  all.commit();
}

int64_t VectorIndex::files() { return db_.number("SELECT count(*) FROM files"); }
int64_t VectorIndex::chunks() { return db_.number("SELECT count(*) FROM chunks"); }

std::vector<IndexedFile> VectorIndex::list() {
  std::vector<IndexedFile> out;
  Statement s(db_, "SELECT path, size, modified FROM files ORDER BY path");
  while (s.step()) out.push_back({s.text(0), s.number(1), s.number(2)});
  return out;
}

void VectorIndex::update(const std::vector<FileVectors>& add,
                         const std::vector<std::string>& remove) {
  for (const FileVectors& f : add)
    if (f.vectors.size() != f.chunks.size() * static_cast<size_t>(dimension_))
      throw Error("{}: {} numbers for {} vectors of {}", f.file.path, f.vectors.size(),
                  f.chunks.size(), dimension_);
  Transaction all(db_);
  Statement drop(db_, "DELETE FROM files WHERE path = ?1");
  for (const std::string& path : remove) drop.bind(1, path).run();
  Statement file(db_, "INSERT INTO files(path, size, modified) VALUES(?1, ?2, ?3)");
  Statement chunk(db_,
                  "INSERT INTO chunks(file, first_line, last_line, text) VALUES(?1, ?2, ?3, ?4)");
  Statement vector(db_, "INSERT INTO vectors(chunk, vector) VALUES(?1, ?2)");
  for (const FileVectors& f : add) {
    drop.bind(1, f.file.path).run();
    file.bind(1, f.file.path).bind(2, f.file.size).bind(3, f.file.modified).run();
    const int64_t id = db_.last_row();
    const float* numbers = f.vectors.data();
    for (const Chunk& c : f.chunks) {
      chunk.bind(1, id).bind(2, c.first_line).bind(3, c.last_line).bind(4, c.text).run();
      vector.bind(1, db_.last_row()).bind(2, bytes_of(numbers, dimension_)).run();
      numbers += dimension_;
    }
  }
  all.commit();
}

std::vector<Hit> VectorIndex::search(const mx::array& query, int count) {
  if (query.shape() != mx::Shape{dimension_})
    throw Error("a query of {} numbers, the index has vectors of {}", query.size(), dimension_);
  if (count < 1) throw Error("{} results were asked for; expected 1 or more", count);
  const auto wanted = mx::reshape(mx::astype(query, mx::float32), {1, dimension_});
  using Found = std::pair<float, int64_t>;  // score, minus the chunk's id: the first of equal ones
  std::priority_queue<Found, std::vector<Found>, std::greater<>> best;

  std::vector<float> block;
  std::vector<int64_t> ids;
  const auto compare = [&] {
    if (ids.empty()) return;
    const int n = static_cast<int>(ids.size());
    auto scores = kernels::linear(wanted, mx::array(block.data(), {n, dimension_}, mx::float32));
    scores.eval();
    for (int i = 0; i < n; ++i) {
      best.emplace(scores.data<float>()[i], -ids[i]);
      if (best.size() > static_cast<size_t>(count)) best.pop();
    }
    block.clear();
    ids.clear();
  };
  Statement vectors(db_, "SELECT chunk, vector FROM vectors");
  while (vectors.step()) {
    const auto blob = vectors.blob(1);
    if (blob.size() != sizeof(float) * static_cast<size_t>(dimension_))
      throw Error("{}: a vector of {} bytes, expected {}", db_.path().string(), blob.size(),
                  sizeof(float) * static_cast<size_t>(dimension_));
    ids.push_back(vectors.number(0));
    block.resize(block.size() + static_cast<size_t>(dimension_));
    std::memcpy(block.data() + block.size() - dimension_, blob.data(), blob.size());
    if (ids.size() == kBlock) compare();
  }
  compare();

  std::vector<Hit> hits;
  Statement chunk(db_,
                  "SELECT path, first_line, last_line, text FROM chunks JOIN files ON "
                  "files.id = chunks.file WHERE chunks.id = ?1");
  for (; !best.empty(); best.pop()) {
    const auto [score, id] = best.top();
    chunk.bind(1, -id);
    if (!chunk.step()) throw Error("{}: a vector without its text", db_.path().string());
    hits.push_back(
        {score,
         chunk.text(0),
         {chunk.text(3), static_cast<int>(chunk.number(1)), static_cast<int>(chunk.number(2))}});
    chunk.reset();
  }
  std::reverse(hits.begin(), hits.end());
  return hits;
}

}  // namespace mlxcpp::embedders
