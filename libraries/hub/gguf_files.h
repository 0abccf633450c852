#pragma once

#include <string>
#include <vector>

namespace mlxcpp::hub {

// A model among many files: one .gguf, or all parts NAME-00001-of-00003.gguf of a split one.
struct GgufModel {
  std::vector<std::string> parts;  // in order
  size_t expected = 1;             // number of parts that the names speak of
};

// The models among `files`, by their names; other files, and the projectors ("mmproj") that lie
// beside the language model, are passed over.
std::vector<GgufModel> find_gguf_models(const std::vector<std::string>& files);

// All parts of the model that `file` is a part of. Throws when one is not among `files`.
std::vector<std::string> parts_of(const std::string& file, const std::vector<std::string>& files);

// The one model whose file name holds `tag`, in any case, as a word of its own; an empty tag
// suits every model. Throws when there is none, or more than one, naming what there is.
std::vector<std::string> choose_gguf(const std::vector<std::string>& files, const std::string& tag,
                                     const std::string& where);

}  // namespace mlxcpp::hub
