// Every kernel's speed as a share of what the machine can do, both measured in this run, next to
// stock MLX:
//   bench_kernels [PART OF A NAME] [--no-stock] [--json]
// Each figure is the shortest of several runs. Operations come in chains without dependencies in
// one evaluation, so that the price of an evaluation is shared; weights go round through more
// memory than the caches hold, as in a model. docs/kernels.md says how to read the table.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <mlx/mlx.h>
#include <CLI/CLI.hpp>

#include "core/json.h"
#include "kernels/activations.h"
#include "kernels/attention.h"
#include "kernels/conv.h"
#include "kernels/isa.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "kernels/precision.h"
#include "kernels/quantized.h"
#include "kernels/rope.h"
#include "kernels/softmax.h"
#include "kernels/thread_pool.h"
#include "support/machine.h"

namespace {

namespace mx = mlx::core;
using namespace mlxcpp::kernels;  // NOLINT
using mlxcpp::bench::MachineLimits;

// What bounds a kernel.
enum class Limit { memory, f32, int8 };

struct Case {
  std::string name, shape;
  Limit limit;
  double bytes, operations;                     // of one call
  int chain = 1;                                // calls in one evaluation
  std::function<mx::array(int i)> ours, stock;  // call number i; stock may be empty
};

// Seconds of one call of a chain: the shortest, over some time.
double shortest(const std::function<mx::array(int)>& call, int chain) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9;
  int next = 0;
  const auto end = Clock::now() + std::chrono::milliseconds(250);
  for (int run = 0; run < 3 || Clock::now() < end; ++run) {
    const auto start = Clock::now();
    std::vector<mx::array> y;
    for (int i = 0; i < chain; ++i) y.push_back(call(next++));
    mx::eval(std::move(y));
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count() / chain);
    if (best > 2) break;  // stock MLX
  }
  return best;
}

struct Options {
  std::string part;
  bool stock = true, json = false;
};

void run(const Case& c, const MachineLimits& limits, const Options& options) {
  if (c.name.find(options.part) == std::string::npos) return;
  const double ours = shortest(c.ours, c.chain);
  const double limit = c.limit == Limit::memory ? limits.read_bytes
                       : c.limit == Limit::f32  ? limits.f32
                                                : limits.int8;
  const double share = (c.limit == Limit::memory ? c.bytes : c.operations) / ours / limit;
  const bool stock = options.stock && c.stock;
  const double theirs = stock ? shortest(c.stock, std::min(c.chain, 4)) : 0;
  const char* bound = c.limit == Limit::memory ? "memory" : c.limit == Limit::f32 ? "f32" : "int8";
  if (options.json) {
    mlxcpp::Json j = {{"bench", "kernels"},
                      {"kernel", c.name},
                      {"shape", c.shape},
                      {"threads", num_threads()},
                      {"microseconds", ours * 1e6},
                      {"gflops", c.operations / ours * 1e-9},
                      {"gbytes", c.bytes / ours * 1e-9},
                      {"bound", bound},
                      {"share", share},
                      {"mlx_microseconds", nullptr}};
    if (stock) j["mlx_microseconds"] = theirs * 1e6;
    fmt::print("{}\n", j.dump());
  } else {
    fmt::print("{:<26} {:<20} {:>9.1f} {:>9.1f} {:>7.1f} {:>5.0f}% of {:<7}", c.name, c.shape,
               ours * 1e6, c.operations / ours * 1e-9, c.bytes / ours * 1e-9, share * 100, bound);
    if (stock) fmt::print("{:>11.1f} {:>8.1f}x", theirs * 1e6, theirs / ours);
    fmt::print("\n");
  }
  std::fflush(stdout);
}

mx::array evaluated(mx::array a) {
  a.eval();
  return a;
}
mx::array normal(const mx::Shape& shape, mx::Dtype dtype = mx::float32) {
  return evaluated(mx::astype(mx::random::normal(shape), dtype));
}

