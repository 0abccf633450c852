#include "nn/value_and_grad.h"

#include <numeric>

#include "kernels/linear.h"

namespace mlxcpp::nn {
namespace {

// The trainable parameters of a tree, put back at the end of the scope.
class Trained {
 public:
  explicit Trained(Module& m) {
    m.for_each_param([&](const std::string& path, Param& p) {
      if (!p || !p.trainable) return;
      paths_.push_back(path);
      params_.push_back(&p);
      values_.push_back(*p);
    });
  }
  ~Trained() { set(values_); }
  Trained(const Trained&) = delete;
  Trained& operator=(const Trained&) = delete;

  void set(const Arrays& values) {
    for (size_t i = 0; i < params_.size(); ++i) params_[i]->set(values[i]);
  }
  const Arrays& values() const { return values_; }
  const std::string& path(size_t i) const { return paths_[i]; }
  size_t size() const { return params_.size(); }

 private:
  std::vector<std::string> paths_;
  std::vector<Param*> params_;
  Arrays values_;
};

}  // namespace

ValuesAndGrads value_and_grad(Module& m, std::function<Arrays(const Arrays&)> loss) {
  return [&m, loss = std::move(loss)](const Arrays& inputs) -> std::pair<Arrays, Weights> {
    const kernels::AnyOrderScope scope;
    Trained trained(m);
    if (trained.size() == 0) throw Error("value_and_grad: {} has nothing to train", m.type_name());
    std::vector<int> argnums(trained.size());
    std::iota(argnums.begin(), argnums.end(), 0);
    const std::function<Arrays(const Arrays&)> of_parameters = [&](const Arrays& values) {
      trained.set(values);
      return loss(inputs);
    };
    auto [values, gradients] = mx::value_and_grad(of_parameters, argnums)(trained.values());
    Weights named;
    for (size_t i = 0; i < gradients.size(); ++i) named.emplace(trained.path(i), gradients[i]);
    return {std::move(values), std::move(named)};
  };
}

LossAndGrads value_and_grad(Module& m, std::function<mx::array(const Arrays&)> loss) {
  auto several = value_and_grad(
      m, std::function<Arrays(const Arrays&)>(
             [loss = std::move(loss)](const Arrays& inputs) { return Arrays{loss(inputs)}; }));
  return [several = std::move(several)](const Arrays& inputs) -> std::pair<mx::array, Weights> {
    auto [values, grads] = several(inputs);
    return {values.front(), std::move(grads)};
  };
}

}  // namespace mlxcpp::nn
