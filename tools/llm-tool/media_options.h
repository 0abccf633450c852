#pragma once

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "lm_common/user_input.h"

namespace mlxcpp::tools {

// Pictures, films and sounds of a prompt, and how they are read.
struct MediaInputOptions {
  std::vector<std::string> images, videos, audio;
  std::vector<int> resize;  // width, or width and height
  MediaOptions media;       // the rest of them

  void add(CLI::App& app);
  // Error for a file that is not there, or standard input wanted twice (or by a program that reads
  // its lines): before a model is loaded for nothing.
  void check(bool may_read_standard_input) const;
  bool empty() const { return images.empty() && videos.empty() && audio.empty(); }
  // Puts the files into a message.
  void attach(chat::Message& message) const;
  MediaOptions options() const;
};

}  // namespace mlxcpp::tools
