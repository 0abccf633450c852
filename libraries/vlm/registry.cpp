#include "vlm/registry.h"

#include "llm/registry.h"
#include "vlm/models.h"

namespace mlxcpp::vlm {
namespace {

const std::vector<ModelTypes::Entry>& entries() {
  static const std::vector<ModelTypes::Entry> table = {
      gemma3(), gemma3n(), idefics3(), paligemma(), qwen2_5_vl(), qwen2_vl(), smolvlm(),
  };
  return table;
}

}  // namespace

const ModelTypes& model_types() {
  static const ModelTypes types = [] {
    ModelTypes all = llm::model_types();
    for (const ModelTypes::Entry& entry : entries()) all.add(entry);
    return all;
  }();
  return types;
}

std::vector<std::string> media_model_types() {
  std::vector<std::string> names;
  for (const ModelTypes::Entry& entry : entries()) names.push_back(entry.name);
  return names;
}

}  // namespace mlxcpp::vlm
