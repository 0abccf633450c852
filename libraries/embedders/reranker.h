#pragma once

#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "embedders/text_model.h"

namespace mlxcpp::embedders {

struct RerankOptions {
  bool raw = false;  // a cross-encoder's logits instead of scores
  int batch_size = 32;
  std::stop_token stop = {};  // asked to stop: an Error before the next batch
  // What a language model (Qwen3-Reranker) is told to judge by.
  std::string instruction =
      "Given a web search query, retrieve relevant passages that answer the query";
};

// Scores of how well documents answer a query: by a cross-encoder (BERT, XLM-RoBERTa, DistilBERT,
// ModernBERT with a classification head of one label), whose score is its logit's sigmoid unless
// its config says otherwise; or by a language model (Qwen3) that is asked for "yes" or "no" (Qwen3
// Embedding, arXiv 2506.05176), whose score is the share of "yes". Belongs to the thread that made
// it.
class Reranker {
 public:
  // The files of a reranker. Error when they hold something else.
  explicit Reranker(const ModelFiles& files, const LoadOptions& options = {});

  const TextModel& model() const { return model_; }
  // One score each document, in their order.
  std::vector<float> score(const std::string& query, const std::vector<std::string>& documents,
                           const RerankOptions& options = {}) const;
  Tokens tokens(const std::string& query, const std::string& document,
                const RerankOptions& options) const;

 private:
  TextModel model_;
  bool sigmoid_ = false;  // of a cross-encoder's logit
  int yes_ = 0, no_ = 0;  // a language model's tokens
};

// The documents' numbers, best score first; equal ones in their order.
std::vector<size_t> best_first(const std::vector<float>& scores);

}  // namespace mlxcpp::embedders
