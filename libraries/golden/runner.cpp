#include "golden/runner.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "golden/kinds.h"

namespace mlxcpp::golden {

double Result::max_abs() const {
  double m = 0;
  for (const auto& t : tensors)
    if (!(t.max_abs <= m)) m = t.max_abs;
  return m;
}

double Result::max_rel() const {
  double m = 0;
  for (const auto& t : tensors)
    if (!(t.max_rel <= m)) m = t.max_rel;
  return m;
}

Result run(const Fixture& fixture, const Options& options) {
  Result result;
  try {
    const kernels::PrecisionScope precision(options.precision);
    const bool folder = fs::is_directory(fixture.path);
    const fs::path info_file = folder ? fixture.path / "golden.json" : fixture.path;
    const Json info = read_json(info_file);
    const Tolerance tolerance =
        fixture.kind == Kind::real ? kRealTolerance : read_tolerance(info, info_file.string());
    Comparison comparison(tolerance, options.precision);
    switch (fixture.kind) {
      case Kind::language_model:
        compare_language_model(fixture.path, options, comparison);
        break;
      case Kind::cache:
        compare_cache(fixture.path, options, comparison);
        break;
      case Kind::sampling:
        compare_sampling(fixture.path, comparison);
        break;
      case Kind::real:
        compare_real(fixture.path, options, comparison);
        break;
      case Kind::unknown:
        throw Error("{}: this kind of fixture is not supported", fixture.path.string());
    }
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
