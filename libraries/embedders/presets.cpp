#include "embedders/presets.h"

#include <algorithm>

namespace mlxcpp::embedders {
namespace {

// What model cards say and config_sentence_transformers.json does not. The first row whose text the
// id holds.
struct CardPrompts {
  std::string_view id, query, document;
};
constexpr std::string_view kRepresent = "Represent this sentence for searching relevant passages: ";
constexpr CardPrompts kCards[] = {
    {"BAAI/bge-m3", "", ""},
    {"BAAI/bge-", kRepresent, ""},
    {"Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""},
    {"Snowflake/snowflake-arctic-embed", kRepresent, ""},
    {"intfloat/multilingual-e5-large-instruct",
     "Instruct: Given a web search query, retrieve relevant passages that answer the "
     "query\nQuery: ",
     ""},
    {"intfloat/multilingual-e5", "query: ", "passage: "},
    {"intfloat/e5-", "query: ", "passage: "},
    {"mixedbread-ai/mxbai-embed", kRepresent, ""},
    {"nomic-embed-text", "search_query: ", "search_document: "},
    {"nomic-ai/modernbert-embed", "search_query: ", "search_document: "},
};

}  // namespace

const ModelPresets& presets() {
  static const ModelPresets table({
      {.id = "TaylorAI/bge-micro-v2"},
      {.id = "TaylorAI/gte-tiny"},
      {.id = "sentence-transformers/all-MiniLM-L6-v2"},
      {.id = "Snowflake/snowflake-arctic-embed-xs"},
      {.id = "sentence-transformers/all-MiniLM-L12-v2"},
      {.id = "BAAI/bge-small-en-v1.5"},
      {.id = "intfloat/multilingual-e5-small"},
      {.id = "BAAI/bge-base-en-v1.5"},
      {.id = "nomic-ai/nomic-embed-text-v1"},
      {.id = "nomic-ai/nomic-embed-text-v1.5"},
      {.id = "BAAI/bge-large-en-v1.5"},
      {.id = "Snowflake/snowflake-arctic-embed-l"},
      {.id = "BAAI/bge-m3"},
      {.id = "mixedbread-ai/mxbai-embed-large-v1"},
      // In use today.
      {.id = "Alibaba-NLP/gte-modernbert-base"},
      {.id = "Qwen/Qwen3-Embedding-0.6B"},
      {.id = "Qwen/Qwen3-Embedding-4B"},
      {.id = "Qwen/Qwen3-Embedding-8B"},
      {.id = "Snowflake/snowflake-arctic-embed-l-v2.0"},
      {.id = "Snowflake/snowflake-arctic-embed-m-v1.5"},
      {.id = "google/embeddinggemma-300m"},
      {.id = "ibm-granite/granite-embedding-30m-english"},
      {.id = "ibm-granite/granite-embedding-english-r2"},
      {.id = "intfloat/e5-base-v2"},
      {.id = "intfloat/e5-large-v2"},
      {.id = "intfloat/e5-small-v2"},
      {.id = "intfloat/multilingual-e5-base"},
      {.id = "intfloat/multilingual-e5-large"},
      {.id = "intfloat/multilingual-e5-large-instruct"},
      {.id = "nomic-ai/modernbert-embed-base"},
      {.id = "sentence-transformers/all-distilroberta-v1"},
      {.id = "sentence-transformers/multi-qa-distilbert-cos-v1"},
      {.id = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"},
      {.id = "thenlper/gte-base"},
      {.id = "thenlper/gte-large"},
      {.id = "thenlper/gte-small"},
  });
  return table;
}

const ModelPresets& reranker_presets() {
  static const ModelPresets table({
      {.id = "cross-encoder/ms-marco-MiniLM-L6-v2"},
      {.id = "cross-encoder/ms-marco-MiniLM-L12-v2"},
      {.id = "Alibaba-NLP/gte-reranker-modernbert-base"},
      {.id = "BAAI/bge-reranker-base"},
      {.id = "BAAI/bge-reranker-large"},
      {.id = "BAAI/bge-reranker-v2-m3"},
      {.id = "Qwen/Qwen3-Reranker-0.6B"},
      {.id = "Qwen/Qwen3-Reranker-4B"},
  });
  return table;
}

SearchPrompts search_prompts(std::string_view id, const SentenceConfig& config) {
  const auto own = [&](std::initializer_list<const char*> names) -> const std::string* {
    for (const char* name : names)
      if (const auto it = config.prompts.find(name); it != config.prompts.end()) return &it->second;
    return nullptr;
  };
  const std::string* query = own({"query", "search_query", "Retrieval-query"});
  const std::string* document = own({"document", "search_document", "passage"});
  SearchPrompts out{query ? *query : "", document ? *document : ""};
  if (query || document) return out;
  for (const CardPrompts& card : kCards)
    if (id.find(card.id) != std::string_view::npos)
      return {std::string(card.query), std::string(card.document)};
  return out;
}

}  // namespace mlxcpp::embedders
