#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <mlx/mlx.h>

#include "core/json.h"
#include "kernels/precision.h"

namespace mlxcpp::golden {

namespace mx = mlx::core;

struct Tolerance {
  double abs = 0, rel = 0;
};

// One tensor held against its reference.
struct TensorResult {
  std::string name;
  double max_abs = 0,
         max_rel = 0;  // largest |got - want|, and that over |want| where |want| is not tiny
  bool ok = false;
  std::string bound;  // the rule that was applied
};

// Collects what one fixture says, in order, so that the first failure is the first layer that
// differs.
class Comparison {
 public:
  // tolerance is the fixture's, for f32 arithmetic; a looser precision has bounds of its own (see
  // bound()).
  Comparison(Tolerance tolerance, kernels::Precision precision)
      : tolerance_(tolerance), precision_(precision) {}

  void tensor(const std::string& name, const mx::array& got, const mx::array& want) {
    tensor(name, got, want, tolerance_);
  }
  // By another tolerance than the fixture's.
  void tensor(const std::string& name, const mx::array& got, const mx::array& want,
              Tolerance tolerance);
  // Anything else that must hold; `detail` is shown when it does not.
  void check(const std::string& name, bool ok, const std::string& detail);

  // Greedy steps, each fed the reference's token: step i's logits [vocab] must have their largest
  // at want. Steps whose margin is below 10 x the tolerance are near ties and do not count;
  // end_greedy() fails when none counted.
  void greedy_step(const mx::array& logits, int want, float margin);
  void end_greedy(const std::string& name);

  const std::vector<TensorResult>& results() const { return results_; }
  const std::optional<std::string>& first_failure() const { return first_failure_; }
  int steps_compared() const { return steps_compared_total_; }

 private:
  double absolute_bound(const mx::array& want, const Tolerance& tolerance) const;
  void fail(std::string text);

  Tolerance tolerance_;
  kernels::Precision precision_;
  std::vector<TensorResult> results_;
  std::optional<std::string> first_failure_;
  int steps_compared_ = 0, steps_compared_total_ = 0, steps_ = 0;
  std::string wrong_steps_;
};

}  // namespace mlxcpp::golden
