#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace mlxcpp::hub {

// What the environment says, with the names and defaults of huggingface_hub. Read at each call.
std::optional<std::string> environment(const char* name);    // empty counts as unset
std::filesystem::path expand_home(const std::string& path);  // a leading ~

std::filesystem::path hub_cache();  // HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, or HF_HOME/hub
std::string hub_endpoint();         // HF_ENDPOINT, or the public hub; no slash at its end
std::string hub_token();            // HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file HF_TOKEN_PATH
bool hub_offline();                 // HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is 1, ON, YES or TRUE

std::filesystem::path mlxcpp_cache();  // MLXCPP_CACHE, or mlxcpp in XDG_CACHE_HOME or ~/.cache

}  // namespace mlxcpp::hub