QuantizedMatrix random_matrix(const QuantType& type, int rows, int cols) {
  if (!type.is_gguf()) {
    QuantizedMatrix w = quantize(mx::random::normal({rows, cols}), type);
    mx::eval(w.weight, *w.scales);
    if (w.biases) w.biases->eval();
    return w;
  }
  const int bytes = static_cast<int>(row_bytes(type, cols));
  std::vector<uint8_t> data(static_cast<size_t>(rows) * bytes);
  std::mt19937_64 random(1);
  for (size_t i = 0; i + 8 <= data.size(); i += 8) {
    const uint64_t v = random() & 0xbfbfbfbfbfbfbfbf;  // no f16 infinities or NaN
    std::memcpy(&data[i], &v, 8);
  }
  return {type, mx::array(data.data(), {rows, bytes}, mx::uint8), {}, {}};
}

constexpr size_t kMoreThanCaches = size_t{192} << 20;

int copies_of(double bytes) {
  return std::clamp(static_cast<int>(static_cast<double>(kMoreThanCaches) / bytes) + 1, 1, 256);
}

std::string sizes(std::initializer_list<int> n) { return fmt::format("{}", fmt::join(n, "x")); }

void quantized(const MachineLimits& limits, const Options& options) {
  std::vector<QuantType> types;
  for (const int bits : {2, 3, 4, 5, 6, 8})
    types.push_back(quant_type(QuantMode::affine, 64, bits));
  types.push_back(quant_type(QuantMode::mxfp4, 32, 4));
  types.push_back(quant_type(QuantMode::mxfp8, 32, 8));
  types.push_back(quant_type(QuantMode::nvfp4, 16, 4));
  for (auto m : {QuantMode::q4_0, QuantMode::q4_1, QuantMode::q5_0, QuantMode::q5_1,
                 QuantMode::q8_0, QuantMode::q2_k, QuantMode::q3_k, QuantMode::q4_k,
                 QuantMode::q5_k, QuantMode::q6_k, QuantMode::iq4_nl})
    types.push_back(quant_type(m));
  constexpr int kRows = 2048, kCols = 2048;
  for (const QuantType& type : types) {
    const std::string name =
        type.is_gguf() ? std::string(mlxcpp::kernels::name(type.mode))
                       : fmt::format("{} {} bits", mlxcpp::kernels::name(type.mode), type.bits);
    if (fmt::format("vector {0} matrix {0}", name).find(options.part) == std::string::npos &&
        options.part.find(name) == std::string::npos)
      continue;
    double bytes = static_cast<double>(row_bytes(type, kCols)) * kRows;
    if (!type.is_gguf())  // scales and biases
      bytes += static_cast<double>(kRows) * kCols / type.group_size *
               (type.mode == QuantMode::affine ? 8 : 1);
    std::vector<QuantizedMatrix> w;
    for (int i = copies_of(bytes); i > 0; --i) w.push_back(random_matrix(type, kRows, kCols));
    for (const int m : {1, 512}) {
      const mx::array x = normal({m, kCols});
      for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
        const auto stock = [&](int i) {
          const auto& q = w[i % w.size()];
          return mx::quantized_matmul(x, q.weight, *q.scales, q.biases, true, type.group_size,
                                      type.bits, std::string(mlxcpp::kernels::name(type.mode)));
        };
        const PrecisionScope scope(p);
        run({.name = fmt::format("{} {} {}", m == 1 ? "vector" : "matrix", name,
                                 mlxcpp::kernels::name(p)),
             .shape = sizes({m, kCols, kRows}),
             .limit = m == 1                  ? Limit::memory
                      : p == Precision::exact ? Limit::f32
                                              : Limit::int8,
             .bytes = bytes,
             .operations = 2.0 * m * kRows * kCols,
             .chain = m == 1 ? 32 : 1,
             .ours = [&](int i) { return quantized_matmul(x, w[i % w.size()]); },
             .stock = type.is_gguf() || p != Precision::high
                          ? std::function<mx::array(int)>()
                          : std::function<mx::array(int)>(stock)},
            limits, options);
      }
    }
  }
}

