#include "lm_common/model_context.h"

#include <chrono>
#include <future>
#include <utility>

#include <fmt/ostream.h>
#include <fmt/ranges.h>

#include "core/log.h"
#include "lm_common/gguf_tokenizer.h"
#include "lm_common/token_embedding.h"
#include "lm_common/tools/formats.h"
#include "nn/bit_linear.h"
#include "nn/quantized.h"
#include "weights/gguf.h"

namespace mlxcpp {
namespace {

// Stopwatch of the debug log.
class Timing {
 public:
  explicit Timing(const char* what) : what_(what) {}
  ~Timing() {
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begun_;
    log::debug("{}: {:.3f} s", what_, time.count());
  }

 private:
  const char* what_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

// A number that multimodal configs keep in "text_config".
std::optional<int> text_setting(const Json& config, const char* key) {
  if (!config.is_object()) return {};
  const auto text = config.find("text_config");
  const Json& where = text != config.end() && text->is_object() ? *text : config;
  std::optional<int> value;
  ConfigReader(where, "config.json").maybe(key, value);
  return value;
}

std::vector<int> config_eos(const Json& config) {
  std::vector<int> ids;
  const auto it = config.is_object() ? config.find("eos_token_id") : config.end();
  if (it == config.end() || it->is_null()) return ids;
  ConfigReader reader(config, "config.json");
  if (it->is_array())
    reader.maybe("eos_token_id", ids);
  else
    reader.maybe("eos_token_id", ids.emplace_back());
  return ids;
}

// The type of the layer at a path of the tree. Multimodal checkpoints name their layers with a
// prefix that the language model's tree has not.
std::optional<kernels::QuantType> quant_type_at(const Quantization& quantization,
                                                const std::string& path) {
  for (const char* prefix : {"language_model.", "model.language_model."}) {
    const std::string_view tail =
        std::string_view(prefix).starts_with("model.") && path.starts_with("model.")
            ? std::string_view(path).substr(6)
            : std::string_view(path);
    const auto it = quantization.per_layer.find(prefix + std::string(tail));
    if (it != quantization.per_layer.end()) return it->second;
  }
  return quantization.at(path);
}

// Groups of nvfp4 are of 16 weights, and the kernels take two of them at a time: a layer whose rows
// have an odd number of groups is computed in floats, which hold its values exactly. True: it was
// such a layer, and its weight in `weights` is made of floats now.
bool made_float(nn::Weights& weights, const std::string& path, const kernels::QuantType& type) {
  if (type.mode != kernels::QuantMode::nvfp4) return false;
  const auto w = weights.find(path + ".weight"), scales = weights.find(path + ".scales");
  if (w == weights.end() || scales == weights.end()) return false;
  const mx::array packed = w->second;  // 8 weights a word
  if (packed.ndim() < 2 || packed.dtype() != mx::uint32 || packed.shape(-1) % 4 != 2) return false;
  const auto longer = [](const mx::array& a, int more) {
    if (a.ndim() == 0) return a;
    mx::Shape shape = a.shape();
    shape.back() = more;
    return mx::concatenate({a, mx::zeros(shape, a.dtype())}, -1);
  };
  try {
    const mx::array whole = kernels::dequantize(
        {type, longer(packed, 2), longer(scales->second, 1), std::nullopt}, mx::bfloat16);
    mx::Shape end = whole.shape();
    end.back() = packed.shape(-1) * 8;
    w->second = mx::contiguous(mx::slice(whole, mx::Shape(end.size(), 0), end));
    log::info(
        "{}: rows of {} weights: computed in bfloat16, as nvfp4's kernels take multiples of 32",
        path, end.back());
  } catch (const Error& e) {
    throw Error("{}: {}", path, e.what());
  }
  weights.erase(scales);
  return true;
}

// The debug log's account of a model: its configuration, every tensor.
void describe(const ModelContext& context, const std::string& where) {
  if (!log::enabled(log::Level::debug)) return;
  for (const auto& [key, value] : context.config.items())
    log::debug("{}: {}: {}", where, key,
               value.dump(-1, ' ', false, Json::error_handler_t::replace));
  context.model->for_each_param([](const std::string& path, nn::Param& p) {
    if (p) log::debug("{}: {} [{}]", path, fmt::streamed(p->dtype()), fmt::join(p->shape(), ", "));
  });
  log::debug("{} parameters, {} bytes", context.model->num_parameters(), context.model->nbytes());
}

bool is_text_only(const ModelTypes::Entry& entry, const Checkpoint& checkpoint) {
  return entry.text_only && !has_towers(checkpoint.weights);
}

std::shared_ptr<const Tokenizer> load_tokenizer(const ModelFiles& files) {
  if (files.gguf.empty()) return Tokenizer::from_folder(files.folder);
  return gguf_tokenizer(GgufFile(files.gguf));
}

using TokenizerFuture = std::future<std::shared_ptr<const Tokenizer>>;

TokenizerFuture tokenizer_of(const ModelFiles& files) {
  return std::async(std::launch::async, [files] {
    const Timing timing("tokenizer");
    return load_tokenizer(files);
  });
}

ModelContext load(const ModelFiles& files, const ModelTypes& types,
                  ModelConfiguration configuration, TokenizerFuture tokenizer) {
  const Timing timing("model");
  Checkpoint checkpoint = load_checkpoint(files.folder, files.gguf);
  ModelContext context{.model = nullptr, .tokenizer = nullptr};
  context.configuration = std::move(configuration);
  context.config = checkpoint.config;
  context.quantization = checkpoint.quantization;
  context.weight_bytes = checkpoint.bytes;
  const std::string where = files.config_file();
  const ModelTypes::Entry& entry = types.of(checkpoint.config, where);
  const bool text_only = is_text_only(entry, checkpoint);
  context.model = make_language_model(std::move(checkpoint), types, where);
  context.model->eval();
  describe(context, where);
  context.tokenizer = tokenizer.get();
  if (entry.processor && !text_only)
    context.processor = entry.processor(context.config, files.folder);
  context.messages = entry.messages ? entry.messages : message_generator_for(*context.tokenizer);
  return context;
}

// Whether the text of a prompt ends in a mark, white space apart: a template may have begun a
// thought.
bool ends_in(const std::vector<int>& prompt, std::string_view mark, const Tokenizer& tokenizer) {
  const size_t count = std::min<size_t>(prompt.size(), 16);  // more than a mark is long
  std::string text = tokenizer.decode(std::span(prompt).last(count));
  text.erase(text.find_last_not_of(" \n\r\t") + 1);
  return text.ends_with(mark);
}

}  // namespace

LMInput ModelContext::prepare(const UserInput& input) const {
  if (processor) return processor->prepare(input, *tokenizer);
  return mlxcpp::prepare(input, *tokenizer, messages);
}

std::set<int> ModelContext::eos() const {
  std::set<int> ids;
  for (const int id : config_eos(config)) ids.insert(id);
  if (!tokenizer) return ids;
  for (const int id : tokenizer->eos()) ids.insert(id);
  for (const std::string& text : configuration.extra_eos_tokens) {
    if (const auto id = tokenizer->token_to_id(text))
      ids.insert(*id);
    else
      log::warning("extra end-of-sequence token '{}': the tokenizer has no such token", text);
  }
  return ids;
}

std::optional<int> ModelContext::context_length() const {
  return text_setting(config, "max_position_embeddings");
}
std::optional<int> ModelContext::vocab_size() const {
  return model ? mlxcpp::vocab_size(*model) : std::nullopt;
}

GenerateOptions ModelContext::generate_options(GenerateParameters parameters,
                                               std::stop_token stop) const {
  GenerateOptions options;
  options.parameters = std::move(parameters);
  options.stop = std::move(stop);
  options.tokenizer = tokenizer;
  options.eos = eos();
  options.context_length = context_length();
  options.vocab_size = vocab_size();
  return options;
}

std::optional<std::string> ModelContext::tool_call_format() const {
  if (!configuration.tool_call_format.empty()) return configuration.tool_call_format;
  return tokenizer ? tool_call_format_of(tokenizer->chat_template(true)) : std::nullopt;
}

GenerateOptions ModelContext::answer_options(const LMInput& prompt, std::vector<ToolSpec> tools,
                                             GenerateParameters parameters,
                                             std::stop_token stop) const {
  GenerateOptions options = generate_options(std::move(parameters), std::move(stop));
  if (!tokenizer) return options;
  const auto keep = [&](const std::string& text) {
    if (const auto id = tokenizer->token_to_id(text); id && tokenizer->is_special(*id))
      options.kept_special_tokens.insert(*id);
  };
  if (const auto marks = reasoning_marks_of(tokenizer->chat_template(!tools.empty()))) {
    keep(marks->open);
    keep(marks->close);
    options.reasoning.emplace(ends_in(prompt.tokens, marks->open, *tokenizer), *marks);
  }
  if (!tools.empty()) {
    const auto format = tool_call_format();
    if (!format)
      throw Error(
          "tools: the model's chat template does not say how it writes calls; name one of {}",
          fmt::join(tool_call_formats(), ", "));
    for (const std::string& text : tool_call_tokens(*format)) keep(text);
    options.tool_calls = tool_call_processor(*format, std::move(tools));
  }
  return options;
}

GenerationStream ModelContext::generate(LMInput input, Caches& caches,
                                        GenerateParameters parameters, std::stop_token stop) const {
  return mlxcpp::generate(*model, caches, std::move(input),
                          generate_options(std::move(parameters), std::move(stop)));
}

std::string in_file(std::string_view where, std::string_view fault) {
  constexpr std::string_view kConfig = "config.json";
  if (fault.starts_with(kConfig)) return fmt::format("{}{}", where, fault.substr(kConfig.size()));
  if (where == kConfig) return std::string(fault);
  if (where.ends_with(kConfig)) where.remove_suffix(kConfig.size() + 1);
  return fault.starts_with(where) ? std::string(fault) : fmt::format("{}: {}", where, fault);
}

void put_weights(nn::Module& model, nn::Weights weights, const Quantization& quantization) {
  nn::quantize(model, [&](const std::string& path, const nn::Module&) {
    auto type = quant_type_at(quantization, path);
    // As mlx_lm: what has no scales was left as it was, whatever the setting for all says.
    if (type && !type->is_gguf() && !weights.contains(path + ".scales")) type.reset();
    if (type && made_float(weights, path, *type)) type.reset();
    return type;
  });
  nn::load(model, std::move(weights));
}

std::unique_ptr<LanguageModel> make_language_model(Checkpoint checkpoint, const ModelTypes& types,
                                                   std::string_view where) {
  const ModelTypes::Entry& entry = types.of(checkpoint.config, where);
  try {
    std::unique_ptr<LanguageModel> model =
        (is_text_only(entry, checkpoint) ? entry.text_only : entry.make)(checkpoint.config);
    put_weights(*model, model->sanitize(std::move(checkpoint.weights)), checkpoint.quantization);
    nn::make_ternary_where_equal(*model);
    return model;
  } catch (const Error& e) {
    throw Error("{}", in_file(where, e.what()));
  }
}

ModelContext load_model_context(const ModelFiles& files, const ModelTypes& types,
                                ModelConfiguration configuration) {
  if (configuration.id.empty())
    configuration.id = (files.gguf.empty() ? files.folder : files.gguf.front()).string();
  return load(files, types, std::move(configuration), tokenizer_of(files));
}

ModelContext load_model_context(const ModelConfiguration& configuration, const ModelTypes& types,
                                const DownloadOptions& download) {
  const ModelFiles files = resolve_model(configuration.reference(), download);
  if (configuration.tokenizer_id.empty())
    return load(files, types, configuration, tokenizer_of(files));
  DownloadOptions small = download;  // that model's weights are not wanted
  std::erase(small.patterns, "*.safetensors");
  return load(files, types, configuration,
              tokenizer_of(resolve_model(configuration.tokenizer_id, small)));
}

}  // namespace mlxcpp
