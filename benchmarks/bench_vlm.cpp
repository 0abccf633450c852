// Encoding a picture with the vision towers of published models (true widths, random weights), and
// resizing; with --peers next to transformers on torch and to Pillow, both measured in turns in one
// run. `bench_vlm --serve DTYPE` is the measured side (support/child.h).
#include <chrono>
#include <cmath>
#include <iostream>
#include <memory>
#include <random>

#include <CLI/CLI.hpp>

#include "kernels/thread_pool.h"
#include "lm_common/memory.h"
#include "support/child.h"
#include "support/report.h"
#include "vlm/blocks/qwen_tower.h"
#include "vlm/blocks/siglip.h"
#include "vlm/media/resize.h"
#include "vlm/models/gemma3n_audio.h"
#include "vlm/models/gemma3n_vision.h"

using namespace mlxcpp;
namespace mx = mlx::core;
using bench::Better;

namespace {

struct Point {
  const char *name, *unit;
  Better better;
  bool by_dtype;  // else measured in float32 alone
};
const Point kPoints[] = {
    {"siglip_896", "s", Better::lower, true},           // Gemma 3's
    {"qwen2_5_vl_1024", "s", Better::lower, true},      // 1024 x 1024 pixels
    {"mobilenetv5_768", "s", Better::lower, true},      // Gemma 3n's eyes
    {"sound_10s", "s", Better::lower, true},            // and ears
    {"resize", "megapixels/s", Better::higher, false},  // of the source, 2048 x 1536 to 896 x 896
};

// --- The measured side ---

vlm::SiglipConfig siglip_config() {
  vlm::SiglipConfig c;
  c.hidden_size = 1152;
  c.intermediate_size = 4304;
  c.num_hidden_layers = 27;
  c.num_attention_heads = 16;
  c.image_size = 896;
  c.patch_size = 14;
  return c;
}

vlm::QwenTowerConfig qwen_config() {
  vlm::Qwen25VLTowerConfig c;  // 3B's
  c.out_hidden_size = 2048;
  return c;
}

// Weights are pieces of one block of random numbers: drawing all of them would take longer than
// what is measured.
template <class Tower, class Config>
std::unique_ptr<Tower> random_tower(const Config& config, mx::Dtype dtype) {
  std::vector<float> block((1 << 20) + 7);
  std::minstd_rand engine(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (float& x : block) x = uniform(engine);
  auto tower = std::make_unique<Tower>(config);
  tower->map_parameters([&](const std::string&, const mx::array& old) {
    const float scale =
        std::sqrt(3.0f * static_cast<float>(old.shape(0)) / static_cast<float>(old.size()));
    std::vector<float> values(old.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = scale * block[i % block.size()];
    auto made = mx::astype(mx::array(values.data(), old.shape(), mx::float32), dtype);
    made.eval();
    return made;
  });
  mx::clear_cache();
  return tower;
}

mx::array random(const mx::Shape& shape) {
  auto x = mx::random::normal(shape);
  x.eval();
  return x;
}

template <class F>
double seconds(F f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double resize_speed() {
  constexpr int kWidth = 2048, kHeight = 1536, kSide = 896, kTimes = 8;
  media::Picture picture = media::new_picture(kWidth, kHeight);
  std::minstd_rand engine(1);
  for (auto& x : picture.rgb) x = static_cast<uint8_t>(engine() >> 8);
  const double time = seconds([&] {
    for (int i = 0; i < kTimes; ++i)
      media::resize(picture, kSide, kSide, media::Filter::bicubic, media::Backend::pillow);
  });
  return kTimes * (kWidth * kHeight / 1e6) / time;
}

void answer(const Json& j) { std::cout << j.dump() << std::endl; }

int serve(const std::string& name) {
  mx::set_default_device(mx::Device::cpu);
  bound_memory_by_default();
  const auto dtype = name == "bfloat16" ? mx::bfloat16 : mx::float32;
  std::unique_ptr<vlm::SiglipTower> siglip;
  std::unique_ptr<vlm::QwenTower> qwen;
  std::unique_ptr<vlm::MobileNetV5> mobilenet;
  std::unique_ptr<vlm::Conformer> conformer;
  answer({{"ready", true}});
  for (std::string request; std::getline(std::cin, request);) {
    if (request == "siglip_896") {
      if (!siglip) siglip = random_tower<vlm::SiglipTower>(siglip_config(), dtype);
      const auto pixels = random({1, 3, 896, 896});
      answer({{"value", seconds([&] { (*siglip)(pixels).eval(); })}});
    } else if (request == "qwen2_5_vl_1024") {
      if (!qwen) qwen = random_tower<vlm::QwenTower>(qwen_config(), dtype);
      constexpr int kSide = 74;  // smart_resize makes 1036 of 1024
      const auto patches = random({kSide * kSide, 3 * 2 * 14 * 14});
      answer({{"value", seconds([&] { (*qwen)(patches, {1, kSide, kSide}).eval(); })}});
    } else if (request == "mobilenetv5_768") {
      if (!mobilenet) mobilenet = random_tower<vlm::MobileNetV5>(vlm::Gemma3nVisionConfig(), dtype);
      const auto pixels = random({1, 3, 768, 768});
      answer({{"value", seconds([&] { (*mobilenet)(pixels).eval(); })}});
    } else if (request == "sound_10s") {
      if (!conformer) conformer = random_tower<vlm::Conformer>(vlm::Gemma3nAudioConfig(), dtype);
      constexpr int kFrames = 997;  // of 32 ms, every 10 ms
      const auto features = random({1, kFrames, 128});
      const auto valid = mx::ones({1, kFrames}, mx::bool_);
      answer({{"value", seconds([&] { (*conformer)(features, valid).eval(); })}});
    } else if (request == "resize") {
      answer({{"value", resize_speed()}});
    } else if (request == "peak_memory") {
      answer({{"value", static_cast<double>(peak_resident_memory()) / 1e6}});
    } else {
      answer({{"error", "unknown request " + request}});
    }
  }
  mx::clear_streams();
  return 0;
}

// --- The measuring side ---

struct Side {
  std::string name;
  std::vector<std::string> command;
};

// Times of one point, in turns, and each side's peak memory in MB: processes of their own.
void measure(const std::string& dtype, const Point& point, int threads, int runs,
             const std::vector<Side>& sides, bool json) {
  std::vector<std::unique_ptr<bench::Child>> children;
  constexpr bench::Child::Seconds kLimit{300};  // of one answer
  for (const Side& side : sides)
    children.push_back(std::make_unique<bench::Child>(side.name, side.command, kLimit));
  std::vector<std::vector<double>> values(sides.size()), peaks(sides.size());
  for (int run = -1; run < runs; ++run)  // the first is a warm-up
    for (size_t s = 0; s < sides.size(); ++s) {
      const double value = children[s]->ask(point.name).at("value");
      if (run >= 0) values[s].push_back(value);
    }
  for (size_t s = 0; s < sides.size(); ++s)
    peaks[s].push_back(children[s]->ask("peak_memory").at("value"));
  const auto show = [&](const std::string& name, const char* unit, Better better, auto& all) {
    bench::Row row{.bench = "vlm",
                   .model = dtype,
                   .point = name,
                   .threads = threads,
                   .unit = unit,
                   .better = better,
                   .values = all[0]};
    if (sides.size() > 1) {
      row.peer = sides[1].name;
      row.peer_values = all[1];
    }
    std::cout << (json ? bench::json_line(row) + "\n" : bench::table_line(row)) << std::flush;
  };
  show(point.name, point.unit, point.better, values);
  show(std::string(point.name) + " peak", "MB", Better::lower, peaks);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed and memory of looking at a picture.", "bench_vlm");
  std::string served, dtype, point, python = "python3";
  int threads = kernels::num_threads(), runs = 3;
  bool peers = false, json = false;
  app.add_option("--serve", served)->group("");
  app.add_option("--dtype", dtype, "only this: float32 or bfloat16");
  app.add_option("--point", point,
                 "only this: siglip_896, qwen2_5_vl_1024, mobilenetv5_768, sound_10s or resize");
  app.add_option("--threads", threads, "number of threads to measure with")->capture_default_str();
  app.add_option("--runs", runs, "of each point")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_flag("--peers", peers, "measure transformers on torch, and Pillow, beside us");
  app.add_option("--python", python, "a Python that has transformers, torch and Pillow")
      ->envname("MLXCPP_PEERS_PYTHON")
      ->capture_default_str();
  app.add_flag("--json", json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!served.empty()) return serve(served);
    if (!json) std::cout << bench::table_header();
    ::setenv("MLXCPP_NUM_THREADS", std::to_string(threads).c_str(), 1);
    for (const std::string type : {"float32", "bfloat16"})
      for (const Point& what : kPoints) {
        if ((!dtype.empty() && dtype != type) || (!point.empty() && point != what.name)) continue;
        if (!what.by_dtype && type != "float32") continue;
        std::vector<Side> sides = {{"mlxcpp", {argv[0], "--serve", type}}};
        if (peers)
          sides.push_back(
              {what.by_dtype ? "transformers, torch " + type : "Pillow",
               {python, MLXCPP_PEERS "/vision_peer.py", type, std::to_string(threads)}});
        measure(type, what, threads, runs, sides, json);
      }
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_vlm: {}\n", e.what());
    return 1;
  }
  return 0;
}
