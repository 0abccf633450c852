#include "core/json.h"

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>

#include <fmt/ranges.h>

#include "core/config_keys.h"
#include "core/ordered_json.h"

namespace mlxcpp {
namespace {

constexpr int kMaxDepth = 200;  // real files stay under 20; the parser recurses

template <class J>
J parse(std::string_view text, std::string_view where) {
  const auto bounded = [&](int depth, typename J::parse_event_t, J&) {
    if (depth > kMaxDepth) throw Error("{}: JSON nested deeper than {} levels", where, kMaxDepth);
    return true;
  };
  try {
    return J::parse(text, bounded);
  } catch (const typename J::exception& e) {
    throw Error("{}: not valid JSON: {}", where, e.what());
  }
}

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in || std::filesystem::is_directory(file)) throw Error("{}: cannot be read", file.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where) { return parse<Json>(text, where); }

Json read_json(const std::filesystem::path& file) {
  return parse_json(read_text(file), file.string());
}

OrderedJson parse_ordered_json(std::string_view text, std::string_view where) {
  return parse<OrderedJson>(text, where);
}

OrderedJson read_ordered_json(const std::filesystem::path& file) {
  return parse_ordered_json(read_text(file), file.string());
}

std::string describe(const Json& j) {
  std::string text = j.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 40) text = text.substr(0, 40) + "...";
  switch (j.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return text;
    case Json::value_t::string:
      return "the string " + text;
    case Json::value_t::array:
      return "the list " + text;
    case Json::value_t::object:
      return "the object " + text;
    default:
      return "the number " + text;
  }
}

void ConfigReader::only(const char* key, const Json& value) {
  skip(key);
  if (const auto it = json_.find(key); it != json_.end()) check_only(key, *it, value);
}

void ConfigReader::check_only(const std::string& key, const Json& found,
                              const Json& supported) const {
  if (!found.is_null() && found != supported)
    throw Error("{}: '{}' is {}; only {} is supported", where_, key, describe(found),
                describe(supported));
}

void ConfigReader::refuse_unknown() const {
  std::vector<std::string> unknown;
  for (const auto& [key, value] : json_.items()) {
    if (value.is_null() || known_->count(key) || is_bookkeeping_key(key)) continue;
    if (const Json* supported = only_supported_value(key))
      check_only(key, value, *supported);
    else
      unknown.push_back(fmt::format("'{}' ({})", key, describe(value)));
  }
  if (!unknown.empty())
    throw Error(
        "{}: {} not supported: what it changes is not implemented; remove it from the file if it "
        "changes nothing in the computation",
        where_, fmt::join(unknown, ", "));
}

void ConfigReader::get(const Json& j, const char* key, bool& out) const {
  if (!j.is_boolean())
    throw Error("{}: '{}' must be true or false, found {}", where_, key, describe(j));
  out = j.get<bool>();
}

void ConfigReader::get(const Json& j, const char* key, int& out) const {
  const auto bad = [&] {
    return Error("{}: '{}' must be an integer, found {}", where_, key, describe(j));
  };
  if (!j.is_number()) throw bad();
  const double value = j.get<double>();  // some published files write 4096.0
  if (!(std::abs(value) <= std::numeric_limits<int>::max()) || value != std::trunc(value))
    throw bad();
  out = static_cast<int>(value);
}

void ConfigReader::get(const Json& j, const char* key, double& out) const {
  if (!j.is_number() || !std::isfinite(j.get<double>()))
    throw Error("{}: '{}' must be a number, found {}", where_, key, describe(j));
  out = j.get<double>();
}

void ConfigReader::get(const Json& j, const char* key, float& out) const {
  double value = 0;
  get(j, key, value);
  if (std::abs(value) > std::numeric_limits<float>::max())
    throw Error("{}: '{}' does not fit a float: {}", where_, key, describe(j));
  out = static_cast<float>(value);
}

void ConfigReader::get(const Json& j, const char* key, std::string& out) const {
  if (!j.is_string()) throw Error("{}: '{}' must be a string, found {}", where_, key, describe(j));
  out = j.get<std::string>();
}

}  // namespace mlxcpp
