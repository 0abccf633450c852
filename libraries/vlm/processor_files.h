#pragma once

#include <filesystem>
#include <string>

#include "core/json.h"

namespace mlxcpp::vlm {

// What a model's folder says about how media are prepared: preprocessor_config.json,
// video_preprocessor_config.json and processor_config.json, or the last alone with the others in it
// (transformers 5). What is not there is null.
struct ProcessorFiles {
  struct Part {
    Json json = nullptr;
    std::string where;  // for messages
  };
  Part image, video, sound, processor;

  explicit ProcessorFiles(const std::filesystem::path& folder);

  // The settings of a part, or the defaults of `C` where the folder has none. Keys that C does not
  // read are for others.
  template <class C>
  static C read(const Part& part, C defaults = {}) {
    if (part.json.is_null()) return defaults;
    ConfigReader reader(part.json, part.where);
    defaults.fields(reader);
    return defaults;
  }
};

}  // namespace mlxcpp::vlm
