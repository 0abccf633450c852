#include "stable_diffusion/model_source.h"

#include <algorithm>

#include "stable_diffusion/presets.h"
#include "text/tokenizer_files.h"
#include "weights/safetensors.h"

namespace mlxcpp::sd {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTextParts[] = {"text_encoder", "text_encoder_2"};
constexpr const char* kTokenizers[] = {"tokenizer", "tokenizer_2"};

// The stem of a part's weights: whole, in shards, or, where nothing else is there, the
// half-precision variant.
std::string weights_stem(const fs::path& folder) {
  const std::string stem =
      folder.filename().string().starts_with("text_encoder") ? "model" : "diffusion_pytorch_model";
  for (const std::string& name : {stem, stem + ".fp16"})
    if (fs::exists(folder / (name + ".safetensors")) ||
        fs::exists(folder / (name + ".safetensors.index.json")))
      return name;
  throw Error("{}: no {}.safetensors here (nor its shards, nor {}.fp16.safetensors)",
              folder.string(), stem, stem);
}

Tensors read_weights(const fs::path& folder) {
  return read_safetensors_folder(folder, weights_stem(folder)).tensors;
}

// transformers 5 leaves "text_model." out when it writes a CLIP text model.
Tensors with_text_model_prefix(Tensors weights) {
  constexpr std::string_view kPrefix = "text_model.";
  for (const auto& [name, value] : weights)
    if (name.starts_with(kPrefix)) return weights;
  Tensors out;
  for (auto& [name, value] : weights)
    out.insert_or_assign(name.starts_with("text_projection.") ? name : std::string(kPrefix) + name,
                         value);
  return out;
}

// Loads what was read from `where`, which errors name.
void load(nn::Module& module, Tensors weights, mx::Dtype dtype, const fs::path& where) {
  try {
    nn::load(module, fitted(module, std::move(weights), dtype));
  } catch (const Error& e) {
    throw Error("{}: {}", where.string(), e.what());
  }
  module.eval();
}

// transformers writes "-Infinity" into scheduler configurations, which is no JSON: absent is the
// same.
Json read_scheduler(const fs::path& file) {
  std::string text = read_text_file(file);
  for (const std::string_view word : {"-Infinity", "Infinity", "NaN"})
    for (size_t at; (at = text.find(word)) != std::string::npos;)
      text.replace(at, word.size(), "null");
  Json json = parse_json(text, file.string());
  if (!json.is_object())
    throw Error("{}: expected an object, found {}", file.string(), describe(json));
  return json;
}

// "to_q" and its kin under the names that diffusers had before 0.13.
std::string current_name(std::string name) {
  constexpr std::pair<std::string_view, std::string_view> kOld[] = {{".query.", ".to_q."},
                                                                    {".key.", ".to_k."},
                                                                    {".value.", ".to_v."},
                                                                    {".proj_attn.", ".to_out.0."}};
  for (const auto& [from, to] : kOld)
    if (const size_t at = name.find(from);
        at != std::string::npos && name.find(".attentions.") < at)
      name.replace(at, from.size(), to);
  return name;
}

}  // namespace

