#include "lm_common/write_model.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/atomic_file.h"
#include "lm_common/head_rows.h"
#include "nn/bit_linear.h"
#include "nn/linear.h"
#include "nn/quantized.h"
#include "text/gguf_vocabulary.h"
#include "text/tokenizer_files.h"
#include "weights/gguf.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using kernels::QuantType;

void refuse_what_has_no_form(const Json& config) {
  const auto method = config.find("quantization_config");
  if (method != config.end() && method->is_object() &&
      method->value("quant_method", "") == "bitnet")
    throw Error("bitnet's ternary layers cannot be written: use its own files");
}

// The prefix under which the checkpoint of a multimodal family keeps the weights of its text model,
// where it has nothing besides them; other readers look for them there. Error: it has other parts.
std::string text_prefix(const nn::Weights& weights) {
  for (const std::string prefix : {"language_model.", "model.language_model."}) {
    const auto is_below = [&](const auto& w) { return w.first.starts_with(prefix); };
    if (std::none_of(weights.begin(), weights.end(), is_below)) continue;
    for (const auto& w : weights)
      if (!is_below(w) && !w.first.starts_with("lm_head."))
        throw Error(
            "the model has parts besides its text model ('{}'), which would be lost: it cannot be "
            "written",
            w.first);
    return prefix;
  }
  if (has_towers(weights))
    throw Error(
        "the model has towers besides its text model, which would be lost: it cannot be written");
  return "";
}

// A path of the text model's tree, below that prefix.
std::string below(const std::string& prefix, const std::string& path) {
  if (!prefix.starts_with("model.")) return prefix + path;
  return path.starts_with("model.") ? prefix + path.substr(6) : path;
}

// The dtype in which MLX dequantises; bfloat16 for what was a GGUF block.
mx::Dtype float_dtype(const kernels::QuantizedMatrix& matrix) {
  return matrix.type.mode == kernels::QuantMode::affine ? matrix.scales->dtype() : mx::bfloat16;
}

void dequantize_layers(nn::Module& model, std::optional<mx::Dtype> dtype, bool all) {
  std::vector<std::pair<std::string, std::unique_ptr<nn::Module>>> layers;
  model.for_each_module([&](const std::string& path, nn::Module& layer) {
    const auto* q = dynamic_cast<const nn::QuantizedLayer*>(&layer);
    if (q && (all || q->matrix().type.is_gguf()))
      layers.emplace_back(path, q->dequantized(dtype.value_or(float_dtype(q->matrix()))));
    else if (const auto* ternary = dynamic_cast<const nn::BitLinear*>(&layer))  // 2 bits again
      layers.emplace_back(
          path, std::make_unique<nn::QuantizedLinear>(ternary->matrix(), ternary->bias.optional()));
  });
  for (auto& [path, layer] : layers) model.replace(path, std::move(layer));
}

// GGUF files of some families have the rows of queries and keys interleaved.
void restore_row_order(nn::Module& model, Json& config) {
  if (!has_interleaved_rows(config)) return;
  model.for_each_module([&](const std::string& path, nn::Module& m) {
    auto* layer = dynamic_cast<nn::Linear*>(&m);
    const int heads = layer ? heads_at(path, config) : 0;
    if (heads == 0) return;
    layer->weight.set(mx::contiguous(halved_rows(*layer->weight, heads)));
    if (layer->bias) layer->bias.set(mx::contiguous(halved_rows(*layer->bias, heads)));
  });
  config.erase("rope_traditional");
}

bool fits(const nn::Module& layer, const QuantType& type) {
  const auto parameters = layer.parameters();
  const auto weight = parameters.find("weight");
  const int whole = std::max(type.group_size, 32);  // nvfp4's kernels take two groups at a time
  return weight != parameters.end() && weight->second.shape(-1) % whole == 0;
}

// How the model is quantised now; the most common type is that of all layers.
Quantization quantization_of(const nn::Module& model) {
  std::map<std::string, std::optional<QuantType>> types;
  std::vector<std::pair<QuantType, int>> counts;
  model.for_each_module([&](const std::string& path, const nn::Module& layer) {
    const auto* q = dynamic_cast<const nn::QuantizedLayer*>(&layer);
    if (!q) return;
    const QuantType type = q->matrix().type;
    types[path] = type;
    const auto it =
        std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == type; });
    if (it == counts.end())
      counts.emplace_back(type, 1);
    else
      ++it->second;
  });
  if (counts.empty()) return {};
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](auto& a, auto& b) { return a.second < b.second; });
  return {most->first, std::move(types)};
}

