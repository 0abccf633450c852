#include "embedders/registry.h"

#include "embedders/models.h"
#include "lm_common/model_types.h"
#include "lm_common/nearest.h"

namespace mlxcpp::embedders {

const std::vector<EncoderType>& encoder_types() {
  static const std::vector<EncoderType> types = {
      {"bert", bert()},
      {"distilbert", distilbert()},
      {"gemma3_text", gemma3_text(), Pooling::mean, true},
      {"modernbert", modernbert()},
      {"nomic_bert", nomic_bert()},
      {"qwen3", qwen3(), Pooling::last, true},
      {"roberta", roberta()},
      {"xlm-roberta", roberta()},
  };
  return types;
}

const EncoderType& encoder_type(const Json& config, std::string_view where) {
  const std::string name = model_type(config, where);
  std::vector<std::string> names;
  for (const EncoderType& type : encoder_types()) {
    if (type.name == name) return type;
    names.emplace_back(type.name);
  }
  throw Error("{}: a model of type '{}' makes no embeddings here{}; types that do: {}", where, name,
              did_you_mean(name, names), fmt::join(names, ", "));
}

}  // namespace mlxcpp::embedders
