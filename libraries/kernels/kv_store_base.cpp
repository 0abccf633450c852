#include "kernels/kv_store_base.h"

#include "core/error.h"
#include "kernels/attention_mlx.h"

namespace mlxcpp::kernels {
namespace {

std::string shape_text(const mx::array& a) {
  return fmt::format("[{}]", fmt::join(a.shape(), ", "));
}

void check_quantization(const KvGeometry& g, const KvQuantization& q) {
  if ((q.bits != 8 && q.bits != 4) ||
      (q.group_size != 32 && q.group_size != 64 && q.group_size != 128))
    throw Error(
        "KV quantisation with {} bits and group size {} does not exist; it has 8 or 4 bits and "
        "group size 32, 64 or 128",
        q.bits, q.group_size);
  for (const int dim : {g.dim, g.value_dim})
    if (dim % q.group_size != 0)
      throw Error("KV quantisation: head size {} is no multiple of the group size {}", dim,
                  q.group_size);
}

}  // namespace

size_t KvBuffer::nbytes() const {
  size_t n = 0;
  for (const auto& p : planes) n += p.nbytes();
  return n;
}

std::vector<std::pair<mx::Shape, mx::Dtype>> plane_layout(const KvGeometry& g,
                                                          const std::optional<KvQuantization>& q,
                                                          int slots) {
  std::vector<std::pair<mx::Shape, mx::Dtype>> layout;
  for (const int dim : {g.dim, g.value_dim}) {
    const auto plane = [&](int width, mx::Dtype dtype) {
      layout.emplace_back(mx::Shape{g.batch, g.heads, slots, width}, dtype);
    };
    if (!q) {
      plane(dim, g.dtype);
    } else {
      plane(dim * q->bits / 32, mx::uint32);
      plane(dim / q->group_size, g.dtype);
      plane(dim / q->group_size, g.dtype);
    }
  }
  return layout;
}

std::pair<mx::array, mx::array> KvStoreBase::begin(const KvStep& step, const mx::array& k,
                                                   const mx::array& v) {
  const bool shaped = k.ndim() == 4 && v.ndim() == 4 && k.shape(0) == v.shape(0) &&
                      k.shape(1) == v.shape(1) && k.shape(2) == v.shape(2);
  if (!shaped)
    throw Error(
        "KV cache: keys {} and values {} do not fit; expected [B, Hkv, L, D] and "
        "[B, Hkv, L, Dv]",
        shape_text(k), shape_text(v));
  if (!geometry_) {
    const auto dtype = is_kernel_float(k.dtype()) ? k.dtype() : mx::float32;
    geometry_ = KvGeometry{k.shape(0), k.shape(1), k.shape(3), v.shape(3), dtype};
  }
  const KvGeometry& g = *geometry_;
  if (k.shape(0) != g.batch || k.shape(1) != g.heads || k.shape(3) != g.dim ||
      v.shape(3) != g.value_dim)
    throw Error(
        "KV cache: holds keys [{0}, {1}, tokens, {2}] and values [{0}, {1}, tokens, {3}], "
        "but was given {4} and {5}",
        g.batch, g.heads, g.dim, g.value_dim, shape_text(k), shape_text(v));
  begin(step);
  return {mx::astype(k, g.dtype), mx::astype(v, g.dtype)};
}

void KvStoreBase::begin(const KvStep& step) {
  if (!step.quantize) return;
  if (geometry_) check_quantization(*geometry_, *step.quantize);
  quantization_ = step.quantize;
}

void KvStoreBase::adopt(const std::vector<mx::array>& contents,
                        const std::optional<KvQuantization>& quantization) {
  const size_t planes = quantization ? 6 : 2;
  if (contents.size() != planes)
    throw Error("KV cache: expected {} arrays, found {}", planes, contents.size());
  for (const auto& a : contents)
    if (a.ndim() != 4) throw Error("KV cache: expected arrays of 4 axes, found {}", shape_text(a));
  const int per_code = quantization ? 32 / std::max(1, quantization->bits) : 1;
  const auto& keys = contents.front();
  const auto& values = contents[planes / 2];
  const auto dtype = quantization ? contents[1].dtype() : keys.dtype();
  const auto width = [&](const mx::array& a) {
    const int64_t n = int64_t{a.shape(3)} * per_code;
    if (n > 1 << 20) throw Error("KV cache: a head size of {} is too large", n);
    return static_cast<int>(n);
  };
  const KvGeometry g{keys.shape(0), keys.shape(1), width(keys), width(values), dtype};
  if (!is_kernel_float(dtype)) throw Error("KV cache: keys and values must be f32, bf16 or f16");
  if (quantization) check_quantization(g, *quantization);
  const auto layout = plane_layout(g, quantization, keys.shape(2));
  for (size_t i = 0; i < planes; ++i)
    if (contents[i].shape() != layout[i].first || contents[i].dtype() != layout[i].second)
      throw Error("KV cache: array {} is {}, expected [{}] of the same kind as the others", i,
                  shape_text(contents[i]), fmt::join(layout[i].first, ", "));
  geometry_ = g;
  quantization_ = quantization;
}

void KvStoreBase::check_query(int seen, const mx::array& q, const AttentionOptions& o) const {
  if (!geometry_) throw Error("KV cache: attention before the first keys");
  const KvGeometry& g = *geometry_;
  const auto keys = mx::zeros({g.batch, g.heads, 0, g.dim}, g.dtype);
  const auto values = mx::zeros({g.batch, g.heads, 0, g.value_dim}, g.dtype);
  check_attention(q, keys, values, o, seen);
}

std::vector<mx::array> gather(const KvBuffer* main, const KvBuffer* tail,
                              const std::vector<KvRun>& runs) {
  std::vector<mx::array> out;
  const size_t planes = (main ? main : tail)->planes.size();
  for (size_t i = 0; i < planes; ++i) {
    std::vector<mx::array> parts;
    for (const KvRun& r : runs) {
      const mx::array& plane = (r.tail ? tail : main)->planes[i];
      auto stop = plane.shape();
      stop[2] = r.begin + r.count;
      parts.push_back(mx::slice(plane, {0, 0, r.begin, 0}, stop));
    }
    if (parts.empty()) {
      auto shape = (main ? main : tail)->planes[i].shape();
      shape[2] = 0;
      parts.push_back(mx::zeros(shape, (main ? main : tail)->planes[i].dtype()));
    }
    out.push_back(parts.size() == 1 ? parts[0] : mx::concatenate(parts, 2));
  }
  return out;
}

}  // namespace mlxcpp::kernels
