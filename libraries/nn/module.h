// The parameter tree. A module's members name and register themselves:
//   Child<Linear> q_proj{this, "q_proj", c.hidden_size, c.hidden_size};
// is declaration, checkpoint name and constructor in one (the C++ form of Swift's @ModuleInfo).
#pragma once

#include <functional>
#include <iosfwd>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

#include "core/error.h"
#include "nn/checkpoint.h"

namespace mlxcpp::nn {

namespace mx = mlx::core;

class Module;
class Param;

// Checkpoint name -> array. Gradients and filtered parameters have the same form.
using Weights = std::map<std::string, mx::array>;

struct absent_t {};
inline constexpr absent_t absent{};

// Sees every output of a Child or Children element while it is installed on a thread: `llm-tool
// trace`, the golden runner. Module::paths() of the root says where `module` stands.
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
  virtual void visit(const Visit& visit) const = 0;
  // Puts `m` at `name`, and hands back what stood there. Throws unless the type of `m` fits the
  // declared one; `path` is for that message.
  virtual std::unique_ptr<Module> replace(const std::string& name, std::unique_ptr<Module> m,
                                          const std::string& path) = 0;
};

// Modules are pinned: members register their own address, so no copy, no move. Not thread-safe.
class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  using ParamVisitor = std::function<void(const std::string& path, Param& param)>;
  using ConstParamVisitor = std::function<void(const std::string& path, const Param& param)>;
  using ModuleVisitor = std::function<void(const std::string& path, Module& module)>;
  using ConstModuleVisitor = std::function<void(const std::string& path, const Module& module)>;
  using ParamPredicate = std::function<bool(const std::string& path, const Param& param)>;

  // Depth first, in order of declaration; absent parameters too. for_each_module leaves out this
  // module itself. The tree must not change meanwhile.
  void for_each_param(const ParamVisitor& visit, const std::string& prefix = "");
  void for_each_param(const ConstParamVisitor& visit, const std::string& prefix = "") const;
  void for_each_module(const ModuleVisitor& visit, const std::string& prefix = "");
  void for_each_module(const ConstModuleVisitor& visit, const std::string& prefix = "") const;
  // Only the sub-modules that are members of this very module.
  void for_each_child(const ConstModuleVisitor& visit) const;

  // The sub-module at `path` ("model.layers.1.mlp"); "" is this one. Throws when there is none.
  Module& at(const std::string& path);
  // Where every module below stands, and this one (""); path_of throws for a stranger.
  std::unordered_map<const Module*, std::string> paths() const;
  std::string path_of(const Module& module) const;

  // Puts `m` in place of the sub-module at `path`, and hands back what stood there: how quantised
  // and LoRA layers go in. `m` gets the training mode of what it replaces.
  std::unique_ptr<Module> replace(const std::string& path, std::unique_ptr<Module> m);

  // Parameters that are present, by path; all, or those the predicate picks.
  Weights parameters(const ParamPredicate& which = {}) const;
  Weights trainable_parameters() const;
  // Assigns some of the parameters, as an optimizer does. All or nothing: one Error lists every
  // path that does not exist and every shape that differs.
  void update(const Weights& values);
  // Replaces every parameter that is present (and picked) by f of it: a cast, a move, a rescaling.
  using Map = std::function<mx::array(const std::string& path, const mx::array& value)>;
  void map_parameters(const Map& f, const ParamPredicate& which = {});
  // Casts every floating-point parameter. Quantised layers keep what their format fixes.
  void cast(mx::Dtype dtype);

  // Number of weights of the whole tree; those packed in quantised layers count singly.
  size_t num_parameters() const;
  // Bytes of all parameters as they are stored.
  size_t nbytes() const;

  // Takes parameters out of training, or puts them back: all, those the predicate picks, or those
  // at or below a path (an Error when there are none). Fixed parameters (Param::Kind) stay frozen.
  void freeze(const ParamPredicate& which = {});
  void unfreeze(const ParamPredicate& which = {});
  void freeze(const std::string& path);
  void unfreeze(const std::string& path);

  // Training mode of the whole tree; dropout and batch norm differ. True at first, as in MLX.
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }

  // For printing: the class's name, and what stands in the brackets after it.
  virtual std::string type_name() const;
  virtual std::string settings() const { return ""; }

 protected:
  // Number of weights of this module's own parameters.
  virtual size_t num_own_parameters() const;

 private:
  friend class Param;
  template <class T>
  friend class Child;
  template <class T>
  friend class Children;

  void set_trainable(bool on, const ParamPredicate& which);
  void set_trainable(bool on, const std::string& path);

  std::vector<std::pair<std::string, Param*>> params_;
  std::vector<Edge*> edges_;
  bool training_ = true;
};

// The tree in the form of Python's mlx.nn: one line a module, members indented.
std::string to_string(const Module& module);
std::ostream& operator<<(std::ostream& out, const Module& module);

// A module that takes one array and gives one: what Sequential holds, and what a quantised or
// adapted layer takes the place of.
class Layer : public Module {
 public:
  virtual mx::array operator()(const mx::array& x) const = 0;
};

