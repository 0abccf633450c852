#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "hub/model_source.h"
#include "lm_common/generate.h"
#include "lm_common/model_configuration.h"
#include "lm_common/model_types.h"
#include "lm_common/tools/tool.h"
#include "lm_common/user_input.h"
#include "weights/checkpoint.h"

namespace mlxcpp {

// A model and all that belongs to it. Belongs to the thread that loaded it, as every array does;
// the tokenizer may be used anywhere.
struct ModelContext {
  std::unique_ptr<LanguageModel> model;
  std::shared_ptr<const Tokenizer> tokenizer;
  ModelConfiguration configuration = {};
  Json config = Json::object();    // config.json
  Quantization quantization = {};  // what of it is quantised, and how
  size_t weight_bytes = 0;
  MessageGenerator messages = default_messages;
  std::shared_ptr<const Processor> processor = {};  // none: a model of text

  LMInput prepare(const UserInput& input) const;
  // Ids that end an answer: the tokenizer's, config.json's, and the configuration's extra ones.
  std::set<int> eos() const;
  // What config.json says, of the text part where it has one; rows of the model's embedding.
  std::optional<int> context_length() const;
  std::optional<int> vocab_size() const;

  // What a Generator needs to make answers with this model.
  GenerateOptions generate_options(GenerateParameters parameters, std::stop_token stop = {}) const;
  // The same for an answer whose reasoning and calls of these tools are events of their own. Throws
  // an Error when it is not known how the model writes calls.
  GenerateOptions answer_options(const LMInput& prompt, std::vector<ToolSpec> tools,
                                 GenerateParameters parameters, std::stop_token stop = {}) const;
  // How the model writes tool calls: as the configuration says, else as the chat template; none
  // where neither does.
  std::optional<std::string> tool_call_format() const;
  // An answer made on this thread; context and caches must outlive the stream.
  GenerationStream generate(LMInput input, Caches& caches, GenerateParameters parameters,
                            std::stop_token stop = {}) const;
};

// What a model says is wrong, with its file. Models know no files: they call theirs config.json,
// and weights have no name at all. where: ModelFiles::config_file().
std::string in_file(std::string_view where, std::string_view fault);

// Quantises the layers of `model` as the checkpoint's are, then loads the weights. The names are
// the tree's own.
void put_weights(nn::Module& model, nn::Weights weights, const Quantization& quantization);

// The model of a checkpoint: made by its type, its layers quantised as the checkpoint's, weights
// in.
std::unique_ptr<LanguageModel> make_language_model(Checkpoint checkpoint, const ModelTypes& types,
                                                   std::string_view where = "config.json");

// Loads from files on this machine. The tokenizer is built on a second thread meanwhile.
ModelContext load_model_context(const ModelFiles& files, const ModelTypes& types,
                                ModelConfiguration configuration = {});

// Finds the files first (resolve_model), downloading what is missing; those of another model's
// tokenizer, too, where the configuration names one.
ModelContext load_model_context(const ModelConfiguration& configuration, const ModelTypes& types,
                                const DownloadOptions& download = {});

}  // namespace mlxcpp
