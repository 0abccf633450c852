#include "llm-tool/model_report.h"

#include <map>

#include <fmt/ranges.h>

#include "lm_common/memory.h"
#include "lm_common/model_context.h"
#include "lm_common/model_types.h"
#include "vlm/registry.h"
#include "weights/checkpoint.h"

namespace mlxcpp::tools {
namespace {

std::string megabytes(size_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

std::string quantization(const Quantization& q) {
  std::map<std::string, int> layers;
  const auto text = [](const std::optional<kernels::QuantType>& t) {
    if (!t) return std::string("float");
    return t->is_gguf() ? std::string(kernels::name(t->mode))
                        : fmt::format("{} {} bits, group {}", kernels::name(t->mode), t->bits,
                                      t->group_size);
  };
  for (const auto& [path, type] : q.per_layer) ++layers[text(type)];
  std::vector<std::string> parts;
  if (q.everywhere) parts.push_back(text(q.everywhere));
  for (const auto& [type, count] : layers)
    parts.push_back(fmt::format("{} in {} layers", type, count));
  return parts.empty() ? "none" : fmt::format("{}", fmt::join(parts, "; "));
}

// As loading does: the family reads all of the config, and the tensors must be those that the model
// has. Arrays are lazy and their files mapped, so that no weight is read.
void check(const ModelFiles& files, const Checkpoint& checkpoint) {
  make_language_model(checkpoint, vlm::model_types(), files.config_file());
}

std::string report(const ModelFiles& files, const Checkpoint& checkpoint,
                   const ModelConfiguration& configuration, const GenerateParameters& parameters) {
  const Json& config = checkpoint.config;
  const std::string type = model_type(config);
  const auto forecast =
      memory_forecast(config, checkpoint.bytes, 4, parameters.kv_bits, parameters.kv_group_size);
  std::string out;
  const auto line = [&](std::string_view what, const std::string& value) {
    out += fmt::format("{:<16} {}\n", what, value);
  };
  line("model", configuration.id);
  line("files", files.gguf.empty() ? files.folder.string() : files.gguf[0].string());
  const ModelTypes& types = vlm::model_types();
  line("type", type + (types.contains(type) ? "" : " (not supported)"));
  const bool media =
      types.contains(type) && types.at(type).processor && has_towers(checkpoint.weights);
  for (const char* tower : {"vision_config", "audio_config"})
    if (media && config.contains(tower) && config[tower].is_object()) {
      std::string kind = type;
      ConfigReader(config[tower], fmt::format("config.json: {}", tower)).maybe("model_type", kind);
      line(tower == std::string_view("vision_config") ? "vision tower" : "audio tower", kind);
    }
  line("quantization", quantization(checkpoint.quantization));
  line("processor", media ? types.at(type).processor(config, files.folder)->describe().dump()
                          : "text: tokenizer and chat template");
  line("memory",
       fmt::format("weights {}, KV cache {} for 1,000 tokens{}", megabytes(forecast.weights),
                   megabytes(forecast.kv_per_token * 1000),
                   forecast.context_length
                       ? fmt::format(", {} with the context of {} tokens full",
                                     megabytes(forecast.kv_full()), *forecast.context_length)
                       : ""));
  out += "configuration\n";
  for (const auto& [key, value] : config.items())
    if (key != "quantization" && key != "quantization_config") line("  " + key, value.dump());
  if (types.contains(type)) check(files, checkpoint);
  return out;
}

}  // namespace

std::string model_report(const ModelConfiguration& configuration, const DownloadOptions& download,
                         const GenerateParameters& parameters) {
  const ModelFiles files = resolve_model(configuration.reference(), download);
  const Checkpoint checkpoint = load_checkpoint(files.folder, files.gguf);  // mapped, not read
  try {
    return report(files, checkpoint, configuration, parameters);
  } catch (const Error& e) {
    throw Error("{}", in_file(files.config_file(), e.what()));
  }
}

}  // namespace mlxcpp::tools
