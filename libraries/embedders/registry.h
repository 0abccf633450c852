#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "embedders/pooling.h"

namespace mlxcpp::embedders {

// What config.json's "model_type" stands for.
struct EncoderType {
  std::string_view name;
  EncoderCreator make;
  Pooling pooling = Pooling::mean;  // where a checkpoint does not say
  // The type is a language model's, too: without sentence-transformers' files a checkpoint is that.
  bool is_language_model = false;
};

// All there are, by name.
const std::vector<EncoderType>& encoder_types();
// That of a config.json, read from `where`. Throws an Error that names the nearest.
const EncoderType& encoder_type(const Json& config, std::string_view where);

}  // namespace mlxcpp::embedders
