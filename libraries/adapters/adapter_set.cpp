#include "adapters/adapter_set.h"

#include <fmt/ranges.h>

namespace mlxcpp::adapters {

void AdapterSet::add(const std::string& name, std::shared_ptr<const ModelAdapter> adapter) {
  if (name.empty()) throw Error("an adapter needs a name");
  if (!adapters_.emplace(name, std::move(adapter)).second)
    throw Error("there is an adapter '{}' already", name);
}

void AdapterSet::remove(const std::string& name) {
  at(name);
  if (active_ == name) throw Error("adapter '{}' is on: take it off first", name);
  adapters_.erase(name);
}

void AdapterSet::use(LanguageModel& model, const std::optional<std::string>& name) {
  const ModelAdapter* next = name ? &at(*name) : nullptr;
  if (active_ == name) return;
  const auto before = active_;
  if (active_) at(*active_).unload(model);
  active_.reset();
  try {
    if (next) next->load(model);
  } catch (...) {
    if (before) at(*before).load(model);
    active_ = before;
    throw;
  }
  active_ = name;
}

std::vector<std::string> AdapterSet::names() const {
  std::vector<std::string> out;
  for (const auto& [name, adapter] : adapters_) out.push_back(name);
  return out;
}

std::string AdapterSet::listing() const {
  return adapters_.empty() ? "none" : fmt::format("{}", fmt::join(names(), ", "));
}

const ModelAdapter& AdapterSet::at(const std::string& name) const {
  const auto it = adapters_.find(name);
  if (it == adapters_.end()) throw Error("no adapter '{}'; there are: {}", name, listing());
  return *it->second;
}

}  // namespace mlxcpp::adapters
