// Adapters as they lie on disk, in one form for all of them.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "adapters/lora.h"

namespace mlxcpp::adapters {

// The matrices for one layer, as mlx_lm has them: linear a [in, r], b [r, out]; embedding
// a [count, r], b [r, dims]; experts a [E, r, in], b [E, out, r]. m [out or count]: DoRA.
struct LayerTensors {
  std::string path;                 // of the layer, as the file names it
  std::string a_key, b_key, m_key;  // the keys in the file, for messages
  std::optional<mx::array> a, b, m;
  float scale = 1;
  float dropout = 0;
  int rank = 0;             // that the config promises
  bool transposed = false;  // in the file a is [r, in] and b [out, r]
};

struct AdapterFile {
  std::filesystem::path file;  // that holds the tensors, for messages
  std::vector<LayerTensors> layers;
  nn::Weights whole;  // parameters that are replaced: full fine-tuning, "modules_to_save"
  std::map<std::string, std::string> whole_keys = {};  // of those that the file names otherwise
  std::optional<LoraConfig> config = {};               // mlx_lm's folders
};

// A folder of mlx_lm (adapter_config.json, adapters.safetensors) or of PEFT (adapter_config.json,
// adapter_model.safetensors). Every key is understood or an Error names it. The arrays are
// evaluated: any thread may use them.
AdapterFile read_adapter(const std::filesystem::path& folder);

// Writes a folder of mlx_lm: `tensors` are parameters by path (lora_a, lora_b, m, or whole ones),
// `config` goes into adapter_config.json. Each file is replaced whole.
void write_adapter(const std::filesystem::path& folder, const nn::Weights& tensors,
                   const Json& config);

namespace detail {
AdapterFile read_peft(const std::filesystem::path& folder, const Json& config);
}

}  // namespace mlxcpp::adapters