bool is_tokenizer_file(const std::string& name) {
  static const std::set<std::string> kNames = {"tokenizer.json",
                                               "tokenizer_config.json",
                                               "special_tokens_map.json",
                                               "added_tokens.json",
                                               "generation_config.json",
                                               "chat_template.jinja",
                                               "chat_template.json",
                                               "vocab.json",
                                               "vocab.txt",
                                               "merges.txt",
                                               "tokenizer.model",
                                               "spiece.model",
                                               "sentencepiece.bpe.model",
                                               "spm.model"};
  return kNames.contains(name) || name.ends_with(".tiktoken") ||
         (name.starts_with("tokenization_") && name.ends_with(".py"));
}

void copy_tokenizer(const fs::path& from, const fs::path& to) {
  for (const auto& entry : fs::directory_iterator(from))
    if (entry.is_regular_file() && is_tokenizer_file(entry.path().filename().string()))
      write_file(to / entry.path().filename(), read_text_file(entry.path()));
  const fs::path more = from / "additional_chat_templates";
  if (!fs::is_directory(more)) return;
  fs::create_directories(to / more.filename());
  for (const auto& entry : fs::directory_iterator(more))
    if (entry.is_regular_file() && entry.path().extension() == ".jinja")
      write_file(to / more.filename() / entry.path().filename(), read_text_file(entry.path()));
}

void make_tokenizer(const GgufFile& gguf, const Tokenizer& tokenizer, const fs::path& to) {
  const GgufVocabulary v = read_gguf_vocabulary(gguf);
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  for (const auto& [key, name] : std::map<std::string, std::string>{{"bos", "bos_token"},
                                                                    {"eos", "eos_token"},
                                                                    {"unknown", "unk_token"},
                                                                    {"padding", "pad_token"}})
    if (const auto it = v.ids.find(key); it != v.ids.end())
      config[name] = tokenizer.id_to_token(it->second);
  if (v.chat_templates.size() == 1 && v.chat_templates.contains("default"))
    config["chat_template"] = v.chat_templates.at("default");
  else
    for (const auto& [name, text] : v.chat_templates)
      config["chat_template"].push_back({{"name", name}, {"template", text}});
  write_file(to / "tokenizer.json", tokenizer.to_json());
  write_file(to / "tokenizer_config.json",
             config.dump(2, ' ', false, Json::error_handler_t::replace));
  if (const auto eos = tokenizer.eos(); !eos.empty())
    write_file(to / "generation_config.json", Json{{"eos_token_id", eos}}.dump(2));
}

}  // namespace

void write_model(const fs::path& folder, ModelContext& context, const ModelFiles& files,
                 const WriteModelOptions& options) {
  nn::Module& model = *context.model;
  Json config = context.config;
  refuse_what_has_no_form(config);
  nn::Weights published;
  if (config.contains("text_config")) published = load_checkpoint(files.folder, files.gguf).weights;
  const std::string prefix = text_prefix(published);
  if (options.quantize && options.quantize->is_gguf())
    throw Error("safetensors cannot hold {}: expected affine, mxfp4, mxfp8 or nvfp4",
                kernels::name(options.quantize->mode));

  const bool all = options.dequantize || options.quantize;
  // Those of a GGUF file may hold its ternary blocks in a form that is not GGUF's.
  dequantize_layers(model, options.dtype, all || !files.gguf.empty());
  restore_row_order(model, config);
  if (options.dtype) model.cast(*options.dtype);
  if (options.quantize)
    nn::quantize_weights(model, [&](const std::string&, const nn::Module& layer) {
      return fits(layer, *options.quantize) ? options.quantize : std::nullopt;
    });

  fs::create_directories(folder);
  if (files.gguf.empty())
    copy_tokenizer(files.folder, folder);
  else
    make_tokenizer(GgufFile(files.gguf), *context.tokenizer, folder);
  if (options.dtype) config["torch_dtype"] = nn::dtype_name(*options.dtype);
  config.erase("dtype");  // the newer name of the same
  const Quantization by_path = quantization_of(model);
  Checkpoint out{.config = std::move(config), .quantization = {by_path.everywhere, {}}};
  for (const auto& [path, type] : by_path.per_layer)
    out.quantization.per_layer.emplace(below(prefix, path), type);
  for (auto& [path, w] : model.parameters()) out.weights.emplace(below(prefix, path), w);
  // Gemma 3n's layers that share the keys of others have projections that nobody uses; mlx_lm wants
  // them in the file.
  for (const auto& [key, w] : published) {
    const auto is_of = [&](const char* part) {
      return key.starts_with(prefix) && key.find(part) != std::string::npos;
    };
    if (prefix.empty() || (!is_of(".self_attn.k_proj.") && !is_of(".self_attn.v_proj.") &&
                           !is_of(".self_attn.k_norm.")))
      continue;
    const bool packed = published.contains(key.substr(0, key.rfind('.')) + ".scales");
    if (packed && all) continue;
    out.weights.emplace(key, options.dtype && !packed ? mx::astype(w, *options.dtype) : w);
  }
  write_checkpoint(folder, out);
}

}  // namespace mlxcpp
