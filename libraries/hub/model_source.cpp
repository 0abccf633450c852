#include "hub/model_source.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "hub/environment.h"
#include "hub/gguf_files.h"
#include "hub/hub_client.h"
#include "hub/pypi.h"

namespace fs = std::filesystem;

namespace mlxcpp {
namespace {

using namespace hub;

constexpr std::string_view kPypi = "pypi:";

// The files right in `folder`, as paths.
std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (std::error_code gone; it->is_regular_file(gone)) files.push_back(it->path().string());
  if (error) throw Error("{}: cannot be read: {}", folder.string(), error.message());
  return files;
}

ModelFiles gguf_model(const std::vector<std::string>& parts) {
  ModelFiles model;
  for (const std::string& part : parts) model.gguf.emplace_back(part);
  model.folder = model.gguf.front().parent_path();
  return model;
}

// Weights in safetensors come first, for hub folders often hold both forms. What else a folder with
// some JSON in it lacks, the loader knows best.
ModelFiles from_folder(const fs::path& folder) {
  const std::vector<std::string> files = files_in(folder);
  const auto any = [&](std::initializer_list<std::string_view> suffixes) {
    return std::any_of(files.begin(), files.end(), [&](const std::string& file) {
      return std::any_of(suffixes.begin(), suffixes.end(),
                         [&](std::string_view suffix) { return file.ends_with(suffix); });
    });
  };
  if (any({".safetensors", ".npz"})) return {folder, {}};
  if (!find_gguf_models(files).empty()) return gguf_model(choose_gguf(files, "", folder.string()));
  if (any({".json"})) return {folder, {}};
  throw Error("{}: no model in this folder: expected config.json with safetensors, or a .gguf file",
              folder.string());
}

ModelFiles from_path(const fs::path& path) {
  if (fs::is_directory(path)) return from_folder(path);
  if (path.extension() != ".gguf")
    throw Error("{}: expected a folder or a .gguf file", path.string());
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::string file = (folder / path.filename()).string();
  return gguf_model(parts_of(file, files_in(folder)));
}

// org/name[/FILE.gguf | :TAG][@revision]
struct HubReference {
  HubModel model;
  std::string file, tag;
};

// As the hub allows it: letters, digits and -._ ; no -- and .. ; not at the edges.
bool is_hub_name(const std::string& name) {
  const auto allowed = [](unsigned char c) {
    return c < 128 && (std::isalnum(c) || c == '-' || c == '_' || c == '.');
  };
  const auto edge = [](char c) { return c == '-' || c == '.'; };
  return !name.empty() && name.size() <= 96 && std::all_of(name.begin(), name.end(), allowed) &&
         !edge(name.front()) && !edge(name.back()) && name.find("--") == name.npos &&
         name.find("..") == name.npos;
}

std::optional<HubReference> parse_hub(const std::string& reference) {
  HubReference parsed;
  std::string text = reference;
  if (const size_t at = text.find('@'); at != text.npos) {
    parsed.model.revision = text.substr(at + 1);
    text.resize(at);
    if (parsed.model.revision.empty())
      throw Error("{}: a revision is expected after '@' (org/name@revision), found nothing",
                  reference);
  }
  if (const size_t colon = text.find(':'); colon != text.npos) {
    parsed.tag = text.substr(colon + 1);
    text.resize(colon);
    if (parsed.tag.empty()) return std::nullopt;
  }
  const size_t slash = text.find('/');
  if (slash == text.npos) return std::nullopt;
  const size_t second = text.find('/', slash + 1);
  if (second != text.npos) {
    parsed.file = text.substr(second + 1);
    text.resize(second);
    if (!parsed.file.ends_with(".gguf") || !parsed.tag.empty()) return std::nullopt;
  }
  if (!is_hub_name(text.substr(0, slash)) || !is_hub_name(text.substr(slash + 1)))
    return std::nullopt;
  if (text.ends_with(".gguf")) return std::nullopt;  // a file that is not there
  parsed.model.id = text;
  return parsed;
}

std::vector<std::string> select_files(const HubReference& wanted, const DownloadOptions& options,
                                      const std::vector<std::string>& files) {
  const std::string& id = wanted.model.id;
  if (!wanted.file.empty()) {
    if (std::find(files.begin(), files.end(), wanted.file) == files.end())
      throw Error("{}: no file '{}' at revision '{}'", id, wanted.file, wanted.model.revision);
    return parts_of(wanted.file, files);
  }
  if (!wanted.tag.empty()) return choose_gguf(files, wanted.tag, id);
  auto chosen = filter_files(files, options.patterns, options.ignore_patterns);
  // A model that is published as GGUF only has no weights for these patterns.
  const auto has_weights = [](const std::string& f) { return f.ends_with(".safetensors"); };
  if (std::none_of(files.begin(), files.end(), has_weights) && !find_gguf_models(files).empty() &&
      !filter_files({"model.safetensors"}, options.patterns, {}).empty())
    return choose_gguf(files, "", id);
  if (chosen.empty())
    throw Error("{}: none of its {} files matches {}", id, files.size(),
                fmt::join(options.patterns, " "));
  return chosen;
}

ModelFiles from_hub(const HubReference& wanted, const DownloadOptions& options) {
  const Snapshot snapshot = fetch_snapshot(
      HubSettings::from_environment(options), wanted.model,
      [&](const std::vector<std::string>& files) { return select_files(wanted, options, files); },
      options);
  const auto is_gguf = [](const std::string& f) { return f.ends_with(".gguf"); };
  if (!std::all_of(snapshot.files.begin(), snapshot.files.end(), is_gguf))
    return {snapshot.folder, {}};
  std::vector<std::string> parts;
  for (const std::string& file : snapshot.files) parts.push_back((snapshot.folder / file).string());
  return gguf_model(parts);
}

}  // namespace

ModelFiles resolve_model(const std::string& reference, const DownloadOptions& options) {
  if (reference.empty()) throw Error("the name of a model is expected, found nothing");
  if (reference.starts_with(kPypi))
    return fetch_pypi(parse_pypi(reference.substr(kPypi.size())), options.offline || hub_offline(),
                      options);
  const fs::path path = expand_home(reference);
  std::error_code error;
  if (fs::exists(path, error)) return from_path(path);
  const bool only_a_path =
      reference.front() == '/' || reference.front() == '.' || reference.front() == '~';
  const auto hub = only_a_path ? std::nullopt : parse_hub(reference);
  if (!hub)
    throw Error("{}: no such file or folder{}", reference,
                only_a_path ? ""
                            : ", and not a model's name: those are org/name[@revision], "
                              "org/name/FILE.gguf, org/name:TAG, or pypi:PACKAGE[==VERSION]");
  return from_hub(*hub, options);
}

}  // namespace mlxcpp
