#include "golden/kinds.h"

#include <algorithm>

namespace mlxcpp::golden {
namespace {

// Fixtures of a kind lie together in a folder of that name, whatever they lack there.
bool lies_in(const fs::path& fixture, std::string_view folder) {
  return fixture.parent_path().filename() == folder;
}

const Kind kKinds[] = {
    {"adapter", [](const fs::path& p) { return lies_in(p, "llm") && fs::exists(p / "adapter"); },
     compare_adapter},
    {"llm", [](const fs::path& p) { return lies_in(p, "llm"); }, compare_language_model},
    {"gguf", [](const fs::path& p) { return lies_in(p, "gguf"); }, compare_gguf},
    {"cache", [](const fs::path& p) { return lies_in(p, "cache"); }, compare_cache},
    {"sampling", [](const fs::path& p) { return p.filename() == "sampling.json"; },
     compare_sampling},
    // Bounds of its own, one for each sort of thing.
    {"media", [](const fs::path& p) { return p.filename() == "media"; }, compare_media,
     Tolerance{}},
    {"embedders", [](const fs::path& p) { return lies_in(p, "embedders"); }, compare_embedders,
     Tolerance{}},
    // The tolerances of a Stable Diffusion fixture are its own, one each part.
    {"sd", [](const fs::path& p) { return lies_in(p, "sd"); }, compare_stable_diffusion,
     Tolerance{.abs = 1e-4, .rel = 0}},
    // Real models: near ties under 1e-3 (ten times this) are set aside.
    {"real", [](const fs::path& p) { return lies_in(p, "real"); }, compare_real,
     Tolerance{.abs = 1e-4, .rel = 0}},
};

// Has the JSON file all these keys?
bool has_keys(const fs::path& file, std::initializer_list<const char*> keys) {
  try {
    const Json json = read_json(file);
    return std::all_of(keys.begin(), keys.end(),
                       [&](const char* key) { return json.is_object() && json.contains(key); });
  } catch (const Error&) {
    return false;
  }
}

// NAME.json with its arrays or its model beside it.
bool has_twin(const fs::path& json, const char* extension) {
  return json.extension() == ".json" && fs::exists(fs::path(json).replace_extension(extension));
}

// Fixtures that lie in folders of other names are known by what they hold.
struct Content {
  std::string_view kind;
  bool (*matches)(const fs::path& fixture);
};
const Content kContents[] = {
    {"adapter", [](const fs::path& p) { return fs::exists(p / "adapter"); }},
    {"sd", [](const fs::path& p) { return fs::exists(p / "model_index.json"); }},
    {"media", [](const fs::path& p) { return has_keys(p / "golden.json", {"processors"}); }},
    {"llm",
     [](const fs::path& p) {
       return fs::exists(p / "config.json") && !has_keys(p / "golden.json", {"cases"});
     }},
    {"gguf", [](const fs::path& p) { return has_twin(p, ".gguf") && has_keys(p, {"model"}); }},
    {"cache",
     [](const fs::path& p) {
       return has_twin(p, ".safetensors") && has_keys(p, {"model", "runs"});
     }},
    {"sampling",
     [](const fs::path& p) {
       return has_twin(p, ".safetensors") && has_keys(p, {"arrays", "tolerance"});
     }},
    {"real",
     [](const fs::path& p) {
       return p.extension() == ".json" && has_keys(p, {"file", "runs", "tokenize"});
     }},
};

}  // namespace

const Kind* kind_of(const fs::path& fixture) {
  for (const Kind& kind : kKinds)
    if (kind.matches(fixture)) return &kind;
  for (const Content& content : kContents)
    if (content.matches(fixture))
      return std::find_if(std::begin(kKinds), std::end(kKinds),
                          [&](const Kind& kind) { return kind.name == content.kind; });
  return nullptr;
}

}  // namespace mlxcpp::golden
