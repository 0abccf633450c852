#include "golden/kinds.h"

#include "golden/vlm.h"

namespace mlxcpp::golden {
namespace {

// Fixtures of a kind lie together in a folder of that name.
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
    // A bound of its own.
    {"vision_tower",
     [](const fs::path& p) { return lies_in(p, "vlm") && !fs::exists(p / "tokenizer.json"); },
     compare_vision_tower, Tolerance{}},
    {"vlm", [](const fs::path& p) { return lies_in(p, "vlm"); }, compare_vision_language_model},
    // The tolerances of a Stable Diffusion fixture are its own, one each part.
    {"sd", [](const fs::path& p) { return lies_in(p, "sd"); }, compare_stable_diffusion,
     Tolerance{.abs = 1e-4, .rel = 0}},
    // Real models: near ties under 1e-3 (ten times this) are set aside.
    {"real", [](const fs::path& p) { return lies_in(p, "real"); }, compare_real,
     Tolerance{.abs = 1e-4, .rel = 0}},
};

}  // namespace

const Kind* kind_of(const fs::path& fixture) {
  for (const Kind& kind : kKinds)
    if (kind.matches(fixture)) return &kind;
  return nullptr;
}

}  // namespace mlxcpp::golden