ModelSource::ModelSource(const fs::path& model, const fs::path& configs)
    : model_(model), configs_(configs.empty() ? model : configs) {
  std::error_code error;
  if (!fs::exists(model_, error)) throw Error("{}: no such file or folder", model_.string());
  single_file_ = !fs::is_directory(model_, error);
  if (single_file_ && model_.extension() != ".safetensors")
    throw Error("{}: expected a folder with model_index.json, or a .safetensors file",
                model_.string());
  if (single_file_ && configs.empty())
    throw Error("{}: a single file needs a folder with the configurations and tokenizers",
                model_.string());
  const fs::path index_file = configs_ / "model_index.json";
  if (!fs::exists(index_file, error))
    throw Error("{}: no model_index.json here; expected a diffusers folder, or a .safetensors file",
                configs_.string());
  struct Index {
    std::string class_name;
    bool force_zeros_for_empty_prompt = true;
    void fields(ConfigReader& v) {
      v.need("_class_name", class_name);
      v.maybe("force_zeros_for_empty_prompt", force_zeros_for_empty_prompt);
    }
  };
  const Json json = read_json(index_file);
  const auto index = read_fields<Index>(json, index_file.string());
  lcm_ = index.class_name.starts_with("LatentConsistencyModel");
  if (!index.class_name.starts_with("StableDiffusion") && !lcm_)
    throw Error(
        "{}: pipeline '{}' is not supported; those of Stable Diffusion 1, 2 and XL are (and latent "
        "consistency models of them)",
        index_file.string(), index.class_name);
  for (const char* part : {"unet", "vae", "text_encoder", "tokenizer", "scheduler"})
    if (!fs::is_directory(configs_ / part, error))
      throw Error("{}: '{}' is missing; download the model again", configs_.string(), part);
  const auto second = json.find("text_encoder_2");
  xl_ =
      index.class_name.find("XL") != std::string::npos ||
      (second != json.end() && second->is_array() && !second->empty() && (*second)[0].is_string());
  if (xl_)
    for (const char* part : {"text_encoder_2", "tokenizer_2"})
      if (!fs::is_directory(configs_ / part, error))
        throw Error("{}: '{}' is missing; download the model again", configs_.string(), part);
  zeros_for_no_negative_ = xl_ && index.force_zeros_for_empty_prompt;

  scheduler_ = read_scheduler(scheduler_where());
  unet_ = read_unet_config(read_part("unet"), (configs_ / "unet" / "config.json").string());
  autoencoder_ =
      read_autoencoder_config(read_part("vae"), (configs_ / "vae" / "config.json").string());
  for (int i = 0; i < text_encoders(); ++i)
    text_.push_back(read_clip_text_config(read_part(kTextParts[i]),
                                          (configs_ / kTextParts[i] / "config.json").string()));
  check_fit();
  // A part without weights is found now, not when it is needed.
  if (!single_file_) {
    for (const char* part : {"unet", "vae"}) weights_stem(model_ / part);
    for (int i = 0; i < text_encoders(); ++i) weights_stem(model_ / kTextParts[i]);
  }
}

Json ModelSource::read_part(const std::string& part, const char* file) const {
  return read_json(configs_ / part / file);
}

void ModelSource::check_fit() const {
  const std::string where = configs_.string();
  if (unet_.in_channels != autoencoder_.latent_channels ||
      unet_.out_channels != autoencoder_.latent_channels)
    throw Error(
        "{}: the autoencoder has {} latent channels, the UNet takes {} and gives {}: they do not "
        "belong together",
        where, autoencoder_.latent_channels, unet_.in_channels, unet_.out_channels);
  int width = 0;
  for (const ClipTextConfig& c : text_) width += c.hidden_size;
  for (const int d : unet_.cross_attention_dim)
    if (d != width)
      throw Error(
          "{}: the text encoder gives {} numbers a token, the UNet takes {}: they do not belong "
          "together",
          where, width, d);
  if (unet_.text_time != xl_)
    throw Error("{}: the UNet {} a pooled text state, which this pipeline {}", where,
                unet_.text_time ? "needs" : "takes no", xl_ ? "gives" : "does not give");
  if (autoencoder_.in_channels != 3 || autoencoder_.out_channels != 3)
    throw Error("{}: the autoencoder takes {} and gives {} channels a pixel, a picture has 3",
                where, autoencoder_.in_channels, autoencoder_.out_channels);
  // Autoencoders of both kinds have the same shapes; what tells them apart is the published factor.
  constexpr float kFirst = 0.18215f, kXl = 0.13025f;
  if (autoencoder_.scaling_factor == (xl_ ? kFirst : kXl))
    throw Error(
        "{}: the autoencoder's 'scaling_factor' is {}, that of Stable Diffusion {}; the UNet is of "
        "Stable Diffusion {}, whose is {}: they do not belong together (if they do, set it in "
        "vae/config.json)",
        where, autoencoder_.scaling_factor, xl_ ? "1 and 2" : "XL", xl_ ? "XL" : "1 and 2",
        xl_ ? kXl : kFirst);
  if (xl_ && !text_[1].with_projection)
    throw Error("{}: text_encoder_2 must be a CLIPTextModelWithProjection", where);
}

fs::path ModelSource::tokenizer_folder(int index) const { return configs_ / kTokenizers[index]; }

std::string ModelSource::scheduler_where() const {
  return (configs_ / "scheduler" / "scheduler_config.json").string();
}

