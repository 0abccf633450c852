#include "nn/checkpoint.h"

#include <utility>

#include "nn/module.h"

namespace mlxcpp::nn {
namespace {

thread_local bool on = false;
thread_local int count = 0;
thread_local uint64_t seed = 0;

}  // namespace

CheckpointScope::CheckpointScope(bool on_now, uint64_t seed_now)
    : before_(std::exchange(on, on_now)),
      count_before_(std::exchange(count, 0)),
      seed_before_(std::exchange(seed, seed_now)) {}

CheckpointScope::~CheckpointScope() {
  on = before_;
  count = count_before_;
  seed = seed_before_;
}

int CheckpointScope::layers() const { return count; }

bool detail::checkpointing() { return on; }

mx::array detail::checkpointed(const Module& m,
                               const std::function<mx::array(const mx::array&)>& run,
                               const mx::array& x) {
  // Neighbouring seeds give unrelated numbers: the generator is a hash.
  const uint64_t layer_seed = seed + static_cast<uint64_t>(++count) * 0x9E3779B97F4A7C15u;
  // Only inputs of the function get gradients, so the parameters must be among them.
  std::vector<Param*> params;
  std::vector<mx::array> inputs{x};
  const_cast<Module&>(m).for_each_param([&](const std::string&, Param& p) {
    if (!p || !p.trainable) return;
    params.push_back(&p);
    inputs.push_back(*p);
  });
  const auto inside = [params, run, layer_seed](const std::vector<mx::array>& in) {
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
    mx::random::seed(layer_seed);
    return std::vector<mx::array>{run(in[0])};
  };
  return mx::checkpoint(inside)(inputs)[0];
}

}  // namespace mlxcpp::nn
