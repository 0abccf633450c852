// Where the parts of a model lie: a folder as diffusers writes it, or a single .safetensors file in
// LDM's layout beside a folder with the configurations and tokenizers.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "hub/model_source.h"
#include "stable_diffusion/autoencoder.h"
#include "stable_diffusion/clip_text.h"
#include "stable_diffusion/ldm_names.h"
#include "stable_diffusion/unet.h"

namespace mlxcpp::sd {

class ModelSource {
 public:
  // A folder with model_index.json, or a .safetensors file; `configs` is the folder of the latter's
  // configurations. Checks that every part is there and that they fit each other, by their
  // configurations alone; check_weights() sees to the rest.
  explicit ModelSource(const std::filesystem::path& model,
                       const std::filesystem::path& configs = {});

  bool is_xl() const { return xl_; }
  // A latent consistency model: "LatentConsistencyModelPipeline" of model_index.json.
  bool is_lcm() const { return lcm_; }
  // SDXL: an absent negative prompt is zeros (force_zeros_for_empty_prompt).
  bool zeros_for_no_negative() const { return zeros_for_no_negative_; }
  const std::filesystem::path& path() const { return model_; }
  std::filesystem::path tokenizer_folder(int index) const;
  // scheduler_config.json, and its path for messages.
  const Json& scheduler() const { return scheduler_; }
  std::string scheduler_where() const;

  const UNetConfig& unet_config() const { return unet_; }
  const AutoencoderConfig& autoencoder_config() const { return autoencoder_; }
  const ClipTextConfig& text_config(int index) const { return text_[index]; }
  int text_encoders() const { return xl_ ? 2 : 1; }

  // Floating-point weights become `dtype`.
  std::unique_ptr<UNet> load_unet(mx::Dtype dtype) const;
  std::unique_ptr<Autoencoder> load_autoencoder(mx::Dtype dtype) const;
  std::unique_ptr<ClipTextModel> load_text_encoder(int index, mx::Dtype dtype) const;
  // Whether the weights of every part fit its configuration: names, shapes, dtypes. Reads the
  // headers of the files and holds nothing. An Error as loading would end with.
  void check_weights() const;

 private:
  Json read_part(const std::string& part, const char* file = "config.json") const;
  void check_fit() const;
  Tensors weights(const std::string& part) const;

  std::filesystem::path model_, configs_;
  bool single_file_ = false, xl_ = false, lcm_ = false, zeros_for_no_negative_ = false;
  Json scheduler_;
  UNetConfig unet_;
  AutoencoderConfig autoencoder_;
  std::vector<ClipTextConfig> text_;
};

// A preset, a model of the hub ("org/name"), a folder or a .safetensors file; fetches what is
// missing. `configs`, of the same kinds, goes with a single file; empty: the published model of
// the file's family.
ModelSource open_model(const std::string& model, const std::string& configs = {},
                       const DownloadOptions& download = {});

// The weights as the modules want them: convolutions channels last, 1x1 ones as matrices, older
// names of the autoencoder's attention, the dtype.
Tensors fitted(const nn::Module& module, Tensors weights, mx::Dtype dtype);

}  // namespace mlxcpp::sd
