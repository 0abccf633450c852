// What a sentence-transformers folder says beside config.json: modules.json and the folders it
// names, sentence_bert_config.json, config_sentence_transformers.json.
// Reference: sentence_transformers 5, SentenceTransformer.py and models/.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "embedders/pooling.h"

namespace mlxcpp::embedders {

// A linear layer after pooling.
struct DenseConfig {
  std::filesystem::path folder;  // of its model.safetensors
  int in_features = 0, out_features = 0;
  bool bias = true;
  std::string activation = "tanh";  // "identity" or a name of nn::activation_from_name
};

struct SentenceConfig {
  bool has_modules = false;        // there is a modules.json
  std::vector<Pooling> pooling;    // several: their vectors one after the other; empty: not said
  bool include_prompt = true;      // the prompt's tokens take part in pooling
  std::vector<DenseConfig> dense;  // one after the other
  bool normalize = false;          // to length 1
  std::map<std::string, std::string> prompts;  // by name, to stand before a text
  std::string default_prompt_name;             // empty: none
  std::string similarity_fn_name = "cosine";   // cosine, dot, euclidean, manhattan
  std::optional<int> max_seq_length;

  // The prompt of that name; an Error that lists the names there are.
  const std::string& prompt(const std::string& name) const;
};

// Files that are absent leave their defaults. A kind of module, a key or a value that would change
// the result and is not known is an Error that names file and key.
SentenceConfig read_sentence_config(const std::filesystem::path& folder);

// What a cross-encoder's config.json says about its logit (sentence_transformers' CrossEncoder):
// whether the score is its sigmoid, which is the default.
bool score_is_sigmoid(const Json& config, const std::string& where);

}  // namespace mlxcpp::embedders
