#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "embedders/text_encoder.h"

namespace mlxcpp::embedders {

// How the vectors of a text's tokens become one.
enum class Pooling {
  mean,           // of all tokens
  cls,            // the first token's, which stands before the text
  first,          // the same of a family that has no such token
  last,           // the last token's
  max,            // the largest of each number
  mean_sqrt_len,  // the sum over the square root of their number
  weighted_mean,  // token i of n weighs i
  none,           // the tokens' vectors themselves, one row each
};

std::optional<Pooling> pooling_from_name(std::string_view name);
std::string_view name(Pooling pooling);
std::vector<std::string_view> pooling_names();

// hidden [T, hidden] -> [texts, hidden] (none: [T, hidden] as it is). `skip`: so many tokens of
// each text at its beginning take no part in what is summed or compared; empty: all do.
mx::array pool(const mx::array& hidden, const PackedTokens& tokens, Pooling pooling,
               const std::vector<int>& skip = {});

}  // namespace mlxcpp::embedders
