// One step of the UNet at 64x64 latents and a decode of 512x512 pixels, with random weights of the
// sizes of Stable Diffusion 2.1 base; with --peers next to diffusers on torch and
// stable-diffusion.cpp, measured in turns in one run. `bench_sd --serve DTYPE` is the measured side
// (support/child.h).
#include <chrono>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>

#include "kernels/thread_pool.h"
#include "lm_common/memory.h"
#include "stable_diffusion/autoencoder.h"
#include "stable_diffusion/unet.h"
#include "support/comparison.h"
#include "support/random_part.h"

using namespace mlxcpp;
namespace mx = mlx::core;
using bench::Better;

namespace {

const char* const kDtypes[] = {"float32", "bfloat16"};
const char* const kPoints[] = {"unet_step", "vae_decode"};

// --- The measured side ---

sd::UNetConfig unet_config() {
  return sd::read_unet_config({{"cross_attention_dim", 1024},
                               {"attention_head_dim", {5, 10, 20, 20}},
                               {"use_linear_projection", true}},
                              "stable-diffusion-2-1-base");
}

sd::AutoencoderConfig autoencoder_config() {
  return sd::read_autoencoder_config(
      {{"block_out_channels", {128, 256, 512, 512}},
       {"down_block_types", Json(std::vector<std::string>(4, "DownEncoderBlock2D"))},
       {"up_block_types", Json(std::vector<std::string>(4, "UpDecoderBlock2D"))},
       {"layers_per_block", 2}},
      "stable-diffusion-2-1-base");
}

mx::array random(const mx::Shape& shape) {
  auto x = mx::random::normal(shape);
  x.eval();
  return x;
}

template <class F>
double seconds(F f) {
  const auto start = std::chrono::steady_clock::now();
  f().eval();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void answer(const Json& j) { std::cout << j.dump() << std::endl; }

int serve(const std::string& name) {
  mx::set_default_device(mx::Device::cpu);
  bound_memory_by_default();
  const auto dtype = name == "bfloat16" ? mx::bfloat16 : mx::float32;
  std::unique_ptr<sd::UNet> unet;
  std::unique_ptr<sd::Autoencoder> autoencoder;
  answer({{"ready", true}});
  for (std::string request; std::getline(std::cin, request);) {
    if (request == "unet_step") {
      autoencoder.reset();
      if (!unet) unet = bench::random_part<sd::UNet>(unet_config(), dtype);
      const auto x = random({1, 64, 64, 4});
      const sd::Conditioning text{random({1, 77, 1024}), {}, {}};
      answer({{"value", seconds([&] { return (*unet)(x, mx::array(500.0f), text); })}});
    } else if (request == "vae_decode") {
      unet.reset();
      if (!autoencoder)
        autoencoder = bench::random_part<sd::Autoencoder>(autoencoder_config(), dtype);
      const auto z = random({1, 64, 64, 4});
      answer({{"value", seconds([&] { return autoencoder->decode_scaled(z); })}});
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

// Whether that Python can import it: it is installed by hand, and takes long to build.
bool has_module(const std::string& python, const std::string& module) {
  const std::string code =
      "import importlib.util, sys; sys.exit(importlib.util.find_spec('" + module + "') is None)";
  return bench::exit_status({python, "-c", code}) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed and memory of Stable Diffusion's parts.", "bench_sd");
  std::string served, dtype, point, python = "python3";
  int threads = kernels::num_threads(), runs = 3;
  double limit = 900;
  bool peers = false, json = false;
  app.add_option("--serve", served)->group("");
  app.add_option("--dtype", dtype, "only this: float32 or bfloat16");
  app.add_option("--point", point, "only this: unet_step or vae_decode");
  app.add_option("--threads", threads, "number of threads to measure with")->capture_default_str();
  app.add_option("--runs", runs, "of each point")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_flag(
      "--peers", peers,
      "measure diffusers on torch beside us, and stable-diffusion.cpp where it is installed");
  app.add_option("--python", python,
                 "a Python that has diffusers and torch, and perhaps stable-diffusion-cpp-python")
      ->envname("MLXCPP_PEERS_PYTHON")
      ->capture_default_str();
  app.add_option("--limit", limit, "seconds that one answer may take before its side is ended")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--json", json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!served.empty()) return serve(served);
    if (!json) std::cout << bench::table_header() << std::flush;
    bool complete = true;
    ::setenv("MLXCPP_NUM_THREADS", std::to_string(threads).c_str(), 1);
    for (const std::string type : kDtypes)
      for (const std::string what : kPoints) {
        if ((!dtype.empty() && dtype != type) || (!point.empty() && point != what)) continue;
        std::vector<bench::Side> sides = {{"mlxcpp", {argv[0], "--serve", type}}};
        if (peers) {
          sides.push_back(
              {"diffusers, torch " + type,
               {python, MLXCPP_PEERS "/diffusers_peer.py", type, std::to_string(threads)}});
          // It has no bf16 convolutions; f16 is its fastest.
          const std::string ggml_type = type == "float32" ? "f32" : "f16";
          if (has_module(python, "stable_diffusion_cpp"))
            sides.push_back({"stable-diffusion.cpp " + ggml_type,
                             {python, MLXCPP_PEERS "/stable_diffusion_cpp_peer.py", ggml_type,
                              std::to_string(threads)}});
          else if (!json)
            std::cout << "(stable-diffusion-cpp-python is not installed)\n";
        }
        const bench::Row row{.bench = "sd",
                             .model = "SD 2.1 " + type,
                             .point = what,
                             .threads = threads,
                             .unit = "s",
                             .better = Better::lower};
        complete = bench::measure_with_peak(row, what, runs, std::move(sides),
                                            bench::Child::Seconds(limit), json) &&
                   complete;
      }
    if (complete) return 0;
    fmt::print(stderr, "bench_sd: not every peer could be measured\n");
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_sd: {}\n", e.what());
  }
  return 1;
}
