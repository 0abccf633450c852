// Texts a second of the real all-MiniLM-L6-v2, by length and batch; with --peers next to
// transformers on torch, ONNX Runtime and llama.cpp, all measured in turns in one run.
// `bench_embedders --serve PRECISION` is the measured side (support/child.h): a request is
// "LENGTH BATCH", the answer texts a second.
#include <chrono>
#include <iostream>
#include <memory>
#include <sstream>

#include <CLI/CLI.hpp>

#include "embedders/embedder.h"
#include "embedders/presets.h"
#include "kernels/precision.h"
#include "kernels/thread_pool.h"
#include "lm_common/memory.h"
#include "support/comparison.h"

using namespace mlxcpp;
namespace mx = mlx::core;
using bench::Better;

namespace {

constexpr double kSeconds = 1.0;          // of one measurement, at least
constexpr int kFirst = 101, kLast = 102;  // [CLS], [SEP]

// --- The measured side ---

// The peers make the same (peers/embedder_peer.py).
std::vector<embedders::Tokens> texts_of(int length, int batch) {
  std::vector<embedders::Tokens> texts(batch);
  for (int b = 0; b < batch; ++b) {
    for (int i = 0; i < length; ++i) texts[b].ids.push_back(1000 + (b * 7919 + i * 104729) % 20000);
    texts[b].ids.front() = kFirst;
    texts[b].ids.back() = kLast;
  }
  return texts;
}

double texts_per_second(const embedders::Embedder& embedder, int length, int batch) {
  using Clock = std::chrono::steady_clock;
  const auto texts = texts_of(length, batch);
  const embedders::EmbedOptions options{.batch_size = batch};
  embedder.embed_ids(texts, options);
  const auto start = Clock::now();
  int done = 0;
  double seconds = 0;
  do {
    embedder.embed_ids(texts, options);
    done += batch;
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  } while (seconds < kSeconds);
  return done / seconds;
}

void answer(const Json& j) { std::cout << j.dump() << std::endl; }

int serve(const std::string& precision, const std::string& model) {
  mx::set_default_device(mx::Device::cpu);
  bound_memory_by_default();
  {
    const kernels::PrecisionScope scope(precision == "fast" ? kernels::Precision::fast
                                                            : kernels::Precision::high);
    embedders::EmbedderOptions options;
    if (precision == "fast")
      options.quantize = kernels::quant_type(kernels::QuantMode::affine, 32, 8);
    const embedders::Embedder embedder(resolve_model(model), options);
    answer({{"ready", true}});
    for (std::string request; std::getline(std::cin, request);) {
      std::istringstream words(request);
      int length = 0, batch = 0;
      if (request == "peak_memory")
        answer({{"value", static_cast<double>(peak_resident_memory()) / 1e6}});
      else if (words >> length >> batch && length > 1 && length <= embedder.max_length() * 2 &&
               batch > 0)
        answer({{"value", texts_per_second(embedder, length, batch)}});
      else
        answer({{"error", "unknown request " + request}});
    }
  }
  mx::clear_streams();
  return 0;
}

// --- The measuring side ---

constexpr bench::Child::Seconds kLimit{300};  // of one answer

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed of embedders.", "bench_embedders");
  std::string served, model = embedders::kDefaultModel, python = "python3";
  std::vector<int> lengths{16, 32, 128, 512}, batches{1, 32};
  std::vector<std::string> precisions{"f32", "fast"}, kinds{"torch", "onnxruntime", "llama.cpp"};
  int threads = kernels::num_threads(), runs = 3;
  bool peers = false, json = false;
  app.add_option("--serve", served)->group("");
  app.add_option("--model", model, "all-MiniLM-L6-v2, or another with the same vocabulary")
      ->capture_default_str();
  app.add_option("--length", lengths, "tokens of a text [16,32,128,512]")->delimiter(',');
  app.add_option("--batch", batches, "texts at once [1,32]")->delimiter(',');
  app.add_option("--precision", precisions, "ours: f32, fast [both]")
      ->delimiter(',')
      ->check(CLI::IsMember({"f32", "fast"}));
  app.add_option("--threads", threads, "number of threads to measure with")->capture_default_str();
  app.add_option("--runs", runs, "of each point")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_flag("--peers", peers, "measure others beside us");
  app.add_option("--peer", kinds, "which others: torch, onnxruntime, llama.cpp [all]")
      ->delimiter(',')
      ->check(CLI::IsMember({"torch", "onnxruntime", "llama.cpp"}));
  app.add_option("--python", python, "a Python that has them")
      ->envname("MLXCPP_PEERS_PYTHON")
      ->capture_default_str();
  app.add_flag("--json", json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!served.empty()) return serve(served, model);
    if (!json) std::cout << bench::table_header();
    ::setenv("MLXCPP_NUM_THREADS", std::to_string(threads).c_str(), 1);
    bool good = true;
    for (const auto& precision : precisions) {
      std::vector<bench::Side> sides = {
          {precision, {argv[0], "--serve", precision, "--model", model}}};
      if (peers)
        for (const auto& kind : kinds)
          sides.push_back({kind,
                           {python, MLXCPP_PEERS "/embedder_peer.py", kind,
                            resolve_model(model).folder.string(), std::to_string(threads)}});
      bench::Comparison comparison(std::move(sides), kLimit);
      bench::Row row{.bench = "embedders", .model = "MiniLM " + precision, .threads = threads};
      const auto measure = [&](const std::string& request, int times) {
        for (const auto& r : comparison.with_each(row, comparison.ask(request, times)))
          std::cout << (json ? bench::json_line(r) + "\n" : bench::table_line(r)) << std::flush;
      };
      row.unit = "texts/s";
      row.better = Better::higher;
      for (const int length : lengths)
        for (const int batch : batches) {
          row.point = fmt::format("{} tokens, batch {}", length, batch);
          measure(fmt::format("{} {}", length, batch), runs);
        }
      row.point = "peak";
      row.unit = "MB";
      row.better = Better::lower;
      measure("peak_memory", 1);
      good = good && !comparison.peers_failed();
    }
    if (!good) return 1;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_embedders: {}\n", e.what());
    return 1;
  }
  return 0;
}