void floats(const MachineLimits& limits, const Options& options) {
  constexpr int kRows = 2048, kCols = 2048;
  for (const auto& [dtype, name] :
       {std::pair{mx::float32, "f32"}, {mx::bfloat16, "bf16"}, {mx::float16, "f16"}}) {
    const double bytes = static_cast<double>(mx::size_of(dtype)) * kRows * kCols;
    std::vector<mx::array> w;
    for (int i = copies_of(bytes); i > 0; --i) w.push_back(normal({kRows, kCols}, dtype));
    for (const int m : {1, 512}) {
      const mx::array x = normal({m, kCols});
      run({.name = fmt::format("{} {}", m == 1 ? "vector" : "matrix", name),
           .shape = sizes({m, kCols, kRows}),
           .limit = m == 1 ? Limit::memory : Limit::f32,
           .bytes = bytes,
           .operations = 2.0 * m * kRows * kCols,
           .chain = m == 1 ? 16 : 1,
           .ours = [&](int i) { return linear(x, w[i % w.size()]); },
           .stock =
               [&](int i) {
                 return mx::matmul(mx::astype(x, dtype), mx::transpose(w[i % w.size()]));
               }},
          limits, options);
    }
  }
}

void attentions(const MachineLimits& limits, const Options& options) {
  constexpr int H = 9, Hkv = 3, D = 64;  // SmolLM2-135M
  const AttentionOptions o{.scale = 0.125f};
  const auto stock = [](const mx::array& q, const mx::array& k, const mx::array& v) {
    return mx::fast::scaled_dot_product_attention(q, k, v, 0.125f, q.shape(2) > 1 ? "causal" : "");
  };
  {
    constexpr int L = 512;
    const auto q = normal({1, H, L, D}), k = normal({1, Hkv, L, D}), v = normal({1, Hkv, L, D});
    run({.name = "attention prefill",
         .shape = sizes({H, L, L, D}),
         .limit = Limit::f32,
         .bytes = 4.0 * D * L * (2 * H + 2 * Hkv),
         .operations = 2.0 * H * D * L * (L + 1),  // half of the square
         .chain = 4,
         .ours = [&](int) { return attention(q, k, v, o); },
         .stock = [&](int) { return stock(q, k, v); }},
        limits, options);
  }
  constexpr int S = 2048;
  for (const auto& [dtype, name] : {std::pair{mx::float32, "f32"}, {mx::float16, "f16"}}) {
    const double bytes = 2.0 * static_cast<double>(mx::size_of(dtype)) * Hkv * S * D;
    const auto q = normal({1, H, 1, D}, dtype);
    std::vector<mx::array> k, v;
    for (int i = copies_of(bytes); i > 0; --i) {
      k.push_back(normal({1, Hkv, S, D}, dtype));
      v.push_back(normal({1, Hkv, S, D}, dtype));
    }
    run({.name = fmt::format("attention decode {}", name),
         .shape = sizes({H, 1, S, D}),
         .limit = Limit::memory,
         .bytes = bytes,
         .operations = 4.0 * H * S * D,
         .chain = 16,
         .ours = [&](int i) { return attention(q, k[i % k.size()], v[i % k.size()], o); },
         .stock = [&](int i) { return stock(q, k[i % k.size()], v[i % k.size()]); }},
        limits, options);
  }
}

