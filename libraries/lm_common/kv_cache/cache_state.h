#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <mlx/mlx.h>

#include "core/error.h"

namespace mlxcpp {

// A cache as a prompt cache file holds it: the class name and the `state` of mlx-lm's caches
// (mlx_lm/models/cache.py of 0.32.2), a list of values of which some are nested.
struct CacheState {
  struct None {};
  using Value = std::variant<mlx::core::array, int, None>;

  std::string kind;
  std::vector<std::pair<std::string, Value>> values;  // by path in the state: "0", "1.2", ...
  std::vector<CacheState> parts;                      // of a CacheList

  void add(std::string path, Value value) {
    values.emplace_back(std::move(path), std::move(value));
  }
  // null when there is none. Error if there is something else at that path.
  const mlx::core::array* array(const std::string& path) const;
  int number(const std::string& path) const;  // Error when there is none
  bool has(const std::string& path) const { return find(path) != nullptr; }

 private:
  const Value* find(const std::string& path) const {
    for (const auto& [p, value] : values)
      if (p == path) return &value;
    return nullptr;
  }
};

inline const mlx::core::array* CacheState::array(const std::string& path) const {
  const Value* value = find(path);
  if (!value || std::holds_alternative<None>(*value)) return nullptr;
  if (const auto* a = std::get_if<mlx::core::array>(value)) return a;
  throw Error("{}: expected an array at '{}', found a number", kind, path);
}

inline int CacheState::number(const std::string& path) const {
  const Value* value = find(path);
  if (value)
    if (const int* n = std::get_if<int>(value)) return *n;
  throw Error("{}: expected a number at '{}'", kind, path);
}

}  // namespace mlxcpp
