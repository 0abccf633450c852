#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "lm_common/kv_cache.h"

namespace mlxcpp {

// Caches of a prompt in a safetensors file, as mlx_lm 0.32.2's save_prompt_cache writes it: either
// side reads the other's. (Rotating caches that are quantised, which mlx-lm has not, are ours.)
struct PromptCache {
  Caches caches;
  std::map<std::string, std::string> metadata;  // whatever the writer found worth noting: "model"
};

// Evaluates pending appends. The file is replaced whole or not at all.
void save_prompt_cache(const std::filesystem::path& file, const Caches& caches,
                       const std::map<std::string, std::string>& metadata = {});

// Error, naming the file, if it is no prompt cache or does not add up. Given `like`, the caches
// that the model makes, also if number, kinds, sizes or windows of the layers differ from those.
PromptCache load_prompt_cache(const std::filesystem::path& file, const Caches* like = nullptr);

// Of all layers together. Trimming is all or nothing; returns how many tokens were taken back.
bool can_trim_prompt_cache(const Caches& caches);
int trim_prompt_cache(Caches& caches, int n);

}  // namespace mlxcpp