// A leaf: an array, or absent. Which of the two is the config's decision, made in the constructor;
// `load` holds the checkpoint to it. Initial values cost nothing, since MLX is lazy.
class Param {
 public:
  // fixed: part of the checkpoint but never trained (quantised weights, running statistics).
  enum class Kind { learned, fixed };

  Param(Module* owner, std::string name, std::optional<mx::array> init, Kind kind = Kind::learned)
      : trainable(kind == Kind::learned), kind_(kind), value_(std::move(init)) {
    add(owner, std::move(name));
  }
  Param(Module* owner, std::string name, absent_t, Kind kind = Kind::learned)
      : Param(owner, std::move(name), std::nullopt, kind) {}
  Param(const Param&) = delete;
  Param& operator=(const Param&) = delete;

  explicit operator bool() const { return value_.has_value(); }
  const mx::array& operator*() const { return *value_; }
  const mx::array* operator->() const { return &*value_; }
  const std::optional<mx::array>& optional() const { return value_; }
  void set(mx::array v) { value_ = std::move(v); }
  Kind kind() const { return kind_; }

  bool trainable;

 private:
  void add(Module* owner, std::string name) { owner->params_.emplace_back(std::move(name), this); }

  Kind kind_;
  std::optional<mx::array> value_;
};

namespace detail {
// `m` as a T, or an Error that names both types.
[[noreturn]] void throw_misfit(const std::string& path, const std::type_info& declared,
                               const Module* found);
template <class T>
std::unique_ptr<T> fitting(std::unique_ptr<Module> m, const std::string& path) {
  if (!dynamic_cast<T*>(m.get())) throw_misfit(path, typeid(T), m.get());
  return std::unique_ptr<T>(static_cast<T*>(m.release()));
}
}  // namespace detail

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
  // A module made elsewhere, or (nullptr) none.
  Child(Module* owner, std::string name, std::unique_ptr<T> m)
      : Child(owner, std::move(name), absent) {
    ptr_ = std::move(m);
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
  // A module of a derived type, or (nullptr) none.
  void set(std::unique_ptr<T> m) { ptr_ = std::move(m); }
  // Gives the module away; then there is none.
  std::unique_ptr<T> take() { return std::move(ptr_); }
  template <class... A>
  auto operator()(A&&... a) const {
    return detail::observed(*ptr_, (*ptr_)(std::forward<A>(a)...));
  }

  void visit(const Visit& visit) const override {
    if (ptr_) visit(name_, *ptr_);
  }
  std::unique_ptr<Module> replace(const std::string&, std::unique_ptr<Module> m,
                                  const std::string& path) override {
    return std::exchange(ptr_, detail::fitting<T>(std::move(m), path));
  }

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
  // By hand: clang instantiates a defaulted one at once, and T may be only declared yet.
  ~Children() override {}  // NOLINT(modernize-use-equals-default)

  template <class... A>
  T& emplace_back(A&&... a) {
    return *items_.emplace_back(std::make_unique<T>(std::forward<A>(a)...));
  }
  T& push_back(std::unique_ptr<T> m) { return *items_.emplace_back(std::move(m)); }
  size_t size() const { return items_.size(); }
  bool empty() const { return items_.empty(); }
  T& operator[](size_t i) const { return *items_[i]; }
  // Calls element i, seen by an Observer, checkpointed within a CheckpointScope.
  template <class X, class... A>
  auto call(size_t i, X&& x, A&&... a) const {
    T& item = *items_[i];
    // A layer that writes to its arguments cannot be called twice.
    if constexpr (std::is_same_v<std::decay_t<X>, mx::array> &&
                  std::is_invocable_r_v<mx::array, T&, const mx::array&,
                                        const std::decay_t<A>&...> &&
                  (!std::is_same_v<std::decay_t<A>, mx::array> && ...))
      if (detail::checkpointing())
        return detail::checkpointed(
            item, [&item, a...](const mx::array& h) { return item(h, a...); }, x);
    return detail::observed(item, item(std::forward<X>(x), std::forward<A>(a)...));
  }

  void visit(const Visit& visit) const override {
    for (size_t i = 0; i < items_.size(); ++i) visit(name_of(i), *items_[i]);
  }
  std::unique_ptr<Module> replace(const std::string& name, std::unique_ptr<Module> m,
                                  const std::string& path) override {
    for (size_t i = 0; i < items_.size(); ++i)
      if (name == name_of(i))
        return std::exchange(items_[i], detail::fitting<T>(std::move(m), path));
    return nullptr;
  }

 private:
  std::string name_of(size_t i) const { return name_ + "." + std::to_string(i); }

  std::string name_;
  std::vector<std::unique_ptr<T>> items_;
};

// "float32", "bfloat16", ... for messages.
std::string dtype_name(mx::Dtype dtype);

// Assigns every parameter. All or nothing: one Error lists every missing, unused and wrongly shaped
// key with its full path, before the model is touched. Dtypes are the checkpoint's, but a float
// never goes where the model declares integers (packed weights), nor the other way round.
void load(Module& m, Weights weights);

}  // namespace mlxcpp::nn
