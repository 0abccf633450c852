#include "kernels/isa.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>

#include "core/error.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace mlxcpp::kernels {
namespace {

constexpr Isa kAll[] = {Isa::generic, Isa::avx2, Isa::avx512, Isa::neon, Isa::dotprod, Isa::i8mm};

#if defined(__aarch64__) && defined(__APPLE__)
bool feature(const char* key) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(key, &value, &size, nullptr, 0) == 0 && value != 0;
}
#endif

bool cpu_has(Isa isa) {
  switch (isa) {
    case Isa::generic:
      return true;
#if defined(__x86_64__)
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
    case Isa::avx512:
      return cpu_has(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
    case Isa::neon:
      return true;
#if defined(__linux__)
    case Isa::dotprod:
      return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
    case Isa::i8mm:
      return cpu_has(Isa::dotprod) && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
#elif defined(__APPLE__)
    case Isa::dotprod:
      return feature("hw.optional.arm.FEAT_DotProd");
    case Isa::i8mm:
      return cpu_has(Isa::dotprod) && feature("hw.optional.arm.FEAT_I8MM");
#endif
#endif
    default:
      return false;
  }
}

std::string available_names() {
  std::string out;
  for (const Isa i : available_isas()) out += (out.empty() ? "" : ", ") + std::string(name(i));
  return out;
}

bool available(Isa isa) {
  const auto& all = available_isas();
  return std::find(all.begin(), all.end(), isa) != all.end();
}

Isa initial() {
  const char* text = std::getenv("MLXCPP_ISA");
  if (text == nullptr || *text == '\0') return available_isas().back();
  for (const Isa i : kAll)
    if (name(i) == text) {
      if (!available(i))
        throw Error("MLXCPP_ISA: this CPU lacks '{}'; it has {}", text, available_names());
      return i;
    }
  throw Error("MLXCPP_ISA: unknown instruction set '{}'; this CPU has {}", text, available_names());
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{initial()};
  return isa;
}

}  // namespace

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::generic:
      return "generic";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::neon:
      return "neon";
    case Isa::dotprod:
      return "dotprod";
    case Isa::i8mm:
      return "i8mm";
  }
  return "";
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> found = [] {
    std::vector<Isa> out;
    for (const Isa i : kAll)
      if (cpu_has(i)) out.push_back(i);
    return out;
  }();
  return found;
}

Isa isa() { return current().load(std::memory_order_relaxed); }

void set_isa(Isa isa) {
  if (!available(isa))
    throw Error("instruction set: this CPU lacks '{}'; it has {}", name(isa), available_names());
  current().store(isa, std::memory_order_relaxed);
}

}  // namespace mlxcpp::kernels
