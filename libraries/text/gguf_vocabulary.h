#pragma once

#include "text/tokenizer.h"
#include "weights/gguf.h"

namespace mlxcpp {

// The tokenizer's metadata of a GGUF file. The result points into the file's mapping.
GgufVocabulary read_gguf_vocabulary(const GgufFile& file);

}  // namespace mlxcpp
