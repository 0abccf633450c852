#include "text/tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/abi.h"
#include "text/tokenizer_files.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using text_abi::slice;

// Pieces that end an answer, whatever key names them: a GGUF file has one "eos" only.
constexpr std::array kEndings = {"<|eot_id|>",
                                 "<|eom_id|>",
                                 "<|im_end|>",
                                 "<|end|>",
                                 "<end_of_turn>",
                                 "<turn|>",
                                 "<EOT>",
                                 "<|end_of_text|>",
                                 "_<EOT>",
                                 "[EOT]",
                                 "<|endoftext|>",
                                 "</s>",
                                 "<|return|>",
                                 "<｜end▁of▁sentence｜>",
                                 "<|call|>",
                                 "<eos>",
                                 "<end_of_utterance>"};

// The vocabulary's file among those of a folder, and the crate's name of its format.
std::pair<fs::path, const char*> find_vocabulary(const fs::path& folder) {
  constexpr std::array<std::pair<const char*, const char*>, 7> kFiles = {{
      {"tokenizer.json", "tokenizer.json"},
      {"tokenizer.model", "tokenizer.model"},
      {"spiece.model", "tokenizer.model"},
      {"sentencepiece.bpe.model", "tokenizer.model"},
      {"spm.model", "tokenizer.model"},
      {"vocab.json", "vocab.json"},
      {"vocab.txt", "vocab.txt"},
  }};
  std::error_code ec;
  for (const auto& [name, format] : kFiles)
    if (fs::exists(folder / name, ec)) return {folder / name, format};
  throw Error(
      "{}: no tokenizer: expected tokenizer.json, tokenizer.model, vocab.json with merges.txt, or "
      "vocab.txt",
      folder.string());
}

