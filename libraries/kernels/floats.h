#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace mlxcpp::kernels {

// Uninitialised floats on whole cache lines.
class Floats {
 public:
  Floats() = default;
  explicit Floats(size_t n) { reserve(n); }

  // What it held is lost.
  float* reserve(size_t n) {
    if (n > size_) {
      data_.reset(static_cast<float*>(::operator new(4 * n, kLine)));
      size_ = n;
    }
    return data_.get();
  }
  // reserve(), which gives back what a far larger need has left: for room that a thread keeps.
  float* fit(size_t n) {
    if (size_ > kKept && n < size_ / 16) {
      data_.reset();
      size_ = 0;
    }
    return reserve(n);
  }
  float* data() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kLine{64};
  static constexpr size_t kKept = size_t{1} << 16;
  struct Delete {
    void operator()(float* p) const { ::operator delete(p, kLine); }
  };
  std::unique_ptr<float, Delete> data_;
  size_t size_ = 0;
};

}  // namespace mlxcpp::kernels
