// The KV store by plain MLX ops: for GPUs, and as the reference of the CPU one.
#include <optional>

#include "core/error.h"
#include "kernels/kv_store_base.h"

namespace mlxcpp::kernels {
namespace {

mx::array token_range(const mx::array& a, int begin, int count) {
  auto stop = a.shape();
  stop[2] = begin + count;
  return mx::slice(a, {0, 0, begin, 0}, stop);
}

class PlainKvStore final : public KvStoreBase {
 public:
  mx::array attend(const KvStep& step, const mx::array& q, const mx::array& k, const mx::array& v,
                   const AttentionOptions& o) override {
    take(step, k, v);
    return attend(step.view, q, o);
  }
  std::pair<mx::array, mx::array> append(const KvStep& step, const mx::array& k,
                                         const mx::array& v) override {
    take(step, k, v);
    return floats(step.view);
  }
  mx::array attend(const KvView& view, const mx::array& q, const AttentionOptions& o) override {
    check_query(view.count(), q, o);
    const auto [k, v] = floats(view);
    AttentionOptions with = o;
    with.mask = mask(view, q.shape(2), o);
    return attention(q, mx::astype(k, q.dtype()), mx::astype(v, q.dtype()), with);
  }
  void settle(const KvStep& step) override {
    begin(step);
    prepare(step);
  }

  std::vector<mx::array> state() const override {
    std::vector<mx::array> all;
    for (const auto* buffer : {&main_, &tail_})
      if (*buffer) all.insert(all.end(), (*buffer)->planes.begin(), (*buffer)->planes.end());
    return all;
  }
  size_t nbytes() const override {
    return (main_ ? main_->nbytes() : 0) + (tail_ ? tail_->nbytes() : 0);
  }
  std::unique_ptr<KvStore> clone() const override { return std::make_unique<PlainKvStore>(*this); }
  std::vector<mx::array> contents(const std::vector<KvRun>& runs) const override {
    if (!main_ && !tail_) return {};
    auto all = gather(main_ ? &*main_ : nullptr, tail_ ? &*tail_ : nullptr, runs);
    mx::eval(all);
    return all;
  }
  void restore(const std::vector<mx::array>& contents, std::optional<KvQuantization> quantization,
               const std::vector<KvCopy>& copies, int capacity) override {
    adopt(contents, quantization);
    tail_.reset();
    main_ = empty(capacity);
    copy(KvBuffer{contents}, *main_, copies);
  }

 private:
  KvBuffer empty(int slots) const {
    KvBuffer b;
    for (const auto& [shape, dtype] : plane_layout(*geometry_, quantization_, slots))
      b.planes.push_back(mx::zeros(shape, dtype));
    return b;
  }
  KvBuffer encoded(const std::vector<mx::array>& floats) const {
    if (!quantization_) return {floats};
    KvBuffer b;
    for (const auto& f : floats)
      for (auto& part : mx::quantize(f, quantization_->group_size, quantization_->bits))
        b.planes.push_back(part);
    return b;
  }
  static void copy(const KvBuffer& from, KvBuffer& to, const std::vector<KvCopy>& copies) {
    for (size_t i = 0; i < to.planes.size(); ++i)
      for (const KvCopy& c : copies) {
        auto stop = to.planes[i].shape();
        stop[2] = c.to + c.count;
        to.planes[i] = mx::slice_update(to.planes[i], token_range(from.planes[i], c.from, c.count),
                                        {0, 0, c.to, 0}, stop);
      }
  }

  void prepare(const KvStep& step) {
    if (step.quantize) {
      if (main_ && !main_->quantized()) main_ = encoded(main_->planes);
      if (tail_ && !tail_->quantized()) tail_ = encoded(tail_->planes);
    }
    if (step.capacity > (main_ ? main_->slots() : 0)) {
      int slots = (step.capacity + 255) / 256 * 256;
      if (main_) slots = std::max(slots, main_->slots() * 3 / 2);
      if (step.limit > 0) slots = std::min(slots, step.limit);
      auto larger = empty(slots);
      if (main_ && step.used > 0) copy(*main_, larger, {{0, 0, step.used}});
      main_ = std::move(larger);
    }
    if (!step.settle.empty()) copy(*tail_, *main_, step.settle);
    tail_.reset();
  }

  void take(const KvStep& step, const mx::array& k, const mx::array& v) {
    const auto [keys, values] = begin(step, k, v);
    prepare(step);
    const auto fresh = encoded({keys, values});
    if (step.tail > 0)
      tail_ = fresh;
    else
      copy(fresh, *main_, step.write);
  }

  std::pair<mx::array, mx::array> floats(const KvView& view) const {
    auto all = gather(main_ ? &*main_ : nullptr, tail_ ? &*tail_ : nullptr, view.runs);
    if (all.size() == 2) return {all[0], all[1]};
    const auto value = [&](size_t i) {
      return mx::dequantize(all[i], all[i + 1], all[i + 2], quantization_->group_size,
                            quantization_->bits, "affine", std::nullopt, geometry_->dtype);
    };
    return {value(0), value(3)};
  }

  // The options' mask, and what the view adds to it; none if causal and window say it all.
  static std::optional<mx::array> mask(const KvView& view, int L, const AttentionOptions& o) {
    if (view.chunk == 0 && view.first_key.empty()) return o.mask;
    const int S = view.count();
    const auto keys = mx::reshape(mx::arange(S), {1, 1, 1, S});
    const auto self = mx::reshape(mx::arange(S - L, S), {1, 1, L, 1});
    auto seen = mx::full({1, 1, 1, 1}, true);
    if (o.causal && !o.mask) {
      seen = mx::less_equal(keys, self);
      if (o.window) seen = mx::logical_and(seen, mx::greater(keys, self - mx::array(*o.window)));
    }
    if (view.chunk > 0) {
      const auto block = [&](const mx::array& number) {
        return mx::floor_divide(number + mx::array(view.base), mx::array(view.chunk));
      };
      seen = mx::logical_and(seen, mx::greater_equal(block(keys), block(self)));
    }
    if (!view.first_key.empty()) {
      const auto B = static_cast<int>(view.first_key.size());
      const auto first = mx::array(view.first_key.data(), {B, 1, 1, 1}, mx::int32);
      seen = mx::logical_and(seen, mx::greater_equal(keys, first));
    }
    if (!o.mask) return seen;
    if (o.mask->dtype() == mx::bool_) return mx::logical_and(*o.mask, seen);
    return mx::where(seen, *o.mask, mx::array(-std::numeric_limits<float>::infinity()));
  }

  std::optional<KvBuffer> main_, tail_;
};

}  // namespace

std::unique_ptr<KvStore> make_plain_kv_store() { return std::make_unique<PlainKvStore>(); }

}  // namespace mlxcpp::kernels
