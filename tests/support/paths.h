#pragma once

#include <filesystem>
#include <string>

namespace mlxcpp::test {

// Where this checkout and this build are. One small file knows it, so that every other file of the
// tests is the same in all checkouts, and comes from the compiler's cache in a new one.
std::filesystem::path tests_folder();
std::filesystem::path golden_folder();
std::string tool(const std::string& name);  // a program of tools/

}  // namespace mlxcpp::test
