// Three tools to try a model with.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lm_common/tools/tool.h"

namespace mlxcpp {

// current_time(): the date and time of this machine, with its offset from UTC.
Tool clock_tool(
    std::function<std::chrono::system_clock::time_point()> now = std::chrono::system_clock::now);

// calculate(expression): numbers, + - * / % ^ ( ), functions (sqrt, ln, log10, exp, sin, cos, tan,
// abs, floor, ceil, round), pi and e.
Tool calculator_tool();
// Of such an expression. Throws an Error that says where it is wrong.
double calculate(std::string_view expression);

// list_directory(path): what lies in a folder at or below `root`, folders with a slash, at most
// 200 names. Nothing outside of the root is shown, whatever the path says.
Tool directory_tool(std::filesystem::path root);

// The three, the folder being the one that the program was started in.
std::vector<Tool> example_tools();

}  // namespace mlxcpp
