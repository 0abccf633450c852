#include "kernels/rows.h"

#include <cstring>

#include "kernels/matmul_kernels.h"

namespace mlxcpp::kernels {

std::optional<FloatType> float_type(mx::Dtype dtype) {
  if (dtype == mx::float32) return FloatType::f32;
  if (dtype == mx::bfloat16) return FloatType::bf16;
  if (dtype == mx::float16) return FloatType::f16;
  return std::nullopt;
}

std::optional<mx::Stream> cpu_stream() {
  const mx::Device device = mx::default_device();
  if (device != mx::Device::cpu) return std::nullopt;
  return mx::default_stream(device);
}

Rows::Rows(const mx::array& a)
    : data_(reinterpret_cast<const std::byte*>(a.data<char>())),
      item_(a.itemsize()),
      count_(1),
      length_(a.ndim() > 0 ? a.shape(-1) : 1),
      step_(a.ndim() > 0 ? a.strides(-1) : 1) {
  for (int i = 0; i + 1 < static_cast<int>(a.ndim()); ++i) {
    const auto size = static_cast<size_t>(a.shape(i));
    const int64_t stride = a.strides(i);
    count_ *= size;
    if (size == 1) continue;
    if (!axes_.empty() && axes_.back().stride == stride * static_cast<int64_t>(size))
      axes_.back() = {axes_.back().size * size, stride};
    else
      axes_.push_back({size, stride});
  }
}

const void* Rows::read(size_t r, size_t begin, size_t n, RowBuffer& buffer) const {
  int64_t offset = static_cast<int64_t>(begin) * step_;
  for (size_t i = axes_.size(); i-- > 1; r /= axes_[i].size)
    offset += static_cast<int64_t>(r % axes_[i].size) * axes_[i].stride;
  if (!axes_.empty()) offset += static_cast<int64_t>(r) * axes_[0].stride;
  const auto item = static_cast<int64_t>(item_);
  const std::byte* from = data_ + offset * item;
  if (step_ == 1 || n <= 1) return from;
  buffer.resize(n * item_);
  const int64_t step = step_ * item;
  if (item_ == 4)
    for (size_t i = 0; i < n; ++i)
      std::memcpy(buffer.data() + 4 * i, from + static_cast<int64_t>(i) * step, 4);
  else if (item_ == 2)
    for (size_t i = 0; i < n; ++i)
      std::memcpy(buffer.data() + 2 * i, from + static_cast<int64_t>(i) * step, 2);
  else
    for (size_t i = 0; i < n; ++i)
      std::memcpy(buffer.data() + item_ * i, from + static_cast<int64_t>(i) * step, item_);
  return buffer.data();
}

std::optional<Rows::Regular> Rows::regular() const {
  if (axes_.size() > 1) return std::nullopt;
  return Regular{data_, axes_.empty() ? static_cast<int64_t>(length_) : axes_[0].stride, step_};
}

void to_f32(const void* from, FloatType type, float* to, size_t n) {
  const auto size = static_cast<ptrdiff_t>(n);
  matmul_kernels().pack[static_cast<size_t>(type)](from, size, 1, 1, n, to, n);
}

void allocate_or_take(mx::array& out, const mx::array& in) {
  if (in.is_donatable() && in.flags().row_contiguous && in.data_size() == out.size() &&
      in.itemsize() == out.itemsize())
    out.copy_shared_buffer(in);
  else
    out.set_data(mx::allocator::malloc(out.nbytes()));
}

}  // namespace mlxcpp::kernels
