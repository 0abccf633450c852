#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/chat_template.h"

namespace mlxcpp {

// The tokenizer in the metadata of a GGUF file: keys "tokenizer.ggml.*" and
// "tokenizer.chat_template*" (read_gguf_vocabulary in text/gguf_vocabulary.h reads them). The views
// are needed only while the tokenizer is made. Absent: the default of the model kind, as in
// llama.cpp.
struct GgufVocabulary {
  std::string where = "GGUF metadata";  // the file, for messages
  std::string model;                    // gpt2, llama, t5, bert, ...
  std::string pre;                      // how gpt2 splits words: llama-bpe, qwen2, smollm, ...
  std::vector<std::string_view> tokens;
  std::vector<std::string_view> merges;
  std::vector<float> scores;
  std::vector<int> types;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::string precompiled_charsmap;
  // Ids by the key's middle: {bos, eos, eot, eom, unknown, seperator, padding, cls, mask}_token_id.
  std::map<std::string, int> ids;
  // Flags by name: add_bos_token, add_eos_token, add_sep_token, add_space_prefix,
  // remove_extra_whitespaces, normalizer.lowercase, normalizer.strip_accents.
  std::map<std::string, bool> flags;
  std::map<std::string, std::string> chat_templates;  // "default", and those with a name
};

// Token ids, and for each where it comes from: which text (0, 1 for the second of a pair), and
// which bytes of it; none for a token that stands around the texts.
struct Encoding {
  struct Range {
    size_t begin = 0, end = 0;
    bool operator==(const Range&) const = default;
  };
  std::vector<int> ids, type_ids;
  std::vector<Range> ranges;
};

// Text <-> token ids, and chat templates, with the behaviour of the crates `tokenizers` and
// `minijinja`. Immutable once made and safe to use from any thread. Text is UTF-8.
class Tokenizer {
 public:
  // A folder with one of tokenizer.json, tokenizer.model (SentencePiece; also as spiece.model,
  // sentencepiece.bpe.model), vocab.json + merges.txt, vocab.txt (WordPiece), in this order; beside
  // it, where present, tokenizer_config.json, special_tokens_map.json, added_tokens.json,
  // generation_config.json, chat_template.jinja or .json, additional_chat_templates/.
  static std::shared_ptr<const Tokenizer> from_folder(const std::filesystem::path& folder);
  static std::shared_ptr<const Tokenizer> from_gguf(const GgufVocabulary& vocabulary);

  std::vector<int> encode(std::string_view text, bool add_special_tokens = true) const;
  // The same with places, of a text or a pair of texts (as rerankers take them).
  Encoding encode_with_ranges(std::string_view text,
                              std::optional<std::string_view> pair = std::nullopt,
                              bool add_special_tokens = true) const;
  // Ids that the vocabulary has not are left out.
  std::string decode(std::span<const int> ids, bool skip_special_tokens = false) const;

  // The text of a tokenizer.json with the same behaviour.
  std::string to_json() const;

  int vocab_size() const;  // with added tokens
  std::optional<int> token_to_id(std::string_view token) const;
  std::string id_to_token(int id) const;  // as the vocabulary spells it; "" when it has not the id
  bool is_special(int id) const;
  std::optional<int> bos() const;
  std::vector<int> eos() const;  // every id that ends an answer: tokenizer's, generation_config's

  bool has_chat_template() const;
  // The template's text, of "tool_use" where there is one and tools are used; none: empty.
  std::string chat_template(bool with_tools = false) const;
  // The rendered prompt; see ChatTemplate::render.
  std::string apply_chat_template(const OrderedJson& messages,
                                  const OrderedJson& context = OrderedJson::object()) const;

  ~Tokenizer();

 private:
  friend class StreamingDetokenizer;
  Tokenizer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Ids to text piece by piece, in time linear in their number; never emits half a character (emoji,
// CJK, byte fallback). The pieces together are what Tokenizer::decode gives, but that bytes which
// are no UTF-8 may give another number of U+FFFD. For one thread at a time.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer,
                                bool skip_special_tokens = true);
  ~StreamingDetokenizer();
  StreamingDetokenizer(StreamingDetokenizer&&) noexcept;
  StreamingDetokenizer& operator=(StreamingDetokenizer&&) noexcept;

  std::string add(int id);  // the text that this id completes, maybe empty
  std::string finish();     // what is left at the end

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxcpp
