#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace mlxcpp {

using Json = nlohmann::json;

// Parses hostile text: nesting is bounded, and a fault is an Error that names `where`.
Json parse_json(std::string_view text, std::string_view where);
Json read_json(const std::filesystem::path& file);

// What `j` is, for error messages: "a string", "the number 7", ...
std::string describe(const Json& j);

// Reads a configuration (config.json and its kin) into a struct that lists its fields once, in
// `template <class V> void fields(V& v)` as `v.need("hidden_size", hidden_size)`. Types are checked
// strictly: no number from a string, no integer from 1.5, nothing that overflows. Every Error names
// file and key. What was asked for is noted, so that a key which nobody knows is an Error, too: a
// field that changes the computation must not be passed over.
class ConfigReader {
 public:
  // `where` stands in messages before the key: "config.json". Copies share their notes.
  ConfigReader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json.is_object()) throw Error("{}: expected an object, found {}", where_, describe(json));
  }

  template <class T>
  void need(const char* key, T& out) {
    skip(key);
    if (!json_.contains(key)) throw Error("{}: '{}' is missing", where_, key);
    get(json_.at(key), key, out);
  }
  // Absent or null: `out` keeps its value.
  template <class T>
  void maybe(const char* key, T& out) {
    skip(key);
    if (const auto it = json_.find(key); it != json_.end() && !it->is_null()) get(*it, key, out);
  }
  template <class T>
  void maybe(const char* key, std::optional<T>& out) {
    skip(key);
    if (const auto it = json_.find(key); it != json_.end() && !it->is_null())
      get(*it, key, out.emplace());
  }

  // The key is known and changes nothing here.
  void skip(const char* key) { known_->insert(key); }
  // The key is known, but one value alone is supported, which is also what absence or null mean.
  void only(const char* key, const Json& value);

  // Throws an Error that names the keys which were not asked for, unless their value is null or
  // core/config_keys.cpp lists them.
  void refuse_unknown() const;

  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }

 private:
  void get(const Json& j, const char* key, bool& out) const;
  void get(const Json& j, const char* key, int& out) const;
  void get(const Json& j, const char* key, float& out) const;
  void get(const Json& j, const char* key, double& out) const;
  void get(const Json& j, const char* key, std::string& out) const;
  void get(const Json& j, const char*, Json& out) const { out = j; }
  template <class T>
  void get(const Json& j, const char* key, std::vector<T>& out) const {
    if (!j.is_array()) throw Error("{}: '{}' must be a list, found {}", where_, key, describe(j));
    out.clear();
    for (const Json& item : j) get(item, key, out.emplace_back());
  }
  template <class T>
    requires requires(T t, ConfigReader& r) { t.fields(r); }
  void get(const Json& j, const char* key, T& out) const {
    ConfigReader inner(j, where_ + ": " + key);
    out.fields(inner);
    inner.refuse_unknown();
  }
  void check_only(const std::string& key, const Json& found, const Json& supported) const;

  const Json& json_;
  std::string where_;
  std::shared_ptr<std::set<std::string>> known_ = std::make_shared<std::set<std::string>>();
};

// The struct's fields of `json`, whose other keys are somebody else's to read.
template <class C>
C read_fields(const Json& json, std::string where) {
  C c;
  ConfigReader reader(json, std::move(where));
  c.fields(reader);
  return c;
}

// The struct that `json` describes; a key that it does not read is an Error.
template <class C>
C read_config(const Json& json, std::string where = "config.json") {
  C c;
  ConfigReader reader(json, std::move(where));
  c.fields(reader);
  reader.refuse_unknown();
  return c;
}

}  // namespace mlxcpp
