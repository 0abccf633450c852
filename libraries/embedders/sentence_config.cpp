#include "embedders/sentence_config.h"

#include <fmt/ranges.h>

namespace mlxcpp::embedders {
namespace {

namespace fs = std::filesystem;

struct PoolingConfig {
  std::vector<Pooling> modes;
  bool include_prompt = true;

  void fields(ConfigReader& v) {
    v.skip("word_embedding_dimension");  // the encoder's
    v.skip("embedding_dimension");       // newer files' name of it
    // In the order in which their vectors are joined.
    static constexpr std::pair<const char*, Pooling> kModes[] = {
        {"pooling_mode_cls_token", Pooling::cls},
        {"pooling_mode_max_tokens", Pooling::max},
        {"pooling_mode_mean_tokens", Pooling::mean},
        {"pooling_mode_mean_sqrt_len_tokens", Pooling::mean_sqrt_len},
        {"pooling_mode_weightedmean_tokens", Pooling::weighted_mean},
        {"pooling_mode_lasttoken", Pooling::last},
    };
    bool any = false;
    for (const auto& [key, mode] : kModes) {
      bool on = false;
      any |= v.json().contains(key);
      v.maybe(key, on);
      if (on) modes.push_back(mode);
    }
    v.maybe("include_prompt", include_prompt);
    std::string pooling_mode;  // newer files' one key for all
    v.maybe("pooling_mode", pooling_mode);
    if (pooling_mode == "lasttoken") pooling_mode = "last";
    if (pooling_mode == "weightedmean") pooling_mode = "weighted_mean";
    if (pooling_mode == "mean_sqrt_len_tokens") pooling_mode = "mean_sqrt_len";
    if (!pooling_mode.empty() && modes.empty()) {
      const auto mode = pooling_from_name(pooling_mode);
      if (!mode || *mode == Pooling::none)
        throw Error("{}: 'pooling_mode' is '{}', expected one of {}", v.where(), pooling_mode,
                    fmt::join(pooling_names(), ", "));
      modes.push_back(*mode);
    }
    if (modes.empty())
      throw Error("{}: {}", v.where(),
                  any ? "every 'pooling_mode_...' is false" : "no 'pooling_mode_...' is there");
  }
};

// "torch.nn.modules.activation.Tanh" -> "tanh"
std::string activation_name(const ConfigReader& v, const std::string& path) {
  static const std::map<std::string, std::string> kNames = {
      {"Identity", "identity"}, {"Tanh", "tanh"}, {"ReLU", "relu"},
      {"GELU", "gelu"},         {"SiLU", "silu"}, {"Sigmoid", "sigmoid"}};
  const std::string last = path.substr(path.rfind('.') + 1);
  const auto it = kNames.find(last);
  if (it == kNames.end()) throw Error("{}: the activation '{}' is not supported", v.where(), path);
  return it->second;
}

struct DenseFields {
  DenseConfig c;

  void fields(ConfigReader& v) {
    v.need("in_features", c.in_features);
    v.need("out_features", c.out_features);
    v.maybe("bias", c.bias);
    std::string activation_function = "torch.nn.modules.activation.Tanh";
    v.maybe("activation_function", activation_function);
    c.activation = activation_name(v, activation_function);
    v.only("module_input_name", "sentence_embedding");
    v.only("module_output_name", "sentence_embedding");
    if (c.in_features <= 0 || c.out_features <= 0)
      throw Error("{}: a layer of {} to {} numbers", v.where(), c.in_features, c.out_features);
  }
};

struct TransformerFields {
  std::optional<int> max_seq_length;

  void fields(ConfigReader& v) {
    v.maybe("max_seq_length", max_seq_length);
    v.only("do_lower_case", false);  // the tokenizer has its own switch for it
    // How transformers is to be asked for the same.
    for (const char* key : {"model_args", "config_args", "tokenizer_args", "config_kwargs",
                            "model_kwargs", "processor_kwargs", "tokenizer_name_or_path"})
      v.skip(key);
    v.only("transformer_task", "feature-extraction");
    v.skip("modality_config");
    v.skip("module_output_name");
    if (max_seq_length && *max_seq_length < 1)
      throw Error("{}: 'max_seq_length' is {}", v.where(), *max_seq_length);
  }
};

struct SentenceFields {
  Json prompts = Json::object();
  std::string default_prompt_name, similarity_fn_name = "cosine";

