#pragma once

#include "golden/fixture.h"
#include "golden/runner.h"

// One function a kind of fixture: compares everything in it. Throws when it cannot.
namespace mlxcpp::golden {

// Thrown by a fixture that needs files which are not on this machine.
struct Skipped {
  std::string reason;
};

// Real models have no tolerance of their own: near ties under 1e-3 are set aside.
inline constexpr Tolerance kRealTolerance{.abs = 1e-4, .rel = 0};

void compare_language_model(const fs::path& folder, const Options& options, Comparison& out);
void compare_cache(const fs::path& json, const Options& options, Comparison& out);
void compare_sampling(const fs::path& json, Comparison& out);
void compare_real(const fs::path& json, const Options& options, Comparison& out);

}  // namespace mlxcpp::golden
