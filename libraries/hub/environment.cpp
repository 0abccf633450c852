#include "hub/environment.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "core/error.h"

namespace fs = std::filesystem;

namespace mlxcpp::hub {
namespace {

fs::path home() {
  const auto path = environment("HOME");
  if (!path) throw Error("HOME is not set, so there is no place for the cache: set HF_HOME");
  return *path;
}

fs::path user_cache() {
  const auto path = environment("XDG_CACHE_HOME");
  return path ? fs::path(*path) : home() / ".cache";
}

fs::path hf_home() {
  const auto path = environment("HF_HOME");
  return path ? expand_home(*path) : user_cache() / "huggingface";
}

// Tokens are pasted and read from files: spaces and line ends at the edges are not meant.
std::string trimmed(std::string text) {
  const auto space = [](unsigned char c) { return std::isspace(c) != 0; };
  text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), space));
  text.erase(std::find_if_not(text.rbegin(), text.rend(), space).base(), text.end());
  return text;
}

}  // namespace

std::optional<std::string> environment(const char* name) {
  const char* text = std::getenv(name);
  if (!text || !*text) return std::nullopt;
  return text;
}

fs::path expand_home(const std::string& path) {
  if (path == "~") return home();
  if (path.starts_with("~/")) return home() / path.substr(2);
  return path;
}

fs::path hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (const auto path = environment(name)) return expand_home(*path);
  return hf_home() / "hub";
}

std::string hub_endpoint() {
  std::string endpoint = environment("HF_ENDPOINT").value_or("https://huggingface.co");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  if (!endpoint.starts_with("http://") && !endpoint.starts_with("https://"))
    throw Error("HF_ENDPOINT: expected a URL with http or https, found '{}'", endpoint);
  return endpoint;
}

std::string hub_token() {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (const auto token = environment(name)) return trimmed(*token);
  const auto named = environment("HF_TOKEN_PATH");
  const fs::path file = named ? expand_home(*named) : hf_home() / "token";
  std::ifstream in(file, std::ios::binary);
  if (!in) return "";
  return trimmed(std::string{std::istreambuf_iterator<char>(in), {}});
}

bool hub_offline() {
  auto text = environment("HF_HUB_OFFLINE");
  if (!text) text = environment("TRANSFORMERS_OFFLINE");
  if (!text) return false;
  std::transform(text->begin(), text->end(), text->begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return *text == "1" || *text == "ON" || *text == "YES" || *text == "TRUE";
}

fs::path mlxcpp_cache() {
  const auto path = environment("MLXCPP_CACHE");
  return path ? expand_home(*path) : user_cache() / "mlxcpp";
}

}  // namespace mlxcpp::hub
