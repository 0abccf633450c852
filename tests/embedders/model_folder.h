#pragma once

#include "embedders/embedder.h"
#include "support/temp_folder.h"
#include "tests/support/paths.h"

namespace mlxcpp::embedders::test {

inline std::filesystem::path fixture(const std::string& name) {
  return mlxcpp::test::golden_folder() / "embedders" / name;
}

// A copy of a fixture, to be changed.
class ModelFolder : public mlxcpp::test::TempFolder {
 public:
  explicit ModelFolder(const std::string& name) {
    std::filesystem::copy(fixture(name), path(), std::filesystem::copy_options::recursive);
  }
  ModelFiles files() const { return {path(), {}}; }
  // Sets a field of a JSON file; null takes it out.
  void set(const std::string& file, const std::string& key, const Json& value) const {
    Json json = read_json(path() / file);
    if (value.is_null())
      json.erase(key);
    else
      json[key] = value;
    write(file, json.dump());
  }
  void remove(const std::string& file) const { std::filesystem::remove_all(path() / file); }
};

}  // namespace mlxcpp::embedders::test
