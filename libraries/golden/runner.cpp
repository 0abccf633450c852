#include "golden/runner.h"

#include <algorithm>
#include <cmath>

#include "golden/kinds.h"

namespace mlxcpp::golden {

namespace {

// A NaN is the largest.
double larger(double a, double b) { return std::isnan(a) || a >= b ? a : b; }

}  // namespace

double Result::max_abs() const {
  double m = 0;
  for (const auto& t : tensors) m = larger(m, t.max_abs);
  return m;
}

double Result::max_rel() const {
  double m = 0;
  for (const auto& t : tensors) m = larger(m, t.max_rel);
  return m;
}

Result run(const Fixture& fixture, const Options& options) {
  Result result;
  try {
    const kernels::PrecisionScope precision(options.precision);
    if (fs::is_directory(fixture.path) && fs::is_empty(fixture.path))
      throw Error("{}: an empty folder", fixture.path.string());
    if (!fixture.kind)
      throw Error("{}: this kind of fixture is not supported", fixture.path.string());
    const fs::path info =
        fs::is_directory(fixture.path) ? fixture.path / "golden.json" : fixture.path;
    Comparison comparison(fixture.kind->tolerance ? *fixture.kind->tolerance : read_tolerance(info),
                          options.precision);
    fixture.kind->compare(fixture.path, options, comparison);
    result.tensors = comparison.results();
    result.steps_compared = comparison.steps_compared();
    if (comparison.first_failure()) {
      result.reason = *comparison.first_failure();
    } else if (result.tensors.empty()) {
      result.reason = "nothing was compared";
    } else {
      result.status = Result::Status::passed;
    }
  } catch (const Skipped& s) {
    result.status = Result::Status::skipped;
    result.reason = s.reason;
  } catch (const std::exception& e) {
    result.reason = e.what();
  }
  return result;
}

}  // namespace mlxcpp::golden
