#include "nn/checkpoint.h"

#include <utility>

#include "nn/module.h"

namespace mlxcpp::nn {
namespace {

thread_local bool on = false;
thread_local int count = 0;

}  // namespace

CheckpointScope::CheckpointScope(bool on_now)
    : before_(std::exchange(on, on_now)), count_before_(std::exchange(count, 0)) {}

CheckpointScope::~CheckpointScope() {
  on = before_;
  count = count_before_;
}

int CheckpointScope::layers() const { return count; }

bool detail::checkpointing() { return on; }

mx::array detail::checkpointed(const Module& m,
                               const std::function<mx::array(const mx::array&)>& run,
                               const mx::array& x) {
  ++count;
  // Only inputs of the function get gradients, so the parameters must be among them.
  std::vector<Param*> params;
  std::vector<mx::array> inputs{x};
  const_cast<Module&>(m).for_each_param([&](const std::string&, Param& p) {
    if (!p || !p.trainable) return;
    params.push_back(&p);
    inputs.push_back(*p);
  });
  const auto inside = [params, run](const std::vector<mx::array>& in) {
    struct Restore {
      const std::vector<Param*>& params;
      std::vector<mx::array> values;
      ~Restore() {
        for (size_t i = 0; i < params.size(); ++i) params[i]->set(values[i]);
      }
    } restore{params, {}};
    for (size_t i = 0; i < params.size(); ++i) {
      restore.values.push_back(**params[i]);
      params[i]->set(in[i + 1]);
    }
    return std::vector<mx::array>{run(in[0])};
  };
  return mx::checkpoint(inside)(inputs)[0];
}

}  // namespace mlxcpp::nn
