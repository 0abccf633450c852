// A tokenizer whose tokens are characters, with a chat template: what TinyModel's 64 ids mean.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

#include "text/tokenizer.h"

namespace mlxcpp::testing {

inline constexpr int kEos = 0, kSystem = 1, kUser = 2, kAssistant = 3, kFirstLetter = 4;
inline constexpr std::string_view kLetters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,?!\n01";

inline std::vector<int> letters(std::string_view text) {
  std::vector<int> ids;
  for (const char c : text) ids.push_back(kFirstLetter + static_cast<int>(kLetters.find(c)));
  return ids;
}

inline constexpr const char* kTemplate =
    "{% for m in messages %}"
    "{% if m.role == 'system' %}<sys>{% elif m.role == 'user' %}<user>{% else %}<bot>{% endif %}"
    "{{ m.content }}<eos>{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}";
inline constexpr const char* kTemplateWithoutSystem =
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if m.role == 'user' %}<user>{% else %}<bot>{% endif %}"
    "{{ m.content }}<eos>{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}";

// chat_template: nullptr for a tokenizer without one, as a base model has. marks: special tokens
// that follow after the letters; merges: pairs that are one token, after these.
inline void write_test_tokenizer(const std::filesystem::path& folder,
                                 const char* chat_template = kTemplate,
                                 std::string_view alphabet = kLetters,
                                 const std::vector<std::string>& marks = {},
                                 const std::vector<std::vector<std::string>>& merges = {}) {
  Json vocab = {{"<eos>", kEos}, {"<sys>", kSystem}, {"<user>", kUser}, {"<bot>", kAssistant}};
  for (size_t i = 0; i < marks.size(); ++i)
    vocab[marks[i]] = kFirstLetter + static_cast<int>(alphabet.size() + i);
  Json added = Json::array();
  for (const auto& [text, id] : vocab.items())
    added.push_back({{"id", id},
                     {"content", text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  for (size_t i = 0; i < alphabet.size(); ++i)
    vocab[std::string(1, alphabet[i])] = kFirstLetter + static_cast<int>(i);
  for (const auto& pair : merges) vocab[pair[0] + pair[1]] = static_cast<int>(vocab.size());
  const Json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", added},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", nullptr},
                          {"post_processor", nullptr},
                          {"decoder", {{"type", "Fuse"}}},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", nullptr},
                            {"continuing_subword_prefix", nullptr},
                            {"end_of_word_suffix", nullptr},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"vocab", vocab},
                            {"merges", merges}}}};
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"eos_token", "<eos>"}};
  if (chat_template) config["chat_template"] = chat_template;

  std::ofstream(folder / "tokenizer.json") << tokenizer.dump();
  std::ofstream(folder / "tokenizer_config.json") << config.dump();
}

inline std::shared_ptr<const Tokenizer> test_tokenizer(
    const char* chat_template = kTemplate, std::string_view alphabet = kLetters,
    const std::vector<std::string>& marks = {},
    const std::vector<std::vector<std::string>>& merges = {}) {
  std::string name = (std::filesystem::temp_directory_path() / "mlxcpp-tokenizer-XXXXXX").string();
  if (!mkdtemp(name.data())) throw Error("cannot make a temporary folder");
  const std::filesystem::path folder = name;
  write_test_tokenizer(folder, chat_template, alphabet, marks, merges);
  auto made = Tokenizer::from_folder(folder);
  std::filesystem::remove_all(folder);
  return made;
}

}  // namespace mlxcpp::testing
