// One step of the UNet at 64x64 latents and a decode of 512x512 pixels, with random weights of the
// sizes of Stable Diffusion 2.1 base; with --peers next to diffusers on torch and
// stable-diffusion.cpp, measured in turns in one run. And a loop of pictures, of one step and a
// decode each: does the last peak as the first? `bench_sd --serve DTYPE` is the measured side
// (support/child.h).
#include <algorithm>
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
const char* const kPoints[] = {"unet_step", "vae_decode", "pictures"};
const char* const kPeers[] = {"torch-float32", "torch-bfloat16", "stable-diffusion.cpp"};

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
  const auto make_unet = [&] {
    if (!unet) unet = bench::random_part<sd::UNet>(unet_config(), dtype);
  };
  const auto make_autoencoder = [&] {
    if (!autoencoder)
      autoencoder = bench::random_part<sd::Autoencoder>(autoencoder_config(), dtype);
  };
  const auto step = [&] {
    return (*unet)(random({1, 64, 64, 4}), mx::array(500.0f),
                   {random({1, 77, 1024}), std::nullopt, std::nullopt});
  };
  answer({{"ready", true}});
  for (std::string request; std::getline(std::cin, request);) {
    if (request == "unet_step") {
      autoencoder.reset();
      make_unet();
      answer({{"value", seconds(step)}});
    } else if (request == "vae_decode") {
      unet.reset();
      make_autoencoder();
      answer(
          {{"value", seconds([&] { return autoencoder->decode_scaled(random({1, 64, 64, 4})); })}});
    } else if (request == "picture") {
      make_unet();
      make_autoencoder();
      answer({{"value", seconds([&] {
                 auto latents = step();
                 latents.eval();
                 return autoencoder->decode_scaled(latents);
               })}});
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

struct Options {
  int threads = kernels::num_threads(), runs = 3, pictures = 20;
  double limit = 900, enough = 120;
  bool peers = false, json = false;
  std::vector<std::string> only;  // peers
  std::string python = "python3";

  bool wants(const std::string& peer) const {
    return only.empty() ? peers : std::find(only.begin(), only.end(), peer) != only.end();
  }
  void print(const bench::Row& row) const {
    std::cout << (json ? bench::json_line(row) + "\n" : bench::table_line(row)) << std::flush;
  }
};

bench::Side ours(const std::string& program, const std::string& type) {
  return {"mlxcpp", {program, "--serve", type}};
}

// Ours and those that it is measured against: in bf16 torch's f32, too, which may be faster.
std::vector<bench::Side> sides(const std::string& program, const std::string& type,
                               const Options& o) {
  const std::string threads = std::to_string(o.threads);
  std::vector<bench::Side> out = {ours(program, type)};
  for (const std::string dtype : kDtypes)
    if ((dtype == type || type == "bfloat16") && o.wants("torch-" + dtype)) {
      const std::string script = MLXCPP_PEERS "/diffusers_peer.py";
      out.push_back({"diffusers, torch " + dtype,
                     {o.python, script, dtype, threads, std::to_string(o.enough)}});
    }
  // It has no bf16 convolutions; f16 is its fastest.
  const std::string ggml_type = type == "float32" ? "f32" : "f16";
  if (o.wants("stable-diffusion.cpp")) {
    if (has_module(o.python, "stable_diffusion_cpp"))
      out.push_back({"stable-diffusion.cpp " + ggml_type,
                     {o.python, MLXCPP_PEERS "/stable_diffusion_cpp_peer.py", ggml_type, threads}});
    else if (!o.json)
      std::cout << "(stable-diffusion-cpp-python is not installed)\n";
  }
  return out;
}

// The process's highest memory after the first picture stands in the peer's place.
void measure_pictures(bench::Row row, const bench::Side& side, const Options& o) {
  bench::Child child(side.name, side.command, bench::Child::Seconds(o.limit));
  std::vector<double> first;
  for (int i = 0; i < o.pictures; ++i) {
    row.values.push_back(child.ask("picture").at("value"));
    if (i == 0) first = {child.ask("peak_memory").at("value")};
  }
  row.point = "picture";
  o.print(row);
  row.point = fmt::format("picture {} peak", o.pictures);
  row.unit = "MB";
  row.values = {child.ask("peak_memory").at("value")};
  row.peer = "after picture 1";
  row.peer_values = first;
  o.print(row);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed and memory of Stable Diffusion's parts.", "bench_sd");
  std::string served, dtype, point;
  Options o;
  app.add_option("--serve", served)->group("");
  app.add_option("--dtype", dtype, "only this")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kDtypes), std::end(kDtypes))));
  app.add_option("--point", point, "only this")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kPoints), std::end(kPoints))));
  app.add_option("--threads", o.threads, "number of threads to measure with")
      ->capture_default_str();
  app.add_option("--runs", o.runs, "of each point")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--pictures", o.pictures, "in the loop")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_flag(
      "--peers", o.peers,
      "measure diffusers on torch beside us, and stable-diffusion.cpp where it is installed");
  app.add_option("--peer", o.only, "measure only this one beside us; may be given several times")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kPeers), std::end(kPeers))));
  app.add_option("--python", o.python,
                 "a Python that has diffusers and torch, and perhaps stable-diffusion-cpp-python")
      ->envname("MLXCPP_PEERS_PYTHON")
      ->capture_default_str();
  app.add_option("--limit", o.limit, "seconds that one answer may take before its side is ended")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--enough", o.enough,
                 "seconds after which torch's run is broken off and counts as at least that")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--json", o.json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!served.empty()) return serve(served);
    if (!o.json) std::cout << bench::table_header() << std::flush;
    bool complete = true;
    ::setenv("MLXCPP_NUM_THREADS", std::to_string(o.threads).c_str(), 1);
    for (const std::string type : kDtypes)
      for (const std::string what : kPoints) {
        if ((!dtype.empty() && dtype != type) || (!point.empty() && point != what)) continue;
        const bench::Row row{.bench = "sd",
                             .model = "SD 2.1 " + type,
                             .point = what,
                             .threads = o.threads,
                             .unit = "s",
                             .better = Better::lower};
        if (what == "pictures")
          measure_pictures(row, ours(argv[0], type), o);
        else
          complete = bench::measure_with_peak(row, what, o.runs, sides(argv[0], type, o),
                                              bench::Child::Seconds(o.limit), o.json) &&
                     complete;
      }
    if (complete) return 0;
    fmt::print(stderr, "bench_sd: not every peer could be measured\n");
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_sd: {}\n", e.what());
  }
  return 1;
}