// What the crate needs to know of the files beside the vocabulary.
std::string crate_config(const TokenizerFiles& files) {
  Json config = {{"class", files.tokenizer_class}, {"special_tokens", files.special_tokens}};
  const auto tokens = [](const std::vector<AddedToken>& list) {
    Json out = Json::array();
    for (const AddedToken& t : list)
      out.push_back({{"content", t.content},
                     {"special", t.special},
                     {"normalized", t.normalized},
                     {"single_word", t.single_word},
                     {"lstrip", t.lstrip},
                     {"rstrip", t.rstrip}});
    return out;
  };
  config["added_tokens"] = tokens(files.added_tokens);
  config["special"] = tokens(files.special);
  config["flags"] = Json::object();
  for (const auto& [key, value] : files.config.items())
    if (value.is_boolean()) config["flags"][key] = value;
  return config.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

struct Tokenizer::Impl {
  MlxcppTokenizer* handle = nullptr;
  std::string where;
  std::unique_ptr<ChatTemplate> chat_template;
  std::map<std::string, std::string> chat_template_texts;
  std::optional<int> bos;
  std::vector<int> eos;

  ~Impl() {
    if (handle) mlxcpp_tokenizer_delete(handle);
  }
  void add_eos(std::optional<int> id) {
    if (id && std::find(eos.begin(), eos.end(), *id) == eos.end()) eos.push_back(*id);
  }
};

Tokenizer::Tokenizer() : impl_(std::make_unique<Impl>()) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::from_folder(const fs::path& folder) {
  std::shared_ptr<Tokenizer> made(new Tokenizer());
  Impl& impl = *made->impl_;
  const TokenizerFiles files = read_tokenizer_files(folder);
  const auto [file, format] = find_vocabulary(folder);
  impl.where = file.string();
  const std::string text = read_text_file(file), config = crate_config(files);
  const std::string merges =
      std::string_view(format) == "vocab.json" ? read_text_file(folder / "merges.txt") : "";
  text_abi::call(impl.where, [&](MlxcppBuffer* error) {
    return mlxcpp_tokenizer_from_file(slice(format), slice(text), slice(merges), slice(config),
                                      &impl.handle, error);
  });
  const auto named = [&](const char* name) -> std::optional<int> {
    const auto it = files.special_tokens.find(name);
    return it == files.special_tokens.end() ? std::nullopt : made->token_to_id(it->second);
  };
  impl.bos = named("bos_token");
  impl.add_eos(named("eos_token"));
  for (const int id : files.eos_ids) impl.add_eos(id);
  impl.chat_template_texts = files.chat_templates;
  if (!files.chat_templates.empty())
    impl.chat_template = std::make_unique<ChatTemplate>(files.chat_templates, files.special_tokens,
                                                        files.chat_template_where);
  return made;
}

std::shared_ptr<const Tokenizer> Tokenizer::from_gguf(const GgufVocabulary& vocabulary) {
  std::shared_ptr<Tokenizer> made(new Tokenizer());
  Impl& impl = *made->impl_;
  impl.where = vocabulary.where;

  Json options = {{"model", vocabulary.model}, {"pre", vocabulary.pre}};
  for (const auto& [name, id] : vocabulary.ids) {
    if (id < 0 || static_cast<size_t>(id) >= vocabulary.tokens.size())
      throw Error("{}: tokenizer.ggml.{}_token_id is {}, beyond the {} tokens", impl.where, name,
                  id, vocabulary.tokens.size());
    options["ids"][name] = id;
  }
  for (const auto& [name, on] : vocabulary.flags) options["flags"][name] = on;
  const std::string option_text = options.dump(-1, ' ', false, Json::error_handler_t::replace);

  std::vector<MlxcppSlice> tokens, merges;
  tokens.reserve(vocabulary.tokens.size());
  merges.reserve(vocabulary.merges.size());
  for (const std::string_view piece : vocabulary.tokens) tokens.push_back(slice(piece));
  for (const std::string_view merge : vocabulary.merges) merges.push_back(slice(merge));
  const MlxcppGgufArrays arrays{.tokens = tokens.data(),
                                .num_tokens = tokens.size(),
                                .scores = vocabulary.scores.data(),
                                .num_scores = vocabulary.scores.size(),
                                .types = vocabulary.types.data(),
                                .num_types = vocabulary.types.size(),
                                .merges = merges.data(),
                                .num_merges = merges.size(),
                                .charsmap = slice(vocabulary.precompiled_charsmap)};
  text_abi::call(impl.where, [&](MlxcppBuffer* error) {
    return mlxcpp_tokenizer_from_gguf(slice(option_text), &arrays, &impl.handle, error);
  });

  const auto id_of = [&](const char* name) -> std::optional<int> {
    const auto it = vocabulary.ids.find(name);
    return it == vocabulary.ids.end() ? std::nullopt : std::optional(it->second);
  };
  impl.bos = id_of("bos");
  for (const char* name : {"eos", "eot", "eom"}) impl.add_eos(id_of(name));
  for (const char* piece : kEndings)
    if (const auto id = made->token_to_id(piece); id && made->is_special(*id)) impl.add_eos(id);
  impl.chat_template_texts = vocabulary.chat_templates;
  if (!vocabulary.chat_templates.empty()) {
    std::map<std::string, std::string> special_tokens;
    for (const auto& [key, name] : std::map<const char*, const char*>{{"bos", "bos_token"},
                                                                      {"eos", "eos_token"},
                                                                      {"unknown", "unk_token"},
                                                                      {"padding", "pad_token"},
                                                                      {"seperator", "sep_token"},
                                                                      {"cls", "cls_token"},
                                                                      {"mask", "mask_token"}})
      if (const auto id = id_of(key)) special_tokens[name] = vocabulary.tokens[*id];
    impl.chat_template = std::make_unique<ChatTemplate>(vocabulary.chat_templates, special_tokens,
                                                        impl.where + ": tokenizer.chat_template");
  }
  return made;
}

std::vector<int> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  text_abi::Buffer ids;
  text_abi::call(impl_->where, [&](MlxcppBuffer* error) {
    return mlxcpp_tokenizer_ids(impl_->handle, slice(text), add_special_tokens, ids.out(), error);
  });
  return {ids.words().begin(), ids.words().end()};
}

Encoding Tokenizer::encode_with_ranges(std::string_view text, std::optional<std::string_view> pair,
                                       bool add_special_tokens) const {
  text_abi::Buffer buffer;
  const MlxcppSlice second = slice(pair.value_or(""));
  text_abi::call(impl_->where, [&](MlxcppBuffer* error) {
    return mlxcpp_tokenizer_encode(impl_->handle, slice(text), pair ? &second : nullptr,
                                   add_special_tokens, buffer.out(), error);
  });
  Encoding encoding;
  const auto rows = buffer.words();
  for (size_t i = 0; i < rows.size(); i += 4) {
    encoding.ids.push_back(static_cast<int>(rows[i]));
    encoding.type_ids.push_back(static_cast<int>(rows[i + 1]));
    encoding.ranges.push_back({rows[i + 2], rows[i + 3]});
  }
  return encoding;
}

