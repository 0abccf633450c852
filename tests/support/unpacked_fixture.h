#pragma once

#include <filesystem>

#include "golden/fixture.h"
#include "support/temp_folder.h"
#include "weights/safetensors.h"

namespace mlxcpp::test {

// A fixture as a plain model folder: its weights.json made into model.safetensors.
class UnpackedFixture {
 public:
  explicit UnpackedFixture(const std::filesystem::path& fixture) {
    for (const auto& entry : std::filesystem::directory_iterator(fixture))
      std::filesystem::copy_file(entry.path(), folder_ / entry.path().filename());
    write_safetensors(folder_ / "model.safetensors",
                      golden::load_fixture_checkpoint(fixture).weights, {});
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  TempFolder folder_;
};

}  // namespace mlxcpp::test
