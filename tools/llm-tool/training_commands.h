#pragma once

#include <filesystem>

#include "llm-tool/commands.h"

// The sub-commands that make models and adapters.
namespace mlxcpp::tools {

Command add_lora(CLI::App& command);
Command add_convert(CLI::App& command);
// eval whose --adapter is one folder, that of `lora train`.
Command add_lora_eval(CLI::App& command);

inline constexpr const char* kAdapterFolder = "adapters";

// Where the files of a model lie that was loaded before.
ModelFiles files_of(const ModelOptions& model);
// Error when a model is there already.
void check_new_folder(const std::filesystem::path& folder);

}  // namespace mlxcpp::tools