std::string Tokenizer::decode(std::span<const int> ids, bool skip_special_tokens) const {
  // A negative id becomes one that no vocabulary has.
  const std::vector<uint32_t> words(ids.begin(), ids.end());
  text_abi::Buffer text;
  text_abi::call(impl_->where, [&](MlxcppBuffer* error) {
    return mlxcpp_tokenizer_decode(impl_->handle, words.data(), words.size(), skip_special_tokens,
                                   text.out(), error);
  });
  return text.text();
}

std::string Tokenizer::to_json() const {
  text_abi::Buffer text;
  text_abi::call(impl_->where, [&](MlxcppBuffer* error) {
    return mlxcpp_tokenizer_to_json(impl_->handle, text.out(), error);
  });
  return text.text();
}

int Tokenizer::vocab_size() const {
  return static_cast<int>(mlxcpp_tokenizer_vocab_size(impl_->handle));
}

std::optional<int> Tokenizer::token_to_id(std::string_view token) const {
  const int64_t id = mlxcpp_tokenizer_token_to_id(impl_->handle, slice(token));
  return id < 0 ? std::nullopt : std::optional(static_cast<int>(id));
}

std::string Tokenizer::id_to_token(int id) const {
  text_abi::Buffer text;
  const auto word = static_cast<uint32_t>(id);
  return mlxcpp_tokenizer_id_to_token(impl_->handle, word, text.out()) == 0 ? text.text() : "";
}

bool Tokenizer::is_special(int id) const {
  return mlxcpp_tokenizer_is_special(impl_->handle, static_cast<uint32_t>(id));
}

std::optional<int> Tokenizer::bos() const { return impl_->bos; }
std::vector<int> Tokenizer::eos() const { return impl_->eos; }
bool Tokenizer::has_chat_template() const { return impl_->chat_template != nullptr; }

std::string Tokenizer::chat_template(bool with_tools) const {
  const auto& texts = impl_->chat_template_texts;
  if (with_tools)
    if (const auto it = texts.find("tool_use"); it != texts.end()) return it->second;
  const auto it = texts.find("default");
  return it != texts.end() ? it->second : texts.empty() ? "" : texts.begin()->second;
}

std::string Tokenizer::apply_chat_template(const OrderedJson& messages,
                                           const OrderedJson& context) const {
  if (!impl_->chat_template)
    throw Error("{}: the model has no chat template; give the prompt as plain text", impl_->where);
  return impl_->chat_template->render(messages, context);
}

struct StreamingDetokenizer::Impl {
  std::shared_ptr<const Tokenizer> tokenizer;
  MlxcppDetokenizer* handle;

  Impl(std::shared_ptr<const Tokenizer> t, bool skip_special)
      : tokenizer(std::move(t)), handle(mlxcpp_detokenizer_new(skip_special)) {}
  ~Impl() { mlxcpp_detokenizer_delete(handle); }

  std::string step(int64_t id) {
    text_abi::Buffer text;
    text_abi::call(tokenizer->impl_->where, [&](MlxcppBuffer* error) {
      return mlxcpp_detokenizer_add(handle, tokenizer->impl_->handle, id, text.out(), error);
    });
    return text.text();
  }
};

StreamingDetokenizer::StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer,
                                           bool skip_special_tokens)
    : impl_(std::make_unique<Impl>(std::move(tokenizer), skip_special_tokens)) {}
StreamingDetokenizer::~StreamingDetokenizer() = default;
StreamingDetokenizer::StreamingDetokenizer(StreamingDetokenizer&&) noexcept = default;
StreamingDetokenizer& StreamingDetokenizer::operator=(StreamingDetokenizer&&) noexcept = default;

std::string StreamingDetokenizer::add(int id) { return impl_->step(static_cast<uint32_t>(id)); }
std::string StreamingDetokenizer::finish() { return impl_->step(-1); }

}  // namespace mlxcpp