std::unique_ptr<UNet> ModelSource::load_unet(mx::Dtype dtype) const {
  auto model = std::make_unique<UNet>(unet_);
  load(*model,
       single_file_ ? ldm_unet(load_safetensors(model_), unet_) : read_weights(model_ / "unet"),
       dtype, single_file_ ? model_ : model_ / "unet");
  return model;
}

std::unique_ptr<Autoencoder> ModelSource::load_autoencoder(mx::Dtype dtype) const {
  auto model = std::make_unique<Autoencoder>(autoencoder_);
  load(*model,
       single_file_ ? ldm_autoencoder(load_safetensors(model_), autoencoder_)
                    : read_weights(model_ / "vae"),
       dtype, single_file_ ? model_ : model_ / "vae");
  return model;
}

std::unique_ptr<ClipTextModel> ModelSource::load_text_encoder(int index, mx::Dtype dtype) const {
  auto model = std::make_unique<ClipTextModel>(text_[index]);
  Tensors weights;
  if (single_file_) {
    const auto file = load_safetensors(model_);
    weights = ldm_text_encoder(file, ldm_family(file, model_.string()), index, text_[index]);
  } else {
    weights = with_text_model_prefix(read_weights(model_ / kTextParts[index]));
  }
  weights.erase("text_model.embeddings.position_ids");  // 0, 1, 2, ...
  load(*model, std::move(weights), dtype, single_file_ ? model_ : model_ / kTextParts[index]);
  return model;
}

void ModelSource::check_weights() const {
  // A part's arrays are only computed, or read, when somebody asks for them.
  for (int i = 0; i < text_encoders(); ++i) load_text_encoder(i, mx::float32);
  load_unet(mx::float32);
  load_autoencoder(mx::float32);
}

Tensors fitted(const nn::Module& module, Tensors weights, mx::Dtype dtype) {
  Tensors out;
  std::map<std::string, size_t> axes;
  module.for_each_param([&](const std::string& path, const nn::Param& p) {
    if (p) axes[path] = p->ndim();
  });
  for (auto& [key, value] : weights) {
    const std::string name = current_name(key);
    const auto wanted = axes.find(name);
    mx::array w = std::move(value);
    if (wanted != axes.end() && w.ndim() == 4) {
      if (wanted->second == 2 && w.shape(2) == 1 && w.shape(3) == 1)
        w = mx::reshape(w, {w.shape(0), w.shape(1)});
      else if (wanted->second == 4)
        w = mx::contiguous(mx::transpose(w, {0, 2, 3, 1}));
    }
    if (mx::issubdtype(w.dtype(), mx::floating)) w = mx::astype(w, dtype);
    out.insert_or_assign(name, std::move(w));
  }
  return out;
}

namespace {

const char* const kPublished[] = {"stable-diffusion-v1-5/stable-diffusion-v1-5",
                                  "stabilityai/stable-diffusion-2-1",
                                  "stabilityai/stable-diffusion-xl-base-1.0"};

fs::path fetch(const std::string& model, DownloadOptions options, bool weights) {
  const Preset* preset = find_preset(model);
  const std::string id = preset ? preset->id : model;
  std::error_code error;
  if (fs::exists(id, error)) return id;
  options.patterns = {"*.json", "*.txt"};
  if (weights)
    for (const char* part : {"unet", "vae", "text_encoder", "text_encoder_2"})
      options.patterns.push_back(std::string(part) + "/*.safetensors");
  options.ignore_patterns = {"*.fp16.*", "*non_ema*", "safety_checker/*"};
  return resolve_model(id, options).folder;
}

}  // namespace

ModelSource open_model(const std::string& model, const std::string& configs,
                       const DownloadOptions& download) {
  const fs::path path = fetch(model, download, true);
  std::error_code error;
  if (fs::is_directory(path, error)) {
    if (!configs.empty())
      throw Error("configurations of their own go with a single .safetensors file; {} is a folder",
                  path.string());
    return ModelSource(path);
  }
  if (path.extension() != ".safetensors") return ModelSource(path);  // says what is wrong
  const std::string with =
      !configs.empty()
          ? configs
          : kPublished[static_cast<int>(ldm_family(load_safetensors(path), path.string()))];
  return ModelSource(path, fetch(with, download, false));
}

}  // namespace mlxcpp::sd
