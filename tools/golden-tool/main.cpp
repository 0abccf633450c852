// golden-tool DIR...: compares every fixture below the folders with what its reference computed.
#include <CLI/CLI.hpp>

#include "golden/runner.h"
#include "support/options.h"
#include "support/program.h"

using namespace mlxcpp;

namespace {

void print(const golden::Fixture& fixture, const golden::Result& r, bool list) {
  static constexpr const char* kStatus[] = {"passed", "FAILED", "skipped"};
  std::string out =
      fmt::format("{:<40} {:<8} largest difference {:.2e} absolute, {:.2e} relative",
                  fixture.name(), kStatus[static_cast<int>(r.status)], r.max_abs(), r.max_rel());
  if (r.steps_compared) out += fmt::format(", {} greedy steps", r.steps_compared);
  out += "\n";
  if (!r.reason.empty()) out += fmt::format("    {}\n", r.reason);
  if (list)
    for (const auto& t : r.tensors)
      out += fmt::format("    {:<4} {:<44} {:.2e} {:.2e}  {}\n", t.ok ? "ok" : "FAIL", t.name,
                         t.max_abs, t.max_rel, t.bound);
  tools::print(out);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares every golden fixture below the folders with what its reference computed.",
               "golden-tool");
  std::vector<std::filesystem::path> roots;
  tools::ComputeOptions compute;
  compute.precision = "exact";
  bool list = false;
  app.add_option("DIR", roots, "folders to search, or single fixtures")->required();
  compute.add(app);
  app.add_flag(
      "--list", list,
      "print every tensor compared: largest absolute and relative difference, and the bound");
  return tools::run_program(app, argc, argv, [&] {
    compute.apply();
    const golden::Options options{.precision = compute.kernel_precision()};
    int counts[3] = {};
    for (const auto& fixture : golden::find_fixtures(roots)) {
      const auto result = golden::run(fixture, options);
      ++counts[static_cast<int>(result.status)];
      print(fixture, result, list);
    }
    tools::print(
        fmt::format("{} passed, {} failed, {} skipped\n", counts[0], counts[1], counts[2]));
    return counts[1] ? 1 : 0;
  });
}