// Kernels that read and write rows: what bounds them is memory.
void rows(const MachineLimits& limits, const Options& options) {
  constexpr int L = 4096, D = 2048;
  const mx::array x = normal({L, D}), up = normal({L, D}), weight = normal({D});
  const auto row = [&](const char* name, int arrays, double per_number,
                       const std::function<mx::array(int)>& ours,
                       const std::function<mx::array(int)>& stock) {
    run({.name = name,
         .shape = sizes({L, D}),
         .limit = Limit::memory,
         .bytes = 4.0 * arrays * L * D,
         .operations = per_number * L * D,
         .ours = ours,
         .stock = stock},
        limits, options);
  };
  row(
      "rms_norm", 2, 4, [&](int) { return rms_norm(x, weight, 1e-5f); },
      [&](int) { return mx::fast::rms_norm(x, weight, 1e-5f); });
  row(
      "layer_norm", 2, 7, [&](int) { return layer_norm(x, weight, weight, 1e-5f); },
      [&](int) { return mx::fast::layer_norm(x, weight, weight, 1e-5f); });
  row(
      "swiglu", 3, 4, [&](int) { return swiglu(x, up); },
      [&](int) { return x * mx::sigmoid(x) * up; });
  row(
      "gelu", 2, 8, [&](int) { return gelu(x); },
      [&](int) {
        return x * (mx::array(1.0f) + mx::erf(x * mx::array(0.70710678f))) * mx::array(0.5f);
      });
  row(
      "softmax", 2, 4, [&](int) { return mlxcpp::kernels::softmax(x); },
      [&](int) { return mx::softmax(x, -1); });
  const mx::array heads = evaluated(mx::reshape(x, {1, D / 64, L, 64}));
  const mx::array inv_freq = normal({32});
  row(
      "rope", 2, 3, [&](int) { return rope(heads, 64, false, inv_freq, 1.0f, 0); },
      [&](int) { return mx::fast::rope(heads, 64, false, 10000.0f, 1.0f, 0); });
}

void convolutions(const MachineLimits& limits, const Options& options) {
  constexpr int S = 64, C = 256;
  const mx::array x = normal({1, S, S, C}), w = normal({C, 3, 3, C});
  run({.name = "conv 3x3",
       .shape = sizes({S, S, C, C}),
       .limit = Limit::f32,
       .bytes = 4.0 * (2.0 * S * S * C + 9.0 * C * C),
       .operations = 18.0 * S * S * C * C,
       .ours = [&](int) { return conv2d(x, w, {.padding = {1, 1}}); },
       .stock = [&](int) { return mx::conv2d(x, w, {1, 1}, {1, 1}); }},
      limits, options);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  bool no_stock = false;
  CLI::App app{"Speed of the kernels as a share of what the machine can do"};
  app.add_option("part", options.part, "only kernels whose name has this in it");
  app.add_flag("--no-stock", no_stock, "do not measure stock MLX");
  app.add_flag("--json", options.json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  options.stock = !no_stock;
  try {
    mx::set_default_device(mx::Device::cpu);
    const MachineLimits limits = mlxcpp::bench::measure_limits();
    if (options.json)
      fmt::print("{}\n", mlxcpp::Json{{"bench", "kernels"},
                                      {"limits",
                                       {{"read_gbytes", limits.read_bytes * 1e-9},
                                        {"f32_gflops", limits.f32 * 1e-9},
                                        {"int8_gops", limits.int8 * 1e-9}}},
                                      {"threads", num_threads()},
                                      {"isa", name(isa())}}
                             .dump());
    else
      fmt::print(
          "{} threads, {}: reads {:.1f} GB/s, {:.0f} GFLOP/s f32, {:.0f} GOP/s int8\n\n"
          "{:<26} {:<20} {:>9} {:>9} {:>7} {:>16} {:>11} {:>9}\n",
          num_threads(), name(isa()), limits.read_bytes * 1e-9, limits.f32 * 1e-9,
          limits.int8 * 1e-9, "kernel", "shape", "us", "GFLOP/s", "GB/s", "share", "MLX us",
          "faster");
    quantized(limits, options);
    floats(limits, options);
    attentions(limits, options);
    rows(limits, options);
    convolutions(limits, options);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_kernels: {}\n", e.what());
    return 1;
  }
  mx::clear_streams();
  return 0;
}
