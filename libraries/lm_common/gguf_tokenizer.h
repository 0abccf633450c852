#pragma once

#include <memory>

#include "text/tokenizer.h"
#include "weights/gguf.h"

namespace mlxcpp {

// The tokenizer that a GGUF file carries in its metadata.
std::shared_ptr<const Tokenizer> gguf_tokenizer(const GgufFile& file);

}  // namespace mlxcpp
