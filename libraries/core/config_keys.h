#pragma once

#include <string_view>

#include "core/json.h"

namespace mlxcpp {

// Keys of published config.json files that never change what a model computes: where it came from,
// how it was trained, how it is to be sampled. Every ConfigReader knows them without being asked.
// A family names further keys of its own with ConfigReader::skip() and only().
bool is_bookkeeping_key(std::string_view key);

// Switches that nearly no published checkpoint turns: the one value that needs no support. Null:
// the key is not one of them.
const Json* only_supported_value(std::string_view key);

}  // namespace mlxcpp
