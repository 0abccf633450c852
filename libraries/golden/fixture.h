#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "golden/comparison.h"
#include "weights/checkpoint.h"

namespace mlxcpp::golden {

namespace fs = std::filesystem;

struct Kind;  // kinds.h

struct Fixture {
  fs::path path;               // a folder with golden.json, or the .json file itself
  const Kind* kind = nullptr;  // by its place (tests/golden/README.md) or contents; none: unknown
  std::string name() const;    // "llm/llama"
};

// Every fixture below the folders (or at the files) given, sorted by path; empty folders are
// fixtures that fail. Throws when one of those given holds none.
std::vector<Fixture> find_fixtures(const std::vector<fs::path>& roots);

// Tensors of a fixture by name; remembers which were asked for, so that none is left out of the
// comparison unnoticed.
class References {
 public:
  explicit References(const fs::path& file);
  bool has(const std::string& name) const { return tensors_.contains(name); }
  const mx::array& at(const std::string& name);  // throws if missing
  // For tensors that are knowingly not compared (another implementation's numbers).
  void skip(const std::string& name);
  std::vector<std::string> unused() const;
  std::vector<std::string> names() const;

 private:
  fs::path file_;
  std::map<std::string, mx::array> tensors_;
  std::map<std::string, bool> used_;
};

// "tolerance" of a golden.json.
Tolerance read_tolerance(const fs::path& info);

// The fixture's checkpoint: config.json and model*.safetensors, or weights.json (+ raw.safetensors)
// by its formula.
Checkpoint load_fixture_checkpoint(const fs::path& folder);

}  // namespace mlxcpp::golden
