#include "tests/support/paths.h"

namespace mlxcpp::test {

std::filesystem::path tests_folder() { return MLXCPP_TESTS; }
std::filesystem::path golden_folder() { return tests_folder() / "golden"; }
std::string tool(const std::string& name) { return std::string(MLXCPP_TOOLS) + "/" + name; }

}  // namespace mlxcpp::test