  void fields(ConfigReader& v) {
    v.skip("__version__");
    v.maybe("prompts", prompts);
    v.maybe("default_prompt_name", default_prompt_name);
    v.maybe("similarity_fn_name", similarity_fn_name);
  }
};

// A folder of modules.json, which must be below the model's own.
fs::path folder_of(const fs::path& folder, const std::string& path, const std::string& where) {
  const fs::path relative = fs::path(path).lexically_normal();
  if (relative.is_absolute() || (!relative.empty() && *relative.begin() == ".."))
    throw Error("{}: the path '{}' leads out of the folder", where, path);
  return folder / relative;
}

void read_modules(const fs::path& folder, SentenceConfig& out) {
  const std::string where = (folder / "modules.json").string();
  const Json modules = read_json(folder / "modules.json");
  if (!modules.is_array() || modules.empty())
    throw Error("{}: expected a list of modules, found {}", where, describe(modules));
  for (size_t i = 0; i < modules.size(); ++i) {
    std::string type, path;
    const std::string here = fmt::format("{}: {}", where, i);
    ConfigReader v(modules[i], here);
    v.need("type", type);
    v.need("path", path);
    const std::string kind = type.substr(type.rfind('.') + 1);
    const fs::path place = folder_of(folder, path, here);
    const auto config = [&] { return place / "config.json"; };
    if ((kind == "Transformer") != (i == 0))
      throw Error("{}: '{}', expected {}", here, type,
                  i == 0 ? "the Transformer first" : "one Transformer, at the beginning");
    if (kind == "Transformer") {
      if (!place.lexically_relative(folder).empty() && place.lexically_relative(folder) != ".")
        throw Error("{}: the Transformer lies in '{}', expected the model's own folder", here,
                    path);
    } else if (kind == "Pooling" && i == 1) {
      const auto p = read_config<PoolingConfig>(read_json(config()), config().string());
      out.pooling = p.modes;
      out.include_prompt = p.include_prompt;
    } else if (kind == "Dense" && !out.normalize) {
      auto d = read_config<DenseFields>(read_json(config()), config().string()).c;
      d.folder = place;
      out.dense.push_back(std::move(d));
    } else if (kind == "Normalize") {
      out.normalize = true;
    } else {
      throw Error(
          "{}: a '{}' in this place is not supported; expected Transformer, Pooling, Dense layers, "
          "Normalize",
          here, type);
    }
  }
}

}  // namespace

const std::string& SentenceConfig::prompt(const std::string& name) const {
  const auto it = prompts.find(name);
  if (it != prompts.end()) return it->second;
  std::vector<std::string> names;
  for (const auto& [known, text] : prompts) names.push_back(known);
  throw Error("the model has no prompt '{}'; it has {}", name,
              names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")));
}

SentenceConfig read_sentence_config(const fs::path& folder) {
  SentenceConfig out;
  if (fs::exists(folder / "modules.json")) {
    out.has_modules = true;
    read_modules(folder, out);
  } else if (const fs::path file = folder / "1_Pooling" / "config.json"; fs::exists(file)) {
    const auto p = read_config<PoolingConfig>(read_json(file), file.string());
    out.pooling = p.modes;
    out.include_prompt = p.include_prompt;
  }
  for (const char* name : {"sentence_bert_config.json", "sentence_roberta_config.json",
                           "sentence_distilbert_config.json", "sentence_xlm-roberta_config.json"}) {
    const fs::path file = folder / name;
    if (!fs::exists(file)) continue;
    out.max_seq_length =
        read_config<TransformerFields>(read_json(file), file.string()).max_seq_length;
    break;
  }
  if (const fs::path file = folder / "config_sentence_transformers.json"; fs::exists(file)) {
    auto f = read_config<SentenceFields>(read_json(file), file.string());
    if (!f.prompts.is_object())
      throw Error("{}: 'prompts' must be an object, found {}", file.string(), describe(f.prompts));
    for (const auto& [name, text] : f.prompts.items()) {
      if (!text.is_string())
        throw Error("{}: prompt '{}' must be a string, found {}", file.string(), name,
                    describe(text));
      out.prompts[name] = text.get<std::string>();
    }
    out.default_prompt_name = f.default_prompt_name;
    out.similarity_fn_name = f.similarity_fn_name;
  }
  return out;
}

bool score_is_sigmoid(const Json& config, const std::string& where) {
  std::string activation = "torch.nn.modules.activation.Sigmoid";
  ConfigReader v(config, where);
  v.maybe("sbert_ce_default_activation_function", activation);
  Json inner = Json::object();
  v.maybe("sentence_transformers", inner);
  if (inner.is_object())
    ConfigReader(inner, where + ": sentence_transformers").maybe("activation_fn", activation);
  const std::string name = activation_name(v, activation);
  if (name != "sigmoid" && name != "identity")
    throw Error("{}: a score by '{}' is not supported", where, activation);
  return name == "sigmoid";
}

}  // namespace mlxcpp::embedders
