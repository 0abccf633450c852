#include "kernels/image.h"

#include <cstring>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/primitive.h"
#include "kernels/rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

constexpr size_t kGrainBytes = 1 << 16;

mx::array indices(int from, int to) {
  std::vector<int> out;
  for (int i = 0; i < to; ++i) out.push_back(static_cast<int>(static_cast<int64_t>(i) * from / to));
  return mx::array(out.data(), {to}, mx::int32);
}

Arrays plain_resize(const mx::Shape& shape, const Arrays& in) {
  const auto rows = mx::take(in[0], indices(in[0].shape(1), shape[1]), 1);
  return {mx::take(rows, indices(in[0].shape(2), shape[2]), 2)};
}

class ResizeNearest final : public CpuPrimitive {
 public:
  ResizeNearest(mx::Stream s, const mx::Shape& shape)
      : CpuPrimitive(s, [shape](const Arrays& in) { return plain_resize(shape, in); }),
        shape_(shape) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    const auto size = [](int n) { return static_cast<size_t>(n); };
    mx::cpu::get_command_encoder(stream()).dispatch(
        [x = in[0].data<std::byte>(), y = out[0].data<std::byte>(),
         pixel = size(in[0].shape(3)) * in[0].itemsize(), n = size(shape_[0]),
         height = size(in[0].shape(1)), width = size(in[0].shape(2)), rows = size(shape_[1]),
         columns = size(shape_[2])] {
          parallel_for(n * rows, kGrainBytes / (columns * pixel) + 1, [&](size_t b, size_t e) {
            for (size_t r = b; r < e; ++r) {
              const size_t from = r / rows * height + r % rows * height / rows;
              const std::byte* line = x + from * width * pixel;
              std::byte* to = y + r * columns * pixel;
              for (size_t c = 0; c < columns; ++c, to += pixel)
                std::memcpy(to, line + c * width / columns * pixel, pixel);
            }
          });
        });
  }

  const char* name() const override { return "mlxcpp::ResizeNearest"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return shape_ == static_cast<const ResizeNearest&>(other).shape_;
  }

 private:
  mx::Shape shape_;
};

Arrays plain_join(const Arrays& in) { return {mx::concatenate(in, -1)}; }

class JoinChannels final : public CpuPrimitive {
 public:
  explicit JoinChannels(mx::Stream s) : CpuPrimitive(s, plain_join) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    struct Part {
      const std::byte* data;
      size_t bytes;
    };
    std::vector<Part> parts;
    for (const mx::array& a : in)
      parts.push_back({a.data<std::byte>(), static_cast<size_t>(a.shape(-1)) * a.itemsize()});
    const size_t row = static_cast<size_t>(out[0].shape(-1)) * out[0].itemsize();
    mx::cpu::get_command_encoder(stream()).dispatch(
        [parts, row, y = out[0].data<std::byte>(), rows = out[0].nbytes() / row] {
          parallel_for(rows, kGrainBytes / row + 1, [&](size_t b, size_t e) {
            for (size_t r = b; r < e; ++r) {
              std::byte* to = y + r * row;
              for (const Part& p : parts) {
                std::memcpy(to, p.data + r * p.bytes, p.bytes);
                to += p.bytes;
              }
            }
          });
        });
  }

  const char* name() const override { return "mlxcpp::JoinChannels"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
};

}  // namespace

mx::array resize_nearest(const mx::array& x, int rows, int columns) {
  if (x.ndim() != 4 || x.size() == 0 || rows < 1 || columns < 1)
    throw Error("resize_nearest: expected [N, H, W, C] and a size, found [{}] to {} x {}",
                fmt::join(x.shape(), ", "), rows, columns);
  if (rows == x.shape(1) && columns == x.shape(2)) return x;
  const mx::Shape shape{x.shape(0), rows, columns, x.shape(3)};
  const auto stream = cpu_stream();
  if (!stream) return plain_resize(shape, {x})[0];
  return mx::array(shape, x.dtype(), std::make_shared<ResizeNearest>(*stream, shape),
                   {mx::contiguous(x)});
}

mx::array join_channels(const std::vector<mx::array>& parts) {
  if (parts.empty()) throw Error("join_channels: nothing to join");
  auto shape = parts[0].shape();
  if (shape.empty()) throw Error("join_channels: expected arrays [..., C], found a scalar");
  shape.back() = 0;
  Arrays in;
  for (const mx::array& a : parts) {
    auto rest = a.shape();
    if (rest.size() != shape.size() || a.dtype() != parts[0].dtype() ||
        !std::equal(rest.begin(), rest.end() - 1, shape.begin()))
      throw Error("join_channels: [{}] does not go beside [{}]", fmt::join(rest, ", "),
                  fmt::join(parts[0].shape(), ", "));
    shape.back() += rest.back();
    in.push_back(mx::contiguous(a));
  }
  const auto stream = cpu_stream();
  if (!stream || std::find(shape.begin(), shape.end(), 0) != shape.end()) return plain_join(in)[0];
  return mx::array(shape, parts[0].dtype(), std::make_shared<JoinChannels>(*stream), std::move(in));
}

}  // namespace mlxcpp::kernels
