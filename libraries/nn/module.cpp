#include "nn/module.h"

#include <cstdlib>
#include <ostream>
#include <sstream>
#include <typeinfo>

#include <cxxabi.h>
#include <fmt/ranges.h>

namespace mlxcpp::nn {
namespace detail {

thread_local Observer observer;

}  // namespace detail

namespace {

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

// The class's name without its namespaces and template arguments: "Linear".
std::string short_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), std::free);
  std::string name;
  int depth = 0;  // of template brackets
  for (const char c : std::string_view(status == 0 ? text.get() : type.name())) {
    if (c == '<') ++depth;
    if (depth == 0) name += c;
    if (c == '>') --depth;
  }
  const size_t colons = name.rfind("::");
  return colons == std::string::npos ? name : name.substr(colons + 2);
}

std::string shape_text(const mx::array& a) {
  return fmt::format("[{}]", fmt::join(a.shape(), ", "));
}

// Whether a checkpoint's array may stand where the model declared `declared`.
bool dtype_fits(mx::Dtype declared, mx::Dtype found) {
  if (mx::issubdtype(declared, mx::inexact)) return mx::issubdtype(found, mx::inexact);
  return declared == found;
}

void print(const Module& m, std::string& out, const std::string& indent) {
  out += m.type_name() + "(" + m.settings();
  bool any = false;
  m.for_each_child([&](const std::string& name, const Module& child) {
    any = true;
    out += "\n" + indent + "  (" + name + "): ";
    print(child, out, indent + "  ");
  });
  if (any) out += "\n" + indent;
  out += ")";
}

}  // namespace

ObserverScope::ObserverScope(Observer observer)
    : before_(std::exchange(detail::observer, std::move(observer))) {}
ObserverScope::~ObserverScope() { detail::observer = std::move(before_); }

void Module::for_each_param(const ParamVisitor& visit, const std::string& prefix) {
  for (auto& [name, p] : params_) visit(join(prefix, name), *p);
  for (const Edge* e : edges_)
    e->visit([&](const std::string& n, Module& m) { m.for_each_param(visit, join(prefix, n)); });
}

void Module::for_each_param(const ConstParamVisitor& visit, const std::string& prefix) const {
  for (const auto& [name, p] : params_) visit(join(prefix, name), *p);
  for (const Edge* e : edges_)
    e->visit(
        [&](const std::string& n, const Module& m) { m.for_each_param(visit, join(prefix, n)); });
}

void Module::for_each_module(const ModuleVisitor& visit, const std::string& prefix) {
  for (const Edge* e : edges_)
    e->visit([&](const std::string& n, Module& m) {
      visit(join(prefix, n), m);
      m.for_each_module(visit, join(prefix, n));
    });
}

void Module::for_each_module(const ConstModuleVisitor& visit, const std::string& prefix) const {
  for (const Edge* e : edges_)
    e->visit([&](const std::string& n, const Module& m) {
      visit(join(prefix, n), m);
      m.for_each_module(visit, join(prefix, n));
    });
}

void Module::for_each_child(const ConstModuleVisitor& visit) const {
  for (const Edge* e : edges_) e->visit(visit);
}

Module& Module::at(const std::string& path) {
  if (path.empty()) return *this;
  Module* found = nullptr;
  for_each_module([&](const std::string& p, Module& m) {
    if (p == path) found = &m;
  });
  if (!found) throw Error("no sub-module at '{}'", path);
  return *found;
}

std::unordered_map<const Module*, std::string> Module::paths() const {
  std::unordered_map<const Module*, std::string> out{{this, ""}};
  for_each_module([&](const std::string& path, const Module& m) { out.emplace(&m, path); });
  return out;
}

std::string Module::path_of(const Module& module) const {
  const auto all = paths();
  const auto it = all.find(&module);
  if (it == all.end())
    throw Error("{} has no such sub-module ({})", type_name(), module.type_name());
  return it->second;
}

std::unique_ptr<Module> Module::replace(const std::string& path, std::unique_ptr<Module> m) {
  Module* parent = this;
  for (std::string rest = path;;) {
    Edge* edge = nullptr;  // the one that `rest` starts with
    std::string name;
    Module* child = nullptr;
    for (Edge* e : parent->edges_)
      e->visit([&](const std::string& n, Module& c) {
        if (rest != n && !rest.starts_with(n + ".")) return;
        edge = e;
        name = n;
        child = &c;
      });
    if (!edge) throw Error("no sub-module at '{}'", path);
    if (rest == name) {
      const bool training = child->training();
      Module* fresh = m.get();
      auto old = edge->replace(name, std::move(m), path);
      fresh->train(training);
      return old;
    }
    rest = rest.substr(name.size() + 1);
    parent = child;
  }
}

Weights Module::parameters(const ParamPredicate& which) const {
  Weights out;
  for_each_param([&](const std::string& path, const Param& p) {
    if (p && (!which || which(path, p))) out.emplace(path, *p);
  });
  return out;
}

Weights Module::trainable_parameters() const {
  return parameters([](const std::string&, const Param& p) { return p.trainable; });
}

