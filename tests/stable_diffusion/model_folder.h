#pragma once

#include "stable_diffusion/model_source.h"
#include "support/temp_folder.h"
#include "tests/support/paths.h"
#include "weights/safetensors.h"

namespace mlxcpp::sd::test {

inline const std::filesystem::path kSd21 = mlxcpp::test::golden_folder() / "sd/sd21";
inline const std::filesystem::path kXl = mlxcpp::test::golden_folder() / "sd/sdxl_turbo";

// A copy of a fixture, to be changed.
class ModelFolder : public mlxcpp::test::TempFolder {
 public:
  explicit ModelFolder(const std::filesystem::path& from = kSd21) {
    std::filesystem::copy(from, path(), std::filesystem::copy_options::recursive);
  }
  // Sets a field of a configuration.
  void set(const std::string& file, const std::string& key, const Json& value) const {
    Json json = read_json(path() / file);
    json[key] = value;
    write(file, json.dump());
  }
};

}  // namespace mlxcpp::sd::test
