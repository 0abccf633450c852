// The real models as they lie in memory.
#include <algorithm>
#include <filesystem>
#include <map>

#include <gtest/gtest.h>

#include "llm/registry.h"
#include "lm_common/model_context.h"
#include "support/real_model.h"
#include "weights/gguf.h"

namespace mlxcpp::llm {
namespace {

class RealModelInMemory : public ::testing::TestWithParam<const char*> {};

TEST_P(RealModelInMemory, TakesLittleMoreThanItsFile) {
  const std::filesystem::path file = test::real_model(GetParam());
  const auto model = make_language_model(load_checkpoint(GgufFile(file)), model_types());
  std::map<const void*, size_t> buffers;  // what is shared (a head that is the embedding) once
  for (auto& [path, value] : model->parameters()) {
    value.eval();
    size_t& bytes = buffers[value.data<uint8_t>()];
    bytes = std::max(bytes, value.nbytes());
  }
  size_t total = 0;
  for (const auto& [data, bytes] : buffers) total += bytes;
  const auto limit = 1.15 * static_cast<double>(std::filesystem::file_size(file));
  EXPECT_LE(static_cast<double>(total), limit);
  // Of these, what lies in the file is mapped; nothing else is kept beside it.
  EXPECT_LE(static_cast<double>(std::filesystem::file_size(file) + mx::get_active_memory()), limit);
}

INSTANTIATE_TEST_SUITE_P(, RealModelInMemory, ::testing::Values(golden::kSmolLM2, golden::kGemma3),
                         [](const auto& info) {
                           return info.param == golden::kGemma3 ? "Gemma3" : "SmolLM2";
                         });

}  // namespace
}  // namespace mlxcpp::llm
