#pragma once

#include <filesystem>

#include "golden/real_models.h"
#include "hub/model_source.h"

namespace mlxcpp::test {

// The GGUF file of a real model, which `mlx-run test` has fetched. Throws, and so fails the test,
// where it has not: run ./mlx-run llm-tool fetch MODEL.
inline std::filesystem::path real_model(const char* reference) {
  return resolve_model(reference, {.offline = true}).gguf.front();
}

}  // namespace mlxcpp::test
