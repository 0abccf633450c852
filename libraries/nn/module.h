// The parameter tree. A module's members name and register themselves:
//   Child<Linear> q_proj{this, "q_proj", c.hidden_size, c.hidden_size};
// is declaration, checkpoint name and constructor in one (the C++ form of Swift's @ModuleInfo).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

#include "core/error.h"

namespace mlxcpp::nn {

namespace mx = mlx::core;

class Module;
class Param;

// Checkpoint name -> array.
using Weights = std::map<std::string, mx::array>;

struct absent_t {};
inline constexpr absent_t absent{};

// Sees every output of a Child or Children element while it is installed on a thread: `llm-tool
// trace`, the golden runner.
using Observer = std::function<void(const Module& module, const mx::array& output)>;
class ObserverScope {
 public:
  explicit ObserverScope(Observer observer);
  ~ObserverScope();
  ObserverScope(const ObserverScope&) = delete;
  ObserverScope& operator=(const ObserverScope&) = delete;

 private:
  Observer before_;
};
namespace detail {
extern thread_local Observer observer;
template <class R>
R observed(const Module& module, R result) {
  if constexpr (std::is_same_v<R, mx::array>)
    if (observer) observer(module, result);
  return result;
}
}  // namespace detail

// An edge of the tree: one sub-module, none, or a list of them.
class Edge {
 public:
  using Visit = std::function<void(const std::string& name, Module& module)>;
  virtual ~Edge() = default;
  virtual void visit(const Visit& visit) = 0;
  // Puts `m` at `name`. Throws unless its type fits the declared one.
  virtual void replace(const std::string& name, std::unique_ptr<Module> m) = 0;
};

// Modules are pinned: members register their own address, so no copy, no move. Not thread-safe.
class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  using ParamVisitor = std::function<void(const std::string& path, Param& param)>;
  using ModuleVisitor = std::function<void(const std::string& path, Module& module)>;

  // Depth first, in order of declaration. for_each_module leaves out this module itself.
  void for_each_param(const ParamVisitor& visit, const std::string& prefix = "");
  void for_each_module(const ModuleVisitor& visit, const std::string& prefix = "");
  // Puts `m` in place of the sub-module at `path` ("model.layers.1.mlp.up_proj"): how quantised and
  // LoRA layers go in.
  void replace(const std::string& path, std::unique_ptr<Module> m);

 private:
  friend class Param;
  template <class T>
  friend class Child;
  template <class T>
  friend class Children;

  std::vector<std::pair<std::string, Param*>> params_;
  std::vector<Edge*> edges_;
};

// A leaf: an array, or absent. Which of the two is the config's decision, made in the constructor;
// `load` holds the checkpoint to it. Initial values cost nothing, since MLX is lazy.
class Param {
 public:
  Param(Module* owner, std::string name, mx::array init) : value_(std::move(init)) {
    add(owner, std::move(name));
  }
  Param(Module* owner, std::string name, absent_t) { add(owner, std::move(name)); }
  Param(const Param&) = delete;
  Param& operator=(const Param&) = delete;

  explicit operator bool() const { return value_.has_value(); }
  const mx::array& operator*() const { return *value_; }
  const mx::array* operator->() const { return &*value_; }
  const std::optional<mx::array>& optional() const { return value_; }
  void set(mx::array v) { value_ = std::move(v); }

  bool trainable = true;

 private:
  void add(Module* owner, std::string name) { owner->params_.emplace_back(std::move(name), this); }

  std::optional<mx::array> value_;
};

// A named, replaceable sub-module; calling it calls the module. May be declared absent and emplaced
// by the constructor.
template <class T>
class Child final : public Edge {
 public:
  template <class... A>
  Child(Module* owner, std::string name, A&&... a) : Child(owner, std::move(name), absent) {
    ptr_ = std::make_unique<T>(std::forward<A>(a)...);
  }
  Child(Module* owner, std::string name, absent_t) : name_(std::move(name)) {
    owner->edges_.push_back(this);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  explicit operator bool() const { return ptr_ != nullptr; }
  T& operator*() const { return *ptr_; }
  T* operator->() const { return ptr_.get(); }
  template <class... A>
  void emplace(A&&... a) {
    ptr_ = std::make_unique<T>(std::forward<A>(a)...);
  }
  template <class... A>
  auto operator()(A&&... a) const {
    return detail::observed(*ptr_, (*ptr_)(std::forward<A>(a)...));
  }

  void visit(const Visit& visit) override {
    if (ptr_) visit(name_, *ptr_);
  }
  void replace(const std::string& name, std::unique_ptr<Module> m) override;

 private:
  std::string name_;
  std::unique_ptr<T> ptr_;
};

// A list of sub-modules, named "layers.0", "layers.1", ...
template <class T>
class Children final : public Edge {
 public:
  Children(Module* owner, std::string name) : name_(std::move(name)) {
    owner->edges_.push_back(this);
  }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  template <class... A>
  T& emplace_back(A&&... a) {
    return *items_.emplace_back(std::make_unique<T>(std::forward<A>(a)...));
  }
  size_t size() const { return items_.size(); }
  T& operator[](size_t i) const { return *items_[i]; }
  // Calls element i, seen by an Observer.
  template <class... A>
  auto call(size_t i, A&&... a) const {
    return detail::observed(*items_[i], (*items_[i])(std::forward<A>(a)...));
  }

  void visit(const Visit& visit) override {
    for (size_t i = 0; i < items_.size(); ++i) visit(name_ + "." + std::to_string(i), *items_[i]);
  }
  void replace(const std::string& name, std::unique_ptr<Module> m) override;

 private:
  std::string name_;
  std::vector<std::unique_ptr<T>> items_;
};

namespace detail {
template <class T>
std::unique_ptr<T> fitting(const std::string& name, std::unique_ptr<Module> m) {
  if (auto* fits = dynamic_cast<T*>(m.get())) {
    m.release();
    return std::unique_ptr<T>(fits);
  }
  throw Error("cannot replace '{}': the new module's type does not fit", name);
}
}  // namespace detail

template <class T>
void Child<T>::replace(const std::string& name, std::unique_ptr<Module> m) {
  if (name == name_) ptr_ = detail::fitting<T>(name, std::move(m));
}

template <class T>
void Children<T>::replace(const std::string& name, std::unique_ptr<Module> m) {
  for (size_t i = 0; i < items_.size(); ++i)
    if (name == name_ + "." + std::to_string(i)) {
      items_[i] = detail::fitting<T>(name, std::move(m));
      return;
    }
}

// Assigns every parameter. All or nothing: one Error lists every missing, unused and wrongly shaped
// key with its full path, before the model is touched. Dtypes are the checkpoint's.
void load(Module& m, Weights weights);

}  // namespace mlxcpp::nn
