// Runs a fuzz target without libFuzzer, as a test: every seed of the folders given, then mutations
// of them, the same ones on every run. An exception that escapes the target, or what a sanitizer
// finds, ends the program.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int kMutations = 20000;

using Bytes = std::vector<uint8_t>;

std::vector<Bytes> read_seeds(int count, char** folders) {
  std::vector<std::filesystem::path> files;
  for (int i = 0; i < count; ++i)
    for (const auto& entry : std::filesystem::directory_iterator(folders[i]))
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Bytes> seeds;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return seeds;
}

// One to four changes: a bit, a byte, a boundary value over several bytes, a cut, a piece of
// another seed.
Bytes mutated(const std::vector<Bytes>& seeds, std::mt19937& random) {
  const auto below = [&](size_t n) { return n ? random() % n : 0; };
  static constexpr uint64_t kValues[] = {0,
                                         1,
                                         0x7f,
                                         0xff,
                                         0x7fff,
                                         0xffff,
                                         0x7fffffff,
                                         0xffffffff,
                                         0x7fffffffffffffff,
                                         0xffffffffffffffff};
  Bytes b = seeds[below(seeds.size())];
  for (size_t i = 1 + below(4); i > 0 && !b.empty(); --i) {
    const size_t at = below(b.size());
    switch (below(5)) {
      case 0:
        b[at] ^= 1u << below(8);
        break;
      case 1:
        b[at] = random() & 0xff;
        break;
      case 2: {
        const uint64_t value = kValues[below(std::size(kValues))];
        const size_t width = size_t{1} << below(4);
        for (size_t k = 0; k < width && at + k < b.size(); ++k) b[at + k] = value >> (8 * k);
        break;
      }
      case 3:
        b.resize(at);
        break;
      case 4: {
        const Bytes& other = seeds[below(seeds.size())];
        const size_t from = below(other.size());
        const size_t length = below(std::min<size_t>(64, other.size() - from) + 1);
        b.insert(b.begin() + at, other.begin() + from, other.begin() + from + length);
        break;
      }
    }
  }
  return b;
}

}  // namespace

int main(int argc, char** argv) {
  const auto seeds = read_seeds(argc - 1, argv + 1);
  if (seeds.empty()) {
    std::fprintf(stderr, "usage: %s FOLDER...; no seeds were found\n", argv[0]);
    return 2;
  }
  for (const Bytes& seed : seeds) LLVMFuzzerTestOneInput(seed.data(), seed.size());
  std::mt19937 random(1);
  for (int i = 0; i < kMutations; ++i) {
    const Bytes input = mutated(seeds, random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu seeds and %d mutations\n", seeds.size(), kMutations);
  return 0;
}
