#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "core/json.h"
#include "nn/module.h"

namespace mlxcpp::embedders {

namespace mx = mlx::core;

// The tokens of one text, or of a pair of texts.
struct Tokens {
  std::vector<int> ids;
  std::vector<int> type_ids = {};  // which text of a pair, 0 or 1; empty: all 0
  int prompt = 0;                  // so many at the beginning are of the prompt
};

// Texts one after the other, without padding: T tokens in all.
struct PackedTokens {
  mx::array ids;             // int32 [T]
  mx::array type_ids;        // int32 [T]
  mx::array positions;       // int32 [T], of each token within its text
  std::vector<int> lengths;  // of each text; none is 0
  bool pairs = false;        // some type id is not 0

  explicit PackedTokens(std::span<const Tokens* const> texts);
  int texts() const { return static_cast<int>(lengths.size()); }
  mx::array first_tokens() const;  // int32 [texts], numbers of tokens
  mx::array last_tokens() const;
};

// A model that turns tokens into vectors. One thread at a time.
class TextEncoder {
 public:
  virtual ~TextEncoder() = default;

  // The parameters: what checkpoints are loaded into and quantisation replaces layers of.
  virtual nn::Module& module() = 0;
  virtual int hidden_size() const = 0;
  // Tokens that a text may have at most.
  virtual int max_length() const = 0;
  virtual int vocab_size() const = 0;

  // -> [T, hidden], the last layer's output.
  virtual mx::array hidden(const PackedTokens& tokens) const = 0;
  // Of an encoder made with Head::scores, from hidden(): one logit each text, [texts].
  virtual mx::array scores(const mx::array& hidden, const PackedTokens& tokens) const;
  // Of a causal language model, from hidden(): the logits after each text, [texts, vocab].
  virtual mx::array next_token_logits(const mx::array& hidden, const PackedTokens& tokens) const;

  // The layers that stay in floats when the others are quantised on loading: those that make
  // values (blocks/careful.h).
  virtual std::vector<const nn::Module*> kept_in_floats() const { return {}; }

  // Published names -> the tree's names, without what is not used.
  virtual nn::Weights sanitize(nn::Weights weights) const { return weights; }
};

// What stands on the encoder.
enum class Head {
  none,    // embeddings
  scores,  // the checkpoint's classification head with one label (cross-encoders)
  tokens,  // a language model's own (next_token_logits)
};

using EncoderCreator = std::function<std::unique_ptr<TextEncoder>(const Json& config, Head head)>;

template <class Config>
EncoderCreator creator(std::unique_ptr<TextEncoder> (*make)(const Config&, Head)) {
  return [make](const Json& json, Head head) { return make(read_config<Config>(json), head); };
}

}  // namespace mlxcpp::embedders
