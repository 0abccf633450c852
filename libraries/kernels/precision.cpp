#include "kernels/precision.h"

namespace mlxcpp::kernels {
namespace {

thread_local Precision current = Precision::high;

}  // namespace

std::optional<Precision> precision_from_name(std::string_view text) {
  for (const Precision p : {Precision::fast, Precision::high, Precision::exact})
    if (text == name(p)) return p;
  return std::nullopt;
}

std::string_view name(Precision p) {
  switch (p) {
    case Precision::fast:
      return "fast";
    case Precision::high:
      return "high";
    case Precision::exact:
      return "exact";
  }
  return "";
}

Precision precision() { return current; }

PrecisionScope::PrecisionScope(Precision p) : before_(current) { current = p; }
PrecisionScope::~PrecisionScope() { current = before_; }

}  // namespace mlxcpp::kernels
