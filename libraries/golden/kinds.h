#pragma once

#include "golden/fixture.h"
#include "golden/runner.h"

namespace mlxcpp::golden {

// A kind of fixture. kinds.cpp has the table of them all: a new one is a row there and a function.
struct Kind {
  std::string_view name;
  bool (*matches)(const fs::path& fixture);
  // Compares everything in the fixture. Throws when it cannot.
  void (*compare)(const fs::path& fixture, const Options& options, Comparison& out);
  // For fixtures that have none of their own.
  std::optional<Tolerance> tolerance = {};
};

// The kind of a fixture's path, by its place and name or else by its contents; nullptr if it is
// none that is known.
const Kind* kind_of(const fs::path& fixture);

// Thrown by a fixture that needs files which are not on this machine.
struct Skipped {
  std::string reason;
};

void compare_language_model(const fs::path& folder, const Options& options, Comparison& out);
void compare_adapter(const fs::path& folder, const Options& options, Comparison& out);
void compare_gguf(const fs::path& json, const Options& options, Comparison& out);
void compare_cache(const fs::path& json, const Options& options, Comparison& out);
void compare_sampling(const fs::path& json, const Options& options, Comparison& out);
void compare_media(const fs::path& folder, const Options& options, Comparison& out);
void compare_embedders(const fs::path& folder, const Options& options, Comparison& out);
void compare_stable_diffusion(const fs::path& folder, const Options& options, Comparison& out);
void compare_real(const fs::path& json, const Options& options, Comparison& out);

}  // namespace mlxcpp::golden
