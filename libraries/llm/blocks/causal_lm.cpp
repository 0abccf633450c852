#include "llm/blocks/causal_lm.h"

#include <charconv>

namespace mlxcpp::llm {

mx::array to_compute_dtype(const mx::array& x) {
  return mx::default_device() == mx::Device::cpu ? mx::astype(x, mx::float32) : x;
}

mx::array softcap(const mx::array& x, float cap) {
  if (cap == 0.0f) return x;
  const mx::array c(cap, x.dtype());
  return mx::tanh(x / c) * c;
}

nn::Weights language_model_weights(nn::Weights weights) {
  static constexpr std::string_view kBeside[] = {
      "vision_tower.",          "audio_tower.",
      "multi_modal_projector.", "embed_vision.",
      "embed_audio.",           "model.vision_tower.",
      "model.audio_tower.",     "model.embed_vision.",
      "model.embed_audio.",     "model.multi_modal_projector."};
  nn::Weights out;
  for (auto& [name, w] : weights) {
    if (name.starts_with("language_model."))
      out.emplace(name.substr(std::string_view("language_model.").size()), w);
    else if (name.starts_with("model.language_model."))
      out.emplace("model." + name.substr(std::string_view("model.language_model.").size()), w);
    else if (std::none_of(std::begin(kBeside), std::end(kBeside),
                          [&](auto p) { return name.starts_with(p); }))
      out.emplace(name, w);
  }
  return out;
}

nn::Weights drop_further_layers(nn::Weights weights, std::string_view prefix, int layers) {
  std::erase_if(weights, [&](const auto& entry) {
    const std::string& name = entry.first;
    int layer = -1;
    if (name.starts_with(prefix))
      std::from_chars(name.data() + prefix.size(), name.data() + name.size(), layer);
    return layer >= layers;
  });
  return weights;
}

}  // namespace mlxcpp::llm
