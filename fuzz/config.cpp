#include "core/json.h"

#include "weights/checkpoint.h"

using namespace mlxcpp;

namespace {

// A field of every type that configurations have.
struct Config {
  int hidden_size = 0;
  float eps = 0;
  double theta = 0;
  bool tied = false;
  std::string type;
  std::vector<int> list;
  std::vector<std::string> layer_types;
  std::optional<int> window;
  Json rope_scaling;

  template <class V>
  void fields(V& v) {
    v.need("hidden_size", hidden_size);
    v.maybe("rms_norm_eps", eps);
    v.maybe("rope_theta", theta);
    v.maybe("tie_word_embeddings", tied);
    v.maybe("model_type", type);
    v.maybe("eos_token_id", list);
    v.maybe("layer_types", layer_types);
    v.maybe("sliding_window", window);
    v.maybe("rope_scaling", rope_scaling);
  }
};

}  // namespace

// config.json: its syntax, its fields, its quantisation.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const Json json = parse_json(text, "config.json");
    try {
      write_quantization(read_quantization(json));
    } catch (const Error&) {
    }
    read_config<Config>(json);
  } catch (const Error&) {
  }
  return 0;
}
