#include "lm_common/model_types.h"

#include <algorithm>

#include "core/error.h"
#include "lm_common/model_context.h"
#include "lm_common/nearest.h"

namespace mlxcpp {

const ModelTypes::Entry* ModelTypes::find(std::string_view name) const {
  const auto it = std::find_if(entries_.begin(), entries_.end(),
                               [&](const Entry& e) { return e.name == name; });
  return it == entries_.end() ? nullptr : &*it;
}

void ModelTypes::add(Entry entry) {
  if (const Entry* old = find(entry.name))
    entries_[static_cast<size_t>(old - entries_.data())] = std::move(entry);
  else
    entries_.push_back(std::move(entry));
}

bool ModelTypes::contains(std::string_view name) const { return find(name) != nullptr; }

const ModelTypes::Entry& ModelTypes::at(std::string_view name) const {
  if (const Entry* entry = find(name)) return *entry;
  throw Error("unsupported model type '{}'{} (docs/adding-a-model.md says how to add one)", name,
              did_you_mean(name, names()));
}

namespace {

// What norms add, under whatever name a family has for it.
void refuse_negative_epsilon(const Json& config, std::string_view where) {
  for (const auto& [key, value] : config.items()) {
    const bool epsilon = key.ends_with("_eps") || key.ends_with("_epsilon");
    if (epsilon && value.is_number() && !(value.get<double>() >= 0))
      throw Error("{}: '{}' is {}, expected 0 or more", where, key, value.get<double>());
  }
}

}  // namespace

const ModelTypes::Entry& ModelTypes::of(const Json& config, std::string_view where) const {
  const std::string type = model_type(config, where);
  refuse_negative_epsilon(config, where);
  for (const auto& [key, part] : config.items())
    if (part.is_object()) refuse_negative_epsilon(part, fmt::format("{}: {}", where, key));
  try {
    return at(type);
  } catch (const Error& e) {
    throw Error("{}: {}", where, e.what());
  }
}

std::vector<std::string> ModelTypes::names() const {
  std::vector<std::string> out;
  for (const Entry& e : entries_) out.push_back(e.name);
  return out;
}

std::unique_ptr<LanguageModel> ModelTypes::make(const Json& config, std::string_view where) const {
  const Entry& entry = of(config, where);
  try {
    return entry.make(config);
  } catch (const Error& e) {
    throw Error("{}", in_file(where, e.what()));
  }
}

bool has_towers(const nn::Weights& weights) {
  constexpr std::string_view kTowers[] = {"vision_tower.", "vision_model.", "visual.",
                                          "audio_tower."};
  return std::any_of(weights.begin(), weights.end(), [&](const auto& w) {
    return std::any_of(std::begin(kTowers), std::end(kTowers), [&](std::string_view tower) {
      return w.first.find(tower) != std::string::npos;
    });
  });
}

std::string model_type(const Json& config, std::string_view where) {
  std::string type;
  ConfigReader(config, std::string(where)).need("model_type", type);
  return type;
}

}  // namespace mlxcpp
