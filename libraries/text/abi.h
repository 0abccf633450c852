#pragma once

// The C ABI of the Rust crate (rust/src/abi.rs), and its guard for C++. Not for users of the
// library.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

extern "C" {

struct MlxcppSlice {
  const char* data;
  size_t size;
};

struct MlxcppBuffer {  // owned by the crate until freed; `size` in bytes
  char* data;
  size_t size, capacity;
};

struct MlxcppGgufArrays {
  const MlxcppSlice* tokens;
  size_t num_tokens;
  const float* scores;
  size_t num_scores;
  const int32_t* types;
  size_t num_types;
  const MlxcppSlice* merges;
  size_t num_merges;
  MlxcppSlice charsmap;
};

struct MlxcppTokenizer;
struct MlxcppDetokenizer;
struct MlxcppTemplate;

void mlxcpp_text_free(MlxcppBuffer buffer);

// Functions with an `error` give 0, or 1 and a message.
int mlxcpp_tokenizer_from_file(MlxcppSlice format, MlxcppSlice file, MlxcppSlice merges,
                               MlxcppSlice config, MlxcppTokenizer** out, MlxcppBuffer* error);
int mlxcpp_tokenizer_from_gguf(MlxcppSlice options, const MlxcppGgufArrays* arrays,
                               MlxcppTokenizer** out, MlxcppBuffer* error);
void mlxcpp_tokenizer_delete(MlxcppTokenizer* tokenizer);
int mlxcpp_tokenizer_to_json(const MlxcppTokenizer* tokenizer, MlxcppBuffer* text,
                             MlxcppBuffer* error);
int mlxcpp_tokenizer_ids(const MlxcppTokenizer* tokenizer, MlxcppSlice text, bool add_special,
                         MlxcppBuffer* ids, MlxcppBuffer* error);
int mlxcpp_tokenizer_encode(const MlxcppTokenizer* tokenizer, MlxcppSlice text,
                            const MlxcppSlice* pair, bool add_special, MlxcppBuffer* rows,
                            MlxcppBuffer* error);
int mlxcpp_tokenizer_decode(const MlxcppTokenizer* tokenizer, const uint32_t* ids, size_t size,
                            bool skip_special, MlxcppBuffer* text, MlxcppBuffer* error);
size_t mlxcpp_tokenizer_vocab_size(const MlxcppTokenizer* tokenizer);
int64_t mlxcpp_tokenizer_token_to_id(const MlxcppTokenizer* tokenizer, MlxcppSlice token);
int mlxcpp_tokenizer_id_to_token(const MlxcppTokenizer* tokenizer, uint32_t id, MlxcppBuffer* text);
bool mlxcpp_tokenizer_is_special(const MlxcppTokenizer* tokenizer, uint32_t id);

MlxcppDetokenizer* mlxcpp_detokenizer_new(bool skip_special);
void mlxcpp_detokenizer_delete(MlxcppDetokenizer* detokenizer);
int mlxcpp_detokenizer_add(MlxcppDetokenizer* detokenizer, const MlxcppTokenizer* tokenizer,
                           int64_t id, MlxcppBuffer* text, MlxcppBuffer* error);

int mlxcpp_template_new(MlxcppSlice sources, MlxcppSlice special_tokens, MlxcppTemplate** out,
                        MlxcppBuffer* error);
void mlxcpp_template_delete(MlxcppTemplate* chat_template);
int mlxcpp_template_render(const MlxcppTemplate* chat_template, MlxcppSlice messages,
                           MlxcppSlice context, MlxcppBuffer* text, MlxcppBuffer* error);

}  // extern "C"

namespace mlxcpp::text_abi {

inline MlxcppSlice slice(std::string_view text) { return {text.data(), text.size()}; }

// What the crate gave away.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { mlxcpp_text_free(buffer_); }

  MlxcppBuffer* out() { return &buffer_; }
  std::string text() const { return buffer_.size ? std::string(buffer_.data, buffer_.size) : ""; }
  std::span<const uint32_t> words() const {
    return {reinterpret_cast<const uint32_t*>(buffer_.data), buffer_.size / sizeof(uint32_t)};
  }

 private:
  MlxcppBuffer buffer_{};
};

// Calls `f(error)`; its message becomes an Error that starts with `where`.
template <class F>
void call(std::string_view where, F f) {
  Buffer error;
  if (f(error.out()) != 0) throw Error("{}: {}", where, error.text());
}

}  // namespace mlxcpp::text_abi
