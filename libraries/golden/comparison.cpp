#include "golden/comparison.h"

#include <algorithm>
#include <cmath>

#include <fmt/ranges.h>

namespace mlxcpp::golden {
namespace {

// Precision's own bounds, where they are wider than the fixture's (docs/testing-and-debugging.md).
constexpr double kHighOfLargest = 2e-3;   // of max |want|
constexpr double kFastRelativeL2 = 3e-2;  // of the whole tensor

std::vector<float> floats(const mx::array& a) {
  auto flat = mx::contiguous(mx::astype(mx::reshape(a, {-1}), mx::float32));
  flat.eval();
  return {flat.data<float>(), flat.data<float>() + flat.size()};
}

// Of the finite ones: a bound that follows from an infinity would let anything pass.
double largest(const std::vector<float>& v) {
  double m = 0;
  for (const float x : v)
    if (std::isfinite(x)) m = std::max(m, std::abs(static_cast<double>(x)));
  return m;
}

double rms(const std::vector<float>& v) {
  double sum = 0;
  for (const float x : v)
    if (std::isfinite(x)) sum += static_cast<double>(x) * x;
  return v.empty() ? 0 : std::sqrt(sum / v.size());
}

}  // namespace

void Comparison::fail(std::string text) {
  if (!first_failure_) first_failure_ = std::move(text);
}

double Comparison::absolute_bound(const mx::array& want, const Tolerance& tolerance) const {
  switch (precision_) {
    case kernels::Precision::exact:
      return tolerance.abs;
    case kernels::Precision::high:
      return std::max(tolerance.abs, kHighOfLargest * largest(floats(want)));
    case kernels::Precision::fast:
      return std::max(tolerance.abs, kFastRelativeL2 * rms(floats(want)));
  }
  return 0;
}

void Comparison::tensor(const std::string& name, const mx::array& got, const mx::array& want,
                        Tolerance tolerance) {
  TensorResult r{.name = name};
  if (got.shape() != want.shape()) {
    fail(fmt::format("{}: expected shape [{}], found [{}]", name, fmt::join(want.shape(), ", "),
                     fmt::join(got.shape(), ", ")));
    results_.push_back(r);
    return;
  }
  const auto a = floats(got), b = floats(want);
  const bool by_norm = precision_ == kernels::Precision::fast;
  const double abs = absolute_bound(want, tolerance), rel = tolerance.rel, tiny = 1e-3 * largest(b);
  double squared = 0;
  size_t outside = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;  // equal infinities, too
    const double diff = std::abs(static_cast<double>(a[i]) - b[i]);
    squared += diff * diff;  // not finite, if one of the two is not
    // written so that a NaN counts as outside and as the largest
    if (!(diff <= r.max_abs) && !std::isnan(r.max_abs)) r.max_abs = diff;
    if (!(std::abs(b[i]) <= tiny) && !(diff / std::abs(b[i]) <= r.max_rel) &&
        !std::isnan(r.max_rel))
      r.max_rel = diff / std::abs(b[i]);
    if (!std::isfinite(diff) || !(diff <= abs + rel * std::abs(b[i]))) ++outside;
  }
  if (by_norm) {
    const double norm =
        std::sqrt(squared / std::max<size_t>(1, a.size())) / std::max(rms(b), 1e-30);
    r.ok = norm <= kFastRelativeL2 || outside == 0;
    r.bound = fmt::format("relative L2 {:.1e} <= {:.0e}", norm, kFastRelativeL2);
  } else {
    r.ok = outside == 0;
    r.bound = fmt::format("{:.1e} + {:.0e} |want|", abs, rel);
  }
  if (!r.ok)
    fail(fmt::format(
        "{}: {} of {} values differ by more than the bound ({}), largest difference {:.3g}", name,
        outside, a.size(), r.bound, r.max_abs));
  results_.push_back(r);
}

void Comparison::check(const std::string& name, bool ok, const std::string& detail) {
  if (!ok) fail(name + ": " + detail);
  results_.push_back({.name = name, .max_abs = 0, .max_rel = 0, .ok = ok, .bound = "equal"});
}

void Comparison::greedy_step(const mx::array& logits, int want, float margin) {
  const int step = steps_++;
  if (margin < 10 * absolute_bound(logits, tolerance_)) return;
  ++steps_compared_;
  const auto values = floats(logits);
  const int got = static_cast<int>(std::max_element(values.begin(), values.end()) - values.begin());
  if (got != want && wrong_steps_.size() < 100)
    wrong_steps_ +=
        fmt::format(" step {} gives {}, expected {} (margin {:.3g});", step, got, want, margin);
}

void Comparison::end_greedy(const std::string& name) {
  if (steps_compared_ == 0)
    wrong_steps_ = fmt::format(" none of {} steps has a margin wide enough to compare", steps_);
  check(fmt::format("{} ({} of {} steps compared)", name, steps_compared_, steps_),
        wrong_steps_.empty(), wrong_steps_);
  steps_compared_total_ += steps_compared_;
  steps_compared_ = steps_ = 0;
  wrong_steps_.clear();
}

}  // namespace mlxcpp::golden
