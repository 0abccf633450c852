#include "training/forecast.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include <mlx/primitives.h>

namespace mlxcpp::training {
namespace {

// Operations whose result is a view of their input.
bool is_view(const mx::array& a) {
  static const std::unordered_set<std::string_view> kViews{
      "AsStrided",    "Broadcast",        "BroadcastAxes", "Depends", "ExpandDims",
      "Flatten",      "NumberOfElements", "Slice",         "Split",   "Squeeze",
      "StopGradient", "Transpose",        "Unflatten",     "View"};
  return a.has_primitive() && kViews.contains(a.primitive().name());
}

// Operations that may write where their input lies, when nobody else needs it.
bool may_donate(const mx::array& a) {
  static const std::unordered_set<std::string_view> kElementwise{
      "Abs",        "Add",     "AsType",           "Divide",   "Exp",     "Log",
      "Maximum",    "Minimum", "Multiply",         "Negative", "Reshape", "Sigmoid",
      "Sqrt",       "Square",  "Subtract",         "Tanh",     "Select",  "Erf",
      "Contiguous", "Copy",    "CustomTransforms", "Softmax",  "Ternary"};
  return a.has_primitive() && kElementwise.contains(a.primitive().name());
}

// What an evaluation would do, one array after the other.
class Walk {
 public:
  explicit Walk(const std::vector<mx::array>& outputs) {
    for (const auto& a : outputs) order(a);
    for (const auto& a : outputs) ++users_[a.id()];
  }

  size_t peak() {
    for (const auto& [a, follows] : tape_) {
      const auto owner = is_view(a) && !a.inputs().empty() ? owner_of(a.inputs()[0].id()) : a.id();
      owner_[a.id()] = owner;
      // The new array holds on to the buffer for as long as somebody uses the array.
      holders_[owner] += 1;
      if (owner == a.id()) {
        const auto from = donor(a);
        if (from) {
          bytes_[a.id()] = bytes_[*from];
          bytes_[*from] = 0;
        } else {
          bytes_[a.id()] = a.nbytes();
          alive_ += a.nbytes();
          peak_ = std::max(peak_, alive_);
        }
      }
      if (!follows)
        for (const auto& in : a.inputs()) release(in.id());
    }
    return peak_;
  }

 private:
  using Id = std::uintptr_t;

  // Inputs before what is made of them; without recursion, since graphs are deep.
  void order(const mx::array& root) {
    std::vector<std::pair<mx::array, size_t>> stack{{root, 0}};
    while (!stack.empty()) {
      auto& [a, next] = stack.back();
      if (next == 0 && (seen_.contains(a.id()) || !pending(a))) {
        stack.pop_back();
        continue;
      }
      if (next == 0) seen_.insert(a.id());
      if (next < a.inputs().size()) {
        const auto in = a.inputs()[next++];
        if (pending(in)) ++users_[in.id()];
        stack.emplace_back(in, 0);
      } else {
        const auto done = a;
        stack.pop_back();
        tape_.emplace_back(done, false);
        for (const auto& s : done.siblings())  // made by the same operation
          if (seen_.insert(s.id()).second) tape_.emplace_back(s, true);
      }
    }
  }

  static bool pending(const mx::array& a) { return a.has_primitive() && !a.is_available(); }
  Id owner_of(Id id) const {
    const auto it = owner_.find(id);
    return it == owner_.end() ? id : it->second;
  }

  // An input of the same size that nobody needs after this.
  std::optional<Id> donor(const mx::array& a) const {
    if (!may_donate(a)) return std::nullopt;
    for (const auto& in : a.inputs()) {
      const auto users = users_.find(in.id());
      if (users == users_.end() || users->second != 1) continue;
      const Id owner = owner_of(in.id());
      const auto bytes = bytes_.find(owner);
      if (owner == in.id() && bytes != bytes_.end() && bytes->second == a.nbytes() &&
          holders_.at(owner) == 1)
        return owner;
    }
    return std::nullopt;
  }

  void release(Id id) {
    const auto users = users_.find(id);
    if (users == users_.end() || --users->second > 0) return;
    const Id owner = owner_of(id);
    if (--holders_[owner] > 0) return;
    alive_ -= bytes_[owner];
    bytes_[owner] = 0;
  }

  std::unordered_set<Id> seen_;
  std::vector<std::pair<mx::array, bool>> tape_;  // true: made along with the one before it
  std::unordered_map<Id, int> users_, holders_;
  std::unordered_map<Id, Id> owner_;  // whose buffer an array lies in
  std::unordered_map<Id, size_t> bytes_;
  size_t alive_ = 0, peak_ = 0;
};

}  // namespace

size_t peak_of_graph(const std::vector<mx::array>& outputs) { return Walk(outputs).peak(); }

}  // namespace mlxcpp::training
