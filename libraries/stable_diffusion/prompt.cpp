#include "stable_diffusion/prompt.h"

#include <algorithm>
#include <span>

#include "core/log.h"
#include "text/tokenizer_files.h"

namespace mlxcpp::sd {

PromptTokenizer::PromptTokenizer(const std::filesystem::path& folder)
    : tokenizer_(Tokenizer::from_folder(folder)) {
  const auto special = read_tokenizer_files(folder).special_tokens;
  const auto it = special.find("pad_token");
  const std::string pad = it == special.end() ? "<|endoftext|>" : it->second;
  const auto id = tokenizer_->token_to_id(pad);
  if (!id) throw Error("{}: the padding '{}' is not in the vocabulary", folder.string(), pad);
  pad_ = *id;
}

std::vector<int> PromptTokenizer::encode(const std::string& text, int length) const {
  auto ids = tokenizer_->encode(text);
  if (static_cast<int>(ids.size()) > length) {
    const std::span<const int> rest(ids.data() + length - 1, ids.size() - length);
    log::warning("the prompt has {} tokens, the text encoder takes {}; left out: '{}'", ids.size(),
                 length, tokenizer_->decode(rest, true));
    const int end = ids.back();
    ids.resize(length);
    ids.back() = end;
  }
  ids.resize(length, pad_);
  return ids;
}

std::vector<std::vector<int>> PromptTokenizer::encode_windows(const std::string& text,
                                                              int length) const {
  const auto ids = tokenizer_->encode(text);
  const int begin = ids.front(), end = ids.back();
  std::vector<std::vector<int>> windows;
  auto next = ids.begin() + 1;
  const auto last = ids.end() - 1;
  do {
    const auto count = std::min<std::ptrdiff_t>(length - 2, last - next);
    std::vector<int> window{begin};
    window.insert(window.end(), next, next + count);
    window.push_back(end);
    window.resize(length, pad_);
    windows.push_back(std::move(window));
    next += count;
  } while (next != last);
  return windows;
}

mx::array ids_array(const std::vector<int>& ids) {
  return mx::array(ids.data(), {1, static_cast<int>(ids.size())}, mx::int32);
}

Conditioning condition(const std::vector<const ClipTextModel*>& encoders,
                       const std::vector<std::vector<int>>& ids) {
  if (encoders.size() == 1)
    return {(*encoders[0])(ids_array(ids[0])).last_hidden_state, std::nullopt, std::nullopt};
  std::vector<mx::array> states;
  std::optional<mx::array> pooled;
  for (size_t i = 0; i < encoders.size(); ++i) {
    const auto out = (*encoders[i])(ids_array(ids[i]));
    states.push_back(out.hidden_states[out.hidden_states.size() - 2]);
    pooled = out.text_embeds;
  }
  return {mx::concatenate(states, 2), pooled, std::nullopt};
}

Conditioning joined_windows(const std::vector<Conditioning>& windows) {
  std::vector<mx::array> states;
  for (const auto& window : windows) states.push_back(window.states);
  return {mx::concatenate(states, 1), windows.front().pooled, std::nullopt};
}

}  // namespace mlxcpp::sd
