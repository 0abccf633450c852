#include "lm_common/generate_parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

namespace mlxcpp {
namespace {

using ::testing::HasSubstr;

std::string fault(const std::function<void(GenerateParameters&)>& change) {
  GenerateParameters p;
  change(p);
  try {
    p.validate();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(GenerateParameters, DefaultsAreValid) {
  EXPECT_NO_THROW(GenerateParameters().validate());
  EXPECT_FLOAT_EQ(GenerateParameters().temperature, 0.6f);
  EXPECT_EQ(GenerateParameters().prefill_step, 512);
}

TEST(GenerateParameters, FaultsNameTheOption) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::pair<const char*, std::function<void(GenerateParameters&)>> cases[] = {
      {"max_tokens", [](auto& p) { p.max_tokens = -1; }},
      {"temperature", [](auto& p) { p.temperature = -0.1f; }},
      {"temperature", [&](auto& p) { p.temperature = nan; }},
      {"top_p", [](auto& p) { p.top_p = 1.5f; }},
      {"top_p", [&](auto& p) { p.top_p = nan; }},
      {"min_p", [](auto& p) { p.min_p = 2; }},
      {"min_tokens_to_keep", [](auto& p) { p.min_tokens_to_keep = 0; }},
      {"xtc_probability", [](auto& p) { p.xtc_probability = -1; }},
      {"xtc_threshold", [](auto& p) { p.xtc_threshold = 0.6f; }},
      {"top_k", [](auto& p) { p.top_k = -3; }},
      {"logit_bias", [](auto& p) { p.logit_bias[-2] = 1; }},
      {"logit_bias", [&](auto& p) { p.logit_bias[2] = nan; }},
      {"repetition_penalty", [](auto& p) { p.repetition_penalty = 0; }},
      {"repetition_context_size", [](auto& p) { p.repetition_context_size = -1; }},
      {"presence_penalty", [&](auto& p) { p.presence_penalty = nan; }},
      {"frequency_penalty", [&](auto& p) { p.frequency_penalty = nan; }},
      {"stop", [](auto& p) { p.stop = {"a", ""}; }},
      {"prefill_step", [](auto& p) { p.prefill_step = 0; }},
      {"max_kv_size", [](auto& p) { p.max_kv_size = 0; }},
      {"kv_bits", [](auto& p) { p.kv_bits = 5; }},
      {"kv_group_size", [](auto& p) { p.kv_group_size = 63; }},
      {"quantized_kv_start", [](auto& p) { p.quantized_kv_start = -1; }},
  };
  for (const auto& [option, change] : cases) EXPECT_THAT(fault(change), HasSubstr(option));
}

TEST(GenerateParameters, CacheOptions) {
  GenerateParameters p;
  p.max_kv_size = 100;
  p.kv_bits = 4;
  p.kv_group_size = 32;
  p.quantized_kv_start = 7;
  const CacheOptions c = p.cache_options();
  EXPECT_EQ(c.max_size, 100);
  EXPECT_EQ(c.bits, 4);
  EXPECT_EQ(c.group_size, 32);
  EXPECT_EQ(c.quantized_start, 7);
}

}  // namespace
}  // namespace mlxcpp
