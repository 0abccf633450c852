#pragma once

#include <filesystem>
#include <map>
#include <memory>

#include "adapters/adapter_files.h"
#include "lm_common/adapter.h"

namespace mlxcpp::adapters {

// A LoRA, DoRA or full adapter that was read from files. It may be put on any number of models that
// fit it, one after the other. Several on one model add up, LoRA on LoRA.
class LoraAdapter final : public ModelAdapter {
 public:
  // `config`: config.json of the model that it is meant for. Models from GGUF files may have the
  // rows of queries and keys in another order ("rope_traditional"); the adapter's follow them.
  explicit LoraAdapter(const std::filesystem::path& folder, const Json& config = Json::object());
  LoraAdapter(AdapterFile file, const Json& config);

  // All or nothing: an Error names the first key that does not fit, what the model has there, and
  // what was found.
  void load(LanguageModel& model) const override;
  // Nothing happens to a model that it is not on.
  void unload(LanguageModel& model) const override;
  // Makes it part of the weights, whether or not it is on. Quantised weights are quantised again.
  void fuse(LanguageModel& model) const override { fuse(model, false); }
  // dequantize: the layers that it touches become float.
  void fuse(LanguageModel& model, bool dequantize) const;

  const AdapterFile& file() const { return file_; }

 private:
  std::string place_of(const LayerTensors& layer, const nn::Module& model) const;

  AdapterFile file_;
  // What unload() puts back, for adapters that replace whole parameters.
  mutable std::map<const LanguageModel*, nn::Weights> replaced_;
};

}  // namespace mlxcpp::adapters
