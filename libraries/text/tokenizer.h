#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace mlxcpp {

// Text <-> token ids, and chat templates, over the Rust crates `tokenizers` and `minijinja`.
// Immutable once made and safe to use from any thread.
class Tokenizer {
 public:
  // A folder with tokenizer.json, or vocab.json + merges.txt, or tokenizer.model (SentencePiece);
  // tokenizer_config.json, special_tokens_map.json, chat_template.jinja/.json,
  // generation_config.json beside it.
  static std::shared_ptr<const Tokenizer> from_folder(const std::filesystem::path& folder);
  // The metadata of a GGUF file (keys "tokenizer.ggml.*", "tokenizer.chat_template") as JSON.
  static std::shared_ptr<const Tokenizer> from_gguf(const Json& metadata);

  std::vector<int> encode(std::string_view text, bool add_special_tokens = true) const;
  std::string decode(std::span<const int> ids, bool skip_special_tokens = false) const;

  int vocab_size() const;  // with added tokens
  std::optional<int> token_to_id(std::string_view token) const;
  std::string id_to_token(int id) const;
  std::optional<int> bos() const;
  std::vector<int> eos() const;  // every id that ends an answer: tokenizer's, generation_config's

  bool has_chat_template() const;
  // The rendered prompt. `messages` and `context` (tools, documents, add_generation_prompt,
  // continue_final_message, and the template's own arguments such as enable_thinking) as
  // transformers' apply_chat_template takes them.
  std::string apply_chat_template(const Json& messages, const Json& context = Json::object()) const;

  ~Tokenizer();

 private:
  Tokenizer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Ids to text piece by piece; never emits half a character (emoji, CJK, combining marks, byte
// fallback).
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer,
                                bool skip_special_tokens = true);
  std::string add(int id);  // the text that this id completes, maybe empty
  std::string finish();     // what is left at the end

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_tokens_;
  std::vector<int> pending_;
  std::string emitted_;
};

}  // namespace mlxcpp
