#include "text/abi.h"

using namespace mlxcpp;
using text_abi::slice;

namespace {

constexpr const char* kFormats[] = {"tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model"};
constexpr std::string_view kText =
    "Hello,  wörld\n\n 123 \xF0\x9F\x99\x82 <s>don't</s> \xE4\xBD\xA0";

void use(const MlxcppTokenizer* tokenizer) {
  text_abi::Buffer ids, rows, error;
  if (mlxcpp_tokenizer_ids(tokenizer, slice(kText), true, ids.out(), error.out()) != 0) return;
  text_abi::Buffer error2, text, error3;
  mlxcpp_tokenizer_encode(tokenizer, slice(kText), nullptr, false, rows.out(), error2.out());
  mlxcpp_tokenizer_decode(tokenizer, ids.words().data(), ids.words().size(), false, text.out(),
                          error3.out());
  MlxcppDetokenizer* stream = mlxcpp_detokenizer_new(true);
  for (const uint32_t id : ids.words()) {
    text_abi::Buffer piece, step_error;
    mlxcpp_detokenizer_add(stream, tokenizer, id, piece.out(), step_error.out());
  }
  mlxcpp_detokenizer_delete(stream);
}

}  // namespace

// A tokenizer's file: the first byte says of which format; "\0" parts vocab.json from merges.txt.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view file(reinterpret_cast<const char*>(data) + 1, size - 1), merges;
  const char* format = kFormats[data[0] % 4];
  if (data[0] % 4 == 1) {
    const size_t end = std::min(file.find('\0'), file.size());
    merges = file.substr(std::min(end + 1, file.size()));
    file = file.substr(0, end);
  }
  MlxcppTokenizer* tokenizer = nullptr;
  text_abi::Buffer error;
  if (mlxcpp_tokenizer_from_file(slice(format), slice(file), slice(merges), slice("{}"), &tokenizer,
                                 error.out()) == 0) {
    use(tokenizer);
    mlxcpp_tokenizer_delete(tokenizer);
  }
  return 0;
}
