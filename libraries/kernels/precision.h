#pragma once

#include <optional>
#include <string_view>

namespace mlxcpp::kernels {

// How kernels on quantised weights treat activations. Float weights are not affected.
//   fast   one int8 plane per group          relative error about 5e-3
//   high   two int8 planes (15 bits)         about 1e-4
//   exact  f32                               about 1e-6
enum class Precision { fast, high, exact };

std::optional<Precision> precision_from_name(std::string_view name);
std::string_view name(Precision p);

// The precision that operations built on this thread get. Starts as `high`.
Precision precision();

// Sets it for this thread until the end of the scope.
class PrecisionScope {
 public:
  explicit PrecisionScope(Precision p);
  ~PrecisionScope();
  PrecisionScope(const PrecisionScope&) = delete;
  PrecisionScope& operator=(const PrecisionScope&) = delete;

 private:
  Precision before_;
};

}  // namespace mlxcpp::kernels
