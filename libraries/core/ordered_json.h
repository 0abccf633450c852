#pragma once

#include <filesystem>
#include <string_view>

#include <nlohmann/json.hpp>

namespace mlxcpp {

// JSON whose objects keep the order they were written in. Templates print tools and arguments, so
// to a model the order is part of the text. Made from a Json implicitly (its keys are then in
// alphabetical order).
using OrderedJson = nlohmann::ordered_json;

// As parse_json and read_json.
OrderedJson parse_ordered_json(std::string_view text, std::string_view where);
OrderedJson read_ordered_json(const std::filesystem::path& file);

}  // namespace mlxcpp
