#include "embedders/reranker.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "weights/checkpoint.h"

namespace mlxcpp::embedders {
namespace {

// Qwen3-Reranker's own words (its model card): what stands around the question.
constexpr std::string_view kBefore =
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    "the Instruct provided. Note that the answer can only be \"yes\" or "
    "\"no\".<|im_end|>\n<|im_start|>user\n";
constexpr std::string_view kAfter = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

// A classification head makes a cross-encoder; a causal language model is asked.
Head head_of(const ModelFiles& files) {
  const Json config = load_config(files.folder, files.gguf);
  const bool classifies =
      config.contains("architectures") && config["architectures"].is_array() &&
      std::any_of(
          config["architectures"].begin(), config["architectures"].end(), [](const Json& a) {
            return a.is_string() && a.get<std::string>().ends_with("ForSequenceClassification");
          });
  if (classifies) return Head::scores;
  if (encoder_type(config, files.config_file()).is_language_model) return Head::tokens;
  throw Error(
      "{}: not a reranker: expected a model '...ForSequenceClassification' in config.json's "
      "'architectures', or a language model",
      files.folder.string());
}

int first_token(const Tokenizer& tokenizer, const char* word) {
  const auto ids = tokenizer.encode(word, false);
  if (ids.empty()) throw Error("the tokenizer has no token for '{}'", word);
  return ids.front();
}

}  // namespace

Reranker::Reranker(const ModelFiles& files, const LoadOptions& options)
    : model_(files, head_of(files), options) {
  if (model_.type.is_language_model) {
    yes_ = first_token(*model_.tokenizer, "yes");
    no_ = first_token(*model_.tokenizer, "no");
  } else {
    sigmoid_ = score_is_sigmoid(model_.config, files.config_file());
  }
}

Tokens Reranker::tokens(const std::string& query, const std::string& document,
                        const RerankOptions& o) const {
  if (!model_.type.is_language_model) return model_.tokens(query, document);
  const auto prompt = [&](std::string_view text) {
    return fmt::format("{}<Instruct>: {}\n<Query>: {}\n<Document>: {}{}", kBefore, o.instruction,
                       query, text, kAfter);
  };
  Tokens t{.ids = model_.tokenizer->encode(prompt(document), false)};
  const size_t limit = static_cast<size_t>(model_.max_length);
  if (t.ids.size() <= limit) return t;
  // The document is cut, never what stands after it.
  const auto after = model_.tokenizer->encode(kAfter, false);
  if (after.size() >= limit)
    throw Error("{}: the question alone has more than {} tokens", model_.where, limit);
  t.ids.resize(limit - after.size());
  t.ids.insert(t.ids.end(), after.begin(), after.end());
  return t;
}

std::vector<float> Reranker::score(const std::string& query,
                                   const std::vector<std::string>& documents,
                                   const RerankOptions& o) const {
  std::vector<Tokens> all(documents.size());
  for_each_text(documents.size(), [&](size_t i) {
    all[i] = tokens(query, documents[i], o);
    model_.check(all[i]);
    if (all[i].ids.empty()) throw Error("query and document have no tokens");
  });
  std::vector<float> out(documents.size());
  for (const auto& batch : plan_batches(all, o.batch_size)) {
    if (o.stop.stop_requested()) throw Error("stopped");
    std::vector<const Tokens*> tokens;
    for (const size_t i : batch) tokens.push_back(&all[i]);
    const PackedTokens packed(tokens);
    const auto hidden = model_.encoder->hidden(packed);
    mx::array scores = mx::zeros({0});
    if (model_.type.is_language_model) {
      const auto logits = model_.encoder->next_token_logits(hidden, packed);
      const auto logit = [&](int id) { return mx::take(logits, mx::array(id), -1); };
      scores = mx::sigmoid(mx::astype(logit(yes_) - logit(no_), mx::float32));
    } else {
      scores = mx::astype(model_.encoder->scores(hidden, packed), mx::float32);
      if (sigmoid_ && !o.raw) scores = mx::sigmoid(scores);
    }
    scores = mx::contiguous(scores);
    scores.eval();
    for (size_t row = 0; row < batch.size(); ++row) out[batch[row]] = scores.data<float>()[row];
  }
  return out;
}

std::vector<size_t> best_first(const std::vector<float>& scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  return order;
}

}  // namespace mlxcpp::embedders
