#include "training/run_state.h"

#include "weights/safetensors.h"

namespace mlxcpp::training {
namespace {

struct Part {
  const char* prefix;
  nn::Weights RunState::* member;
};
constexpr Part kParts[] = {{"parameters.", &RunState::parameters},
                           {"optimizer.", &RunState::optimizer},
                           {"accumulated.", &RunState::accumulated}};
constexpr const char* kFormat = "mlxcpp training 1";

}  // namespace

void RunState::write(const std::filesystem::path& file) const {
  nn::Weights all;
  for (const Part& part : kParts)
    for (const auto& [key, value] : this->*part.member) all.emplace(part.prefix + key, value);
  write_safetensors(
      file, all,
      {{"format", kFormat}, {"progress", progress.dump()}, {"settings", settings.dump()}});
}

RunState RunState::read(const std::filesystem::path& file) {
  auto content = read_safetensors(file);
  const auto need = [&](const char* key) {
    const auto it = content.metadata.find(key);
    if (it == content.metadata.end())
      throw Error("{}: '{}' is missing: expected a checkpoint of a training run", file.string(),
                  key);
    return it->second;
  };
  if (need("format") != kFormat)
    throw Error("{}: expected the format '{}', found '{}'", file.string(), kFormat, need("format"));
  RunState out;
  out.progress = parse_json(need("progress"), file.string() + ": progress");
  out.settings = parse_json(need("settings"), file.string() + ": settings");
  // Copies: the file may be replaced while the run goes on.
  std::vector<mx::array> copies;
  for (auto& [name, value] : content.tensors) {
    const Part* part = std::find_if(std::begin(kParts), std::end(kParts),
                                    [&](const Part& p) { return name.starts_with(p.prefix); });
    if (part == std::end(kParts)) throw Error("{}: unknown tensor '{}'", file.string(), name);
    const auto copy = mx::copy(value);
    copies.push_back(copy);
    (out.*part->member).emplace(name.substr(std::string_view(part->prefix).size()), copy);
  }
  mx::eval(copies);
  return out;
}

void check_settings(const Json& saved, const Json& now, const std::string& where) {
  if (!saved.is_object()) throw Error("{}: settings: expected an object", where);
  for (const auto& [key, value] : now.items()) {
    const auto it = saved.find(key);
    const Json before = it == saved.end() ? Json() : *it;
    if (before != value)
      throw Error("{}: the run was begun with {} = {}, not {}: it cannot go on with another", where,
                  key, before.dump(), value.dump());
  }
}

}  // namespace mlxcpp::training
