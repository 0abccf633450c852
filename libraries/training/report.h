#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>

#include "core/json.h"

namespace mlxcpp::training {

// A file of JSON objects, one a line, each with an "iteration". Lines reach the file at once.
class ReportFile {
 public:
  // keep_upto: lines of an earlier part of the run that stay, those up to this iteration; what a
  // killed run wrote after its last checkpoint goes. 0: the file begins anew.
  ReportFile(const std::filesystem::path& file, int keep_upto);
  void add(const Json& line);

 private:
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::filesystem::path file_;
  std::unique_ptr<std::FILE, Close> out_;
};

}  // namespace mlxcpp::training
