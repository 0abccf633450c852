#include "golden/fixture.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "golden/kinds.h"
#include "golden/made_weights.h"
#include "weights/safetensors.h"

namespace mlxcpp::golden {
namespace {

// A fixture of its own, as against a file that belongs to one. A folder whose golden.json is
// missing is one, too, which fails.
bool is_fixture(const fs::path& path) {
  if (fs::is_directory(path))
    return fs::exists(path / "golden.json") || fs::exists(path / "golden.safetensors") ||
           fs::is_empty(path);
  return path.extension() == ".json" && kind_of(path);
}

void collect(const fs::path& path, std::vector<Fixture>& out) {
  if (is_fixture(path)) {
    out.push_back({path, kind_of(path)});
    return;
  }
  if (!fs::is_directory(path)) return;
  for (const auto& entry : fs::directory_iterator(path)) collect(entry.path(), out);
}

}  // namespace

std::string Fixture::name() const {
  return (path.parent_path().filename() / (fs::is_directory(path) ? path.filename() : path.stem()))
      .string();
}

std::vector<Fixture> find_fixtures(const std::vector<fs::path>& roots) {
  std::vector<Fixture> all;
  for (const auto& root : roots) {
    if (!fs::exists(root)) throw Error("{}: no such file or folder", root.string());
    const size_t before = all.size();
    if (fs::is_directory(root) && fs::is_empty(root))
      throw Error("{}: an empty folder", root.string());
    collect(fs::canonical(root), all);
    if (all.size() == before) throw Error("{}: no golden fixture here or below", root.string());
  }
  std::sort(all.begin(), all.end(),
            [](const Fixture& a, const Fixture& b) { return a.path < b.path; });
  all.erase(std::unique(all.begin(), all.end(),
                        [](const Fixture& a, const Fixture& b) { return a.path == b.path; }),
            all.end());
  return all;
}

References::References(const fs::path& file)
    : file_(file), tensors_(read_safetensors(file).tensors) {
  for (const auto& [name, tensor] : tensors_) used_[name] = false;
}

const mx::array& References::at(const std::string& name) {
  const auto it = tensors_.find(name);
  if (it == tensors_.end())
    throw Error("{}: '{}' is missing; there are: {}", file_.string(), name,
                fmt::join(names(), " "));
  used_[name] = true;
  return it->second;
}

void References::skip(const std::string& name) {
  if (has(name)) used_[name] = true;
}

std::vector<std::string> References::unused() const {
  std::vector<std::string> out;
  for (const auto& [name, used] : used_)
    if (!used) out.push_back(name);
  return out;
}

std::vector<std::string> References::names() const {
  std::vector<std::string> out;
  for (const auto& [name, used] : used_) out.push_back(name);
  return out;
}

Tolerance read_tolerance(const fs::path& file) {
  struct Fields {
    Tolerance t;
    void fields(ConfigReader& v) {
      // golden/vlm has one for each sort of thing.
      v.need(v.json().contains("logits_max_abs") ? "logits_max_abs" : "abs", t.abs);
      v.maybe("rel", t.rel);
    }
  };
  const Json info = read_json(file);
  if (!info.is_object() || !info.contains("tolerance"))
    throw Error("{}: 'tolerance' is missing", file.string());
  return read_fields<Fields>(info["tolerance"], file.string() + ": tolerance").t;
}

Checkpoint load_fixture_checkpoint(const fs::path& folder) {
  if (!fs::exists(folder / "weights.json")) return load_checkpoint(folder);
  Checkpoint c;
  c.config = read_json(folder / "config.json");
  c.quantization = read_quantization(c.config);
  c.weights = made_weights(folder);
  for (const auto& [name, w] : c.weights) c.bytes += w.nbytes();
  return c;
}

}  // namespace mlxcpp::golden
