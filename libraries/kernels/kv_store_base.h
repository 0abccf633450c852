// What the two KV stores share.
#pragma once

#include "kernels/attention_kernel.h"
#include "kernels/kv_store.h"
#include "kernels/primitive.h"

namespace mlxcpp::kernels {

// What stays the same in a store's life, from its first step.
struct KvGeometry {
  int batch = 0, heads = 0, dim = 0, value_dim = 0;
  mx::Dtype dtype = mx::float32;

  bool operator==(const KvGeometry&) const = default;
};

// Slots of keys and values: planes [B, Hkv, slots, ...] in the order of KvStore::contents().
struct KvBuffer {
  std::vector<mx::array> planes;

  int slots() const { return planes.front().shape(2); }
  bool quantized() const { return planes.size() == 6; }
  size_t nbytes() const;
};

// Shapes and dtypes of a buffer's planes.
std::vector<std::pair<mx::Shape, mx::Dtype>> plane_layout(const KvGeometry& g,
                                                          const std::optional<KvQuantization>& q,
                                                          int slots);

class KvStoreBase : public KvStore {
 public:
  std::optional<KvQuantization> quantization() const override { return quantization_; }

 protected:
  // Takes or checks the geometry; applies step.quantize. Returns k and v in the store's dtype.
  std::pair<mx::array, mx::array> begin(const KvStep& step, const mx::array& k, const mx::array& v);
  void begin(const KvStep& step);
  // What restore() is given, checked.
  void adopt(const std::vector<mx::array>& contents,
             const std::optional<KvQuantization>& quantization);
  // `seen`: keys in the view.
  void check_query(int seen, const mx::array& q, const AttentionOptions& o) const;

  std::optional<KvGeometry> geometry_;
  std::optional<KvQuantization> quantization_;
};

// The planes' slots of `runs`, one after the other.
std::vector<mx::array> gather(const KvBuffer* main, const KvBuffer* tail,
                              const std::vector<KvRun>& runs);

}  // namespace mlxcpp::kernels