void Module::update(const Weights& values) {
  std::vector<std::pair<Param*, mx::array>> fits;
  std::vector<std::string> bad;
  std::map<std::string, Param*> all;
  for_each_param([&](const std::string& path, Param& p) {
    if (p) all.emplace(path, &p);
  });
  for (const auto& [path, value] : values) {
    const auto it = all.find(path);
    if (it == all.end()) {
      bad.push_back("unknown " + path);
    } else if ((*it->second)->shape() != value.shape()) {
      bad.push_back(fmt::format("shape of {}: expected {}, found {}", path,
                                shape_text(**it->second), shape_text(value)));
    } else {
      fits.emplace_back(it->second, value);
    }
  }
  if (!bad.empty()) throw Error("the update does not fit the model: {}", fmt::join(bad, "; "));
  for (auto& [p, v] : fits) p->set(std::move(v));
}

void Module::map_parameters(const Map& f, const ParamPredicate& which) {
  for_each_param([&](const std::string& path, Param& p) {
    if (p && (!which || which(path, p))) p.set(f(path, *p));
  });
}

void Module::cast(mx::Dtype dtype) {
  map_parameters([&](const std::string&, const mx::array& a) {
    return mx::issubdtype(a.dtype(), mx::floating) ? mx::astype(a, dtype) : a;
  });
}

size_t Module::num_own_parameters() const {
  size_t n = 0;
  for (const auto& [name, p] : params_)
    if (*p) n += (*p)->size();
  return n;
}

size_t Module::num_parameters() const {
  size_t n = num_own_parameters();
  for_each_module([&](const std::string&, const Module& m) { n += m.num_own_parameters(); });
  return n;
}

size_t Module::nbytes() const {
  size_t n = 0;
  for_each_param([&](const std::string&, const Param& p) {
    if (p) n += p->nbytes();
  });
  return n;
}

void Module::set_trainable(bool on, const ParamPredicate& which) {
  for_each_param([&](const std::string& path, Param& p) {
    if (p.kind() == Param::Kind::learned && (!which || which(path, p))) p.trainable = on;
  });
}

void Module::set_trainable(bool on, const std::string& path) {
  bool any = false;
  set_trainable(on, [&](const std::string& p, const Param&) {
    const bool hit = path.empty() || p == path || p.starts_with(path + ".");
    any |= hit;
    return hit;
  });
  if (!any) throw Error("no parameter at or below '{}'", path);
}

void Module::freeze(const ParamPredicate& which) { set_trainable(false, which); }
void Module::unfreeze(const ParamPredicate& which) { set_trainable(true, which); }
void Module::freeze(const std::string& path) { set_trainable(false, path); }
void Module::unfreeze(const std::string& path) { set_trainable(true, path); }

void Module::train(bool on) {
  training_ = on;
  for_each_module([&](const std::string&, Module& m) { m.training_ = on; });
}

std::string Module::type_name() const { return short_name(typeid(*this)); }

std::string to_string(const Module& module) {
  std::string out;
  print(module, out, "");
  return out;
}

std::ostream& operator<<(std::ostream& out, const Module& module) {
  return out << to_string(module);
}

void detail::throw_misfit(const std::string& path, const std::type_info& declared,
                          const Module* found) {
  throw Error("cannot replace '{}': expected a {}, found {}", path, short_name(declared),
              found ? "a " + found->type_name() : "nothing");
}

std::string dtype_name(mx::Dtype dtype) {
  std::ostringstream out;
  out << dtype;
  return out.str();
}

void load(Module& m, Weights weights) {
  std::vector<std::pair<Param*, mx::array>> fits;
  std::vector<std::string> bad;
  m.for_each_param([&](const std::string& path, Param& p) {
    if (!p) return;  // its key, if the checkpoint has one, is unused
    const auto it = weights.find(path);
    if (it == weights.end()) {
      bad.push_back("missing " + path);
      return;
    }
    const mx::array& found = it->second;
    if (p->shape() != found.shape())
      bad.push_back(fmt::format("shape of {}: expected {}, found {}", path, shape_text(*p),
                                shape_text(found)));
    else if (!dtype_fits(p->dtype(), found.dtype()))
      bad.push_back(fmt::format(
          "dtype of {}: expected {}, found {}", path,
          mx::issubdtype(p->dtype(), mx::inexact) ? "floating point" : dtype_name(p->dtype()),
          dtype_name(found.dtype())));
    fits.emplace_back(&p, found);
    weights.erase(it);
  });
  for (const auto& [path, w] : weights) bad.push_back("unused " + path);
  constexpr size_t kTold = 20;  // another model's weights do not fit in thousands of ways
  if (bad.size() > kTold) {
    const size_t more = bad.size() - kTold;
    bad.resize(kTold);
    bad.push_back(fmt::format("and {} more", more));
  }
  if (!bad.empty()) throw Error("weights do not fit the model: {}", fmt::join(bad, "; "));
  for (auto& [p, w] : fits) p->set(std::move(w));
}

}  // namespace mlxcpp::nn
