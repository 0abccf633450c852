#pragma once

#include <filesystem>
#include <optional>

#include "core/json.h"
#include "nn/module.h"

namespace mlxcpp::training {

// All that a run needs to go on, in one file that is there whole or not at all.
struct RunState {
  nn::Weights parameters, optimizer, accumulated;
  Json progress = Json::object();  // numbers of the trainer: iteration, data order, ...
  Json settings = Json::object();  // what must be the same for the run to go on

  void write(const std::filesystem::path& file) const;
  static RunState read(const std::filesystem::path& file);
};

inline constexpr const char* kRunStateFile = "checkpoint.safetensors";

// Error, which `where` starts, names the first setting that differs.
void check_settings(const Json& saved, const Json& now, const std::string& where);

}  // namespace mlxcpp::training
