#include "nn/module.h"

#include <fmt/ranges.h>

namespace mlxcpp::nn {
namespace detail {

thread_local Observer observer;

}  // namespace detail

namespace {

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

}  // namespace

ObserverScope::ObserverScope(Observer observer)
    : before_(std::exchange(detail::observer, std::move(observer))) {}
ObserverScope::~ObserverScope() { detail::observer = std::move(before_); }

void Module::for_each_param(const ParamVisitor& visit, const std::string& prefix) {
  for (auto& [name, p] : params_) visit(join(prefix, name), *p);
  for (Edge* e : edges_)
    e->visit([&](const std::string& n, Module& m) { m.for_each_param(visit, join(prefix, n)); });
}

void Module::for_each_module(const ModuleVisitor& visit, const std::string& prefix) {
  for (Edge* e : edges_)
    e->visit([&](const std::string& n, Module& m) {
      visit(join(prefix, n), m);
      m.for_each_module(visit, join(prefix, n));
    });
}

void Module::replace(const std::string& path, std::unique_ptr<Module> m) {
  for (Edge* e : edges_) {
    std::string hit;
    Module* next = nullptr;
    e->visit([&](const std::string& n, Module& c) {
      if (path == n) {
        hit = n;
      } else if (path.starts_with(n + ".")) {
        hit = n;
        next = &c;
      }
    });
    if (hit.empty()) continue;
    if (next) return next->replace(path.substr(hit.size() + 1), std::move(m));
    return e->replace(hit, std::move(m));
  }
  throw Error("no sub-module at '{}'", path);
}

void load(Module& m, Weights weights) {
  std::vector<std::pair<Param*, mx::array>> fits;
  std::string bad;
  m.for_each_param([&](const std::string& path, Param& p) {
    if (!p) return;  // its key, if the checkpoint has one, is unused
    const auto it = weights.find(path);
    if (it == weights.end()) {
      bad += "\n  missing " + path;
      return;
    }
    if (p->shape() != it->second.shape())
      bad += fmt::format("\n  shape   {}: expected [{}], found [{}]", path,
                         fmt::join(p->shape(), ", "), fmt::join(it->second.shape(), ", "));
    fits.emplace_back(&p, it->second);
    weights.erase(it);
  });
  for (const auto& [path, w] : weights) bad += "\n  unused  " + path;
  if (!bad.empty()) throw Error("weights do not fit the model:{}", bad);
  for (auto& [p, w] : fits) p->set(std::move(w));
}

}  // namespace mlxcpp::nn
