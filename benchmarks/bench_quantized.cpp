// Times the quantised products on the shapes of SmolLM2-135M and Gemma 3 270M:
//   bench_quantized [TYPE|all] [--rows M,M...] [--stock] [--warm]
// Per shape, rows of activations and precision: the shortest of several runs of the kernels alone
// (packing included), as GOP/s (2 per weight and row) and GB/s of weights. Weights are cycled
// through more memory than the caches hold, as in a model, unless --warm. --stock adds MLX's own
// operation where it has the type.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <mlx/mlx.h>

#include "kernels/isa.h"
#include "kernels/precision.h"
#include "kernels/quant_ops.h"
#include "kernels/quant_types.h"
#include "kernels/quantized.h"
#include "kernels/thread_pool.h"

namespace {

namespace mx = mlx::core;
using namespace mlxcpp::kernels;  // NOLINT

struct Shape {
  int rows, cols;
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Shortest time of f, over at least `budget` seconds.
template <class F>
double shortest(double budget, F f) {
  double best = 1e9;
  const double start = seconds();
  for (int i = 0; i < 3 || seconds() - start < budget; ++i) {
    const double t = seconds();
    f();
    best = std::min(best, seconds() - t);
  }
  return best;
}

QuantizedMatrix random_matrix(const QuantType& type, int rows, int cols) {
  if (!type.is_gguf()) {
    QuantizedMatrix w = quantize(mx::random::normal({rows, cols}), type);
    mx::eval(w.weight, *w.scales);
    if (w.biases) mx::eval(*w.biases);
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

void run(const QuantType& type, Shape s, const std::vector<int>& row_counts, bool stock,
         bool warm) {
  const size_t bytes = s.rows * row_bytes(type, s.cols);
  const int copies = warm ? 1 : static_cast<int>(std::min<size_t>(64, (128u << 20) / bytes + 1));
  std::vector<QuantizedMatrix> w;
  for (int i = 0; i < copies; ++i) w.push_back(random_matrix(type, s.rows, s.cols));
  for (const int m : row_counts) {
    const mx::array x = mx::random::normal({m, s.cols});
    mx::eval(x);
    const double operations = 2.0 * m * s.rows * s.cols;
    fmt::print("{:8} {:6}x{:<5} rows {:4}", name(type.mode), s.rows, s.cols, m);
    for (const Precision p : {Precision::fast, Precision::high, Precision::exact}) {
      // Chains of independent products hide the cost of an evaluation.
      const int chain =
          m == 1 ? std::max(1, std::min(64, (64 << 20) / static_cast<int>(bytes))) : 1;
      PrecisionScope scope(p);
      int next = 0;
      const double t = shortest(0.2,
                                [&] {
                                  std::vector<mx::array> y;
                                  for (int i = 0; i < chain; ++i)
                                    y.push_back(quantized_matmul(x, w[next++ % copies]));
                                  mx::eval(y);
                                }) /
                       chain;
      fmt::print(" | {:5} {:9.1f} us {:7.1f} GOP/s {:5.1f} GB/s", name(p), t * 1e6,
                 operations / t * 1e-9, bytes / t * 1e-9);
    }
    if (stock && !type.is_gguf()) {
      const double t = shortest(0.0, [&] {
        mx::eval(mx::quantized_matmul(x, w[0].weight, *w[0].scales, w[0].biases, true,
                                      type.group_size, type.bits, std::string(name(type.mode))));
      });
      fmt::print(" | MLX {:9.1f} us", t * 1e6);
    }
    fmt::print("\n");
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  mx::set_default_device(mx::Device::cpu);
  std::string wanted = "all";
  std::vector<int> rows = {1, 512};
  bool stock = false, warm = false;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (a == "--stock") {
      stock = true;
    } else if (a == "--warm") {
      warm = true;
    } else if (a == "--rows" && i + 1 < argc) {
      rows.clear();
      for (const char* p = argv[++i]; *p != '\0';) {
        char* end = nullptr;
        rows.push_back(static_cast<int>(std::strtol(p, &end, 10)));
        if (end == p || rows.back() < 1) return std::puts("--rows: expected numbers, as 1,512"), 2;
        p = *end == ',' ? end + 1 : end;
      }
    } else {
      wanted = a;
    }
  }
  try {
    fmt::print("{} threads, {}\n", num_threads(), name(isa()));
    const Shape smol[] = {{192, 576}, {576, 576}, {1536, 576}, {576, 1536}, {49152, 576}};
    const Shape gemma[] = {{1024, 640}, {2048, 640}, {640, 2048}, {262144, 640}};
    const Shape blocks256[] = {{2048, 2048}, {640, 2048}};
    const auto bench = [&](const QuantType& t, const auto& shapes) {
      if (wanted != "all" && wanted != name(t.mode)) return;
      for (const Shape& s : shapes)
        if (s.rows < 100000 || t.mode == QuantMode::q8_0) run(t, s, rows, stock, warm);
    };
    bench(quant_type(QuantMode::affine, 64, 4), smol);
    bench(quant_type(QuantMode::affine, 64, 8), smol);
    for (const QuantMode m : {QuantMode::q4_0, QuantMode::q4_1}) bench(quant_type(m), smol);
    for (const QuantMode m : {QuantMode::q5_0, QuantMode::q8_0}) bench(quant_type(m), gemma);
    for (const QuantMode m :
         {QuantMode::q4_k, QuantMode::q5_k, QuantMode::q6_k, QuantMode::q2_k, QuantMode::q3_k,
          QuantMode::q5_1, QuantMode::iq4_nl, QuantMode::mxfp4, QuantMode::mxfp8, QuantMode::nvfp4})
      bench(quant_type(m), blocks256);
  } catch (const std::exception& e) {
    fmt::print(stderr, "quantized_bench: {}\n", e.what());
    return 1;
  }
  mx::clear_streams();
  return 0;
}
