#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "embedders/registry.h"
#include "embedders/sentence_config.h"
#include "hub/model_source.h"
#include "kernels/quantized.h"
#include "text/tokenizer.h"

namespace mlxcpp::embedders {

struct LoadOptions {
  // Quantise the encoder's linear layers on loading, but for those that make values
  // (TextEncoder::kept_in_floats) and those whose width is no multiple of the group.
  std::optional<kernels::QuantType> quantize = {};
  std::optional<int> max_length = {};  // tokens of a text; less than the model's own bound
};

// An encoder with its tokenizer and what its folder says: what Embedder and Reranker have in
// common. Belongs to the thread that loaded it; the tokenizer may be used anywhere.
struct TextModel {
  TextModel(const ModelFiles& files, Head head, const LoadOptions& options);

  const EncoderType& type;
  Json config;  // config.json
  SentenceConfig sentence;
  std::unique_ptr<TextEncoder> encoder;
  std::shared_ptr<const Tokenizer> tokenizer;
  int max_length = 0;
  std::string where;

  // The text's tokens with those that stand around it, cut to max_length.
  Tokens tokens(std::string_view text) const;
  // The same of a pair; the longer text is cut first.
  Tokens tokens(std::string_view text, std::string_view pair) const;
  // Throws unless every id is in the vocabulary.
  void check(const Tokens& tokens) const;

 private:
  TextModel(const ModelFiles& files, Head head, const LoadOptions& options, Json config);
};

// How a list of texts is cut into batches: which texts each holds. Longest first, so that texts of
// a batch are alike and what needs most memory comes first; at most `batch_size` texts, and few
// enough tokens that memory stays bounded. Texts without tokens are in none.
std::vector<std::vector<size_t>> plan_batches(const std::vector<Tokens>& texts, int batch_size);

// f(0), ..., f(n - 1) on the threads of the pool; an Error says which text it was, counted from
// `first_number`: "text 3: ...".
void for_each_text(size_t n, const std::function<void(size_t)>& f, size_t first_number = 1);

}  // namespace mlxcpp::embedders
