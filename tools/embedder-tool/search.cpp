// embedder-tool search: passages of a folder's files that answer a query, by an index on disk that
// is brought up to date first.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <set>

#include "embedder-tool/commands.h"
#include "embedders/index/vector_index.h"
#include "hub/digest.h"
#include "hub/environment.h"
#include "support/program.h"
#include "support/terminal.h"

namespace mlxcpp::tools {
namespace {

namespace fs = std::filesystem;
using embedders::Chunk;
using embedders::FileVectors;
using embedders::IndexedFile;
using embedders::VectorIndex;

constexpr int64_t kLargestFile = int64_t{8} << 20;
constexpr size_t kChunksAtOnce = 512;  // embedded and written together

struct Options : EmbedderCommandOptions {
  std::string folder, query, database;
  std::vector<std::string> include;
  int top = 5;
  bool json = false, rebuild = false, update = true;
};

// Glob with * (also across folders) and ?.
bool matches(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, from = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++from;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool is_wanted(const Options& o, const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  return o.include.empty() ||
         std::any_of(o.include.begin(), o.include.end(), [&](const std::string& pattern) {
           return matches(pattern, path) || matches(pattern, name);
         });
}

// Regular files below the folder, by path; hidden ones, links and large files are left out.
std::map<std::string, IndexedFile> files_below(const Options& o) {
  std::map<std::string, IndexedFile> out;
  std::error_code error;
  const auto add = [&](fs::recursive_directory_iterator& it) {
    std::error_code gone;  // between listing and looking
    const bool hidden = it->path().filename().string().starts_with('.');
    if (hidden && it->is_directory(gone)) it.disable_recursion_pending();
    if (hidden || it->symlink_status(gone).type() != fs::file_type::regular) return;
    IndexedFile f{.path = it->path().lexically_relative(o.folder).generic_string()};
    if (!is_wanted(o, f.path)) return;
    f.size = static_cast<int64_t>(it->file_size(gone));
    if (gone || f.size > kLargestFile) return;
    f.modified = it->last_write_time(gone).time_since_epoch().count();
    if (!gone) out.emplace(f.path, f);
  };
  const auto check = [&] {
    if (error) throw Error("{}: cannot be read: {}", o.folder, error.message());
  };
  fs::recursive_directory_iterator it(o.folder, error), end;
  for (check(); it != end; it.increment(error), check()) add(it);
  return out;
}

// Where the index of a folder and a model lies, if nothing else was said.
fs::path default_database(const Options& o, const std::string& maker) {
  hub::Digest digest = hub::Digest::sha256();
  digest.update(fs::canonical(o.folder).string());
  digest.update(std::string_view("\0", 1));
  digest.update(maker);
  const fs::path folder = hub::mlxcpp_cache() / "index";
  fs::create_directories(folder);
  return folder / (digest.hex().substr(0, 32) + ".sqlite");
}

// Files to embed, gathered until they are worth a batch.
class Indexer {
 public:
  Indexer(VectorIndex& index, const embedders::Embedder& embedder, embedders::EmbedOptions options,
          std::function<void(int64_t bytes)> on_done)
      : index_(index),
        embedder_(embedder),
        options_(std::move(options)),
        on_done_(std::move(on_done)) {}

  void add(const fs::path& folder, const IndexedFile& file) {
    std::ifstream in(folder / file.path, std::ios::binary);
    std::string text(std::istreambuf_iterator<char>(in), {});
    FileVectors f{.file = file};
    // What is no text has no parts, but is remembered, so that it is not read again.
    if (embedders::is_text(text)) f.chunks = embedders::split_text(text);
    chunks_ += f.chunks.size();
    files_.push_back(std::move(f));
    if (chunks_ >= kChunksAtOnce) flush();
  }

  void flush(const std::vector<std::string>& remove = {}) {
    std::vector<std::string> texts;
    int64_t bytes = 0;
    for (const FileVectors& f : files_) {
      bytes += f.file.size;
      for (const Chunk& c : f.chunks) texts.push_back(c.text);
    }
    const auto vectors = embedder_.embed(texts, options_);
    const auto width = static_cast<size_t>(vectors.shape(1));
    const float* next = vectors.data<float>();
    for (FileVectors& f : files_) {
      f.vectors.assign(next, next + f.chunks.size() * width);
      next += f.chunks.size() * width;
    }
    index_.update(files_, remove);
    on_done_(bytes);
    files_.clear();
    chunks_ = 0;
  }

 private:
  VectorIndex& index_;
  const embedders::Embedder& embedder_;
  embedders::EmbedOptions options_;
  std::function<void(int64_t)> on_done_;
  std::vector<FileVectors> files_;
  size_t chunks_ = 0;
};

void bring_up_to_date(const Options& o, VectorIndex& index, const embedders::Embedder& embedder,
                      const embedders::EmbedOptions& options) {
  const auto now = files_below(o);
  std::set<std::string> current;
  std::vector<std::string> gone;
  for (const IndexedFile& f : index.list()) {
    const auto it = now.find(f.path);
    if (it == now.end())
      gone.push_back(f.path);
    else if (it->second.size == f.size && it->second.modified == f.modified)
      current.insert(f.path);
  }
  Progress progress{.file = "indexing"};
  for (const auto& [path, f] : now)
    if (!current.contains(path)) progress.total += static_cast<uint64_t>(f.size);
  if (now.size() == current.size() && gone.empty()) return;
  const auto bar = o.quiet ? std::function<void(const Progress&)>() : progress_bar(stderr);
  const auto start = std::chrono::steady_clock::now();
  Indexer indexer(index, embedder, options, [&](int64_t bytes) {
    progress.done += static_cast<uint64_t>(bytes);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    progress.bytes_per_second = static_cast<double>(progress.done) / time.count();
    if (bar) bar(progress);
  });
  for (const auto& [path, f] : now)
    if (!current.contains(path)) indexer.add(o.folder, f);
  indexer.flush(gone);
  progress.finished = true;
  if (bar) bar(progress);
}

std::string shown(const embedders::Hit& hit, const Options& o) {
  const std::string place =
      fmt::format("{}:{}", (fs::path(o.folder) / hit.path).generic_string(), hit.chunk.first_line);
  if (o.json)
    return Json{{"file", hit.path},
                {"first_line", hit.chunk.first_line},
                {"last_line", hit.chunk.last_line},
                {"score", hit.score},
                {"text", hit.chunk.text}}
               .dump(-1, ' ', false, Json::error_handler_t::replace) +
           "\n";
  constexpr size_t kLines = 4;
  std::string out = fmt::format("{:.4f}  {}\n", hit.score, place);
  size_t begin = 0;
  for (size_t line = 0; line < kLines && begin < hit.chunk.text.size(); ++line) {
    const size_t end = std::min(hit.chunk.text.find('\n', begin), hit.chunk.text.size());
    out += "        " + hit.chunk.text.substr(begin, end - begin) + "\n";
    begin = end + 1;
  }
  return out;
}

int search(const Options& o) {
  if (!fs::is_directory(o.folder)) throw Error("{}: no such folder", o.folder);
  const embedders::Embedder embedder = o.open();
  const InterruptScope interrupt;
  const kernels::PrecisionScope precision(o.compute.kernel_precision());
  embedders::EmbedOptions options = o.embed_options();
  options.normalize = true;  // so that the product of two vectors is their cosine
  options.stop = interrupt.token();
  embedders::SearchPrompts prompts{o.prompt, o.prompt};
  if (o.prompt.empty() && o.prompt_name.empty())
    prompts = embedders::search_prompts(o.model.model, embedder.model().sentence);
  embedders::EmbedOptions for_documents = options, for_query = options;
  if (o.prompt_name.empty()) {
    for_documents.prompt = prompts.document;
    for_query.prompt = prompts.query;
  }
  const embedders::VectorMaker maker{
      fmt::format("{}{}{}, prompt '{}'", o.name(), o.pooling.empty() ? "" : ", " + o.pooling,
                  o.layer_norm ? ", layer norm" : "", embedder.prompt(for_documents)),
      o.dimension.value_or(embedder.dimension())};
  const fs::path database =
      o.database.empty() ? default_database(o, maker.model) : fs::path(o.database);
  VectorIndex index(database, maker, o.rebuild);
  if (o.update) bring_up_to_date(o, index, embedder, for_documents);
  if (o.query.empty()) {
    print(
        fmt::format("{}: {} files, {} parts\n", database.string(), index.files(), index.chunks()));
    return 0;
  }
  const auto query = embedder.embed({o.query}, for_query);
  std::string out;
  for (const auto& hit : index.search(mlx::core::flatten(query), o.top)) out += shown(hit, o);
  print(out);
  o.memory.report();
  return 0;
}

}  // namespace

Command add_search(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  app.add_option("QUERY", o->query, "what to look for; without it the index is made only");
  app.add_option("--index", o->folder, "folder whose files are searched")->required();
  app.add_option("--database", o->database,
                 "file of the index [in the cache, by folder and model]");
  app.add_option("--include", o->include, "only files like this, e.g. '*.md' (repeatable)")
      ->allow_extra_args(false);
  app.add_option("--top", o->top, "results")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_flag("--update,!--no-update", o->update, "look for changed files first [yes]");
  app.add_flag("--rebuild", o->rebuild, "empty an index that another model made");
  app.add_flag("--json", o->json, "print JSON lines: file, lines, score, text");
  o->add(app);
  return [o] { return search(*o); };
}

}  // namespace mlxcpp::tools
