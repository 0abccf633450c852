#pragma once

#include <cstdio>
#include <functional>
#include <string>

#include "hub/model_source.h"

// What tools show on standard error beside their output.
namespace mlxcpp::tools {

struct Terminal {
  bool interactive = false;  // a person's screen, not a file or a pipe
  bool colour = false;       // interactive, and NO_COLOR is not set
  int width = 80;            // columns
};
Terminal terminal_of(std::FILE* stream);

// One line, at most `width` columns: name, bar, share, sizes, speed and time left; of these as
// many as there is room for. `width` 0: all, without a bar.
std::string progress_line(const Progress& progress, int width, bool colour);

// Shows a download on `stream`: on a terminal one line that is drawn again and again, else a
// whole line at the start, at each tenth and at the end. Ends its line with the download, or
// when the last copy goes.
std::function<void(const Progress&)> progress_bar(std::FILE* stream = stderr);
std::function<void(const Progress&)> progress_bar(std::FILE* stream, const Terminal& terminal);

}  // namespace mlxcpp::tools
