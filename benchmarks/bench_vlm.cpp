// Encoding a picture with the vision towers of published models (true widths, random weights), and
// resizing; with --peers next to transformers on torch and to Pillow, both measured in turns in one
// run. `bench_vlm --serve DTYPE` is the measured side (support/child.h).
#include <chrono>
#include <cmath>
#include <iostream>
#include <memory>
#include <random>

#include <CLI/CLI.hpp>

#include "kernels/linear.h"
#include "kernels/thread_pool.h"
#include "lm_common/memory.h"
#include "support/comparison.h"
#include "support/random_part.h"
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
  const kernels::AnyOrderScope scope;  // as VisionLanguageModel encodes
  answer({{"ready", true}});
  for (std::string request; std::getline(std::cin, request);) {
    if (request == "siglip_896") {
      if (!siglip) siglip = bench::random_part<vlm::SiglipTower>(siglip_config(), dtype);
      const auto pixels = random({1, 3, 896, 896});
      answer({{"value", seconds([&] { (*siglip)(pixels).eval(); })}});
    } else if (request == "qwen2_5_vl_1024") {
      if (!qwen) qwen = bench::random_part<vlm::QwenTower>(qwen_config(), dtype);
      constexpr int kSide = 74;  // smart_resize makes 1036 of 1024
      const auto patches = random({kSide * kSide, 3 * 2 * 14 * 14});
      answer({{"value", seconds([&] { (*qwen)(patches, {1, kSide, kSide}).eval(); })}});
    } else if (request == "mobilenetv5_768") {
      if (!mobilenet)
        mobilenet = bench::random_part<vlm::MobileNetV5>(vlm::Gemma3nVisionConfig(), dtype);
      const auto pixels = random({1, 3, 768, 768});
      answer({{"value", seconds([&] { (*mobilenet)(pixels).eval(); })}});
    } else if (request == "sound_10s") {
      if (!conformer)
        conformer = bench::random_part<vlm::Conformer>(vlm::Gemma3nAudioConfig(), dtype);
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
    bool good = true;
    for (const std::string type : {"float32", "bfloat16"})
      for (const Point& what : kPoints) {
        if ((!dtype.empty() && dtype != type) || (!point.empty() && point != what.name)) continue;
        if (!what.by_dtype && type != "float32") continue;
        std::vector<bench::Side> sides = {{"mlxcpp", {argv[0], "--serve", type}}};
        if (peers)
          sides.push_back(
              {what.by_dtype ? "transformers, torch " + type : "Pillow",
               {python, MLXCPP_PEERS "/vision_peer.py", type, std::to_string(threads)}});
        const bench::Row row{.bench = "vlm",
                             .model = type,
                             .point = what.name,
                             .threads = threads,
                             .unit = what.unit,
                             .better = what.better};
        good = bench::measure_with_peak(row, what.name, runs, std::move(sides),
                                        bench::Child::Seconds(300), json) &&
               good;
      }
    if (!good) return 1;
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_vlm: {}\n", e.what());
    return 1;
  }
  return 0;
}
