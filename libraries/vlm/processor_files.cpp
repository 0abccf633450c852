#include "vlm/processor_files.h"

namespace mlxcpp::vlm {

namespace fs = std::filesystem;

ProcessorFiles::ProcessorFiles(const fs::path& folder) {
  const auto load = [&](const char* name) {
    const fs::path file = folder / name;
    return Part{fs::exists(file) ? read_json(file) : Json(nullptr), file.string()};
  };
  image = load("preprocessor_config.json");
  video = load("video_preprocessor_config.json");
  processor = load("processor_config.json");
  const auto part = [&](Part& out, const char* key) {
    if (!out.json.is_null() || !processor.json.is_object()) return;
    const auto it = processor.json.find(key);
    if (it != processor.json.end() && it->is_object()) out = {*it, processor.where + ": " + key};
  };
  part(image, "image_processor");
  part(video, "video_processor");
  part(sound, "feature_extractor");
  if (image.json.is_null())
    throw Error(
        "{}: expected preprocessor_config.json, which says how pictures are prepared; it is not "
        "there",
        folder.string());
  // Older folders have one file for pictures and sound.
  if (sound.json.is_null()) sound = image;
}

}  // namespace mlxcpp::vlm
