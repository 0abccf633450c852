#include "core/json.h"
#include "llm/registry.h"
#include "lm_common/model_context.h"
#include "nn/quantized.h"
#include "text/tokenizer_files.h"

using namespace mlxcpp;

namespace {

// Loading allows 10,000 of what is made one by one. So many only take time; numbers beyond that
// are left for the readers to refuse.
void bound_counts(Json& json) {
  constexpr int kMade = 16, kAllowed = 10'000;
  if (json.is_object())
    for (const char* key : {"num_hidden_layers", "num_transformer_layers", "altup_num_inputs"})
      if (const auto it = json.find(key); it != json.end() && it->is_number())
        if (const double n = it->get<double>(); n > kMade && n <= kAllowed) *it = kMade;
  if (json.is_structured())
    for (Json& item : json) bound_counts(item);
}

// As loading does it, until weights are asked for: the arrays of the tree are not computed.
void make_model(const Json& config) {
  mx::random::seed(0);  // the generator's state is lazy, too, and grows with every array
  const Quantization quantization = read_quantization(config);
  ModelContext context{.model = llm::model_types().make(config), .tokenizer = nullptr};
  nn::quantize(*context.model,
               [&](const std::string& path, const nn::Module&) { return quantization.at(path); });
  context.model->make_caches({});
  context.model->num_parameters();
  write_quantization(quantization);
}

template <class F>
void attempt(F f) {
  try {
    f();
  } catch (const Error&) {
  }
}

}  // namespace

// config.json: its syntax, its quantisation, what generation asks of it, and the model of its type
// with rope and caches. What follows a "\0" is a generation_config.json.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(text.find('\0'), size);
  attempt([&] {
    Json config = parse_json(text.substr(0, end), "config.json");
    bound_counts(config);
    attempt([&] { make_model(config); });
    const ModelContext context{.model = nullptr, .tokenizer = nullptr, .config = config};
    attempt([&] { context.eos(); });
    attempt([&] { context.context_length(); });
    attempt([&] { context.vocab_size(); });
  });
  if (end == size) return 0;
  attempt([&] {
    const char* where = "generation_config.json";
    read_eos_ids(parse_json(text.substr(end + 1), where), where);
  });
  return 0;
}
