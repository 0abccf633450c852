#include "lm_common/head_rows.h"

namespace mlxcpp {
namespace {

mx::array reordered(const mx::array& a, int heads, bool to_pairs) {
  const int rows = a.shape(0);
  if (heads < 1 || rows % (2 * heads) != 0)
    throw Error("{} rows cannot be the pairs of {} heads", rows, heads);
  const int half = rows / heads / 2, width = static_cast<int>(a.size() / rows);
  const mx::Shape apart =
      to_pairs ? mx::Shape{heads, 2, half, width} : mx::Shape{heads, half, 2, width};
  return mx::reshape(mx::swapaxes(mx::reshape(a, apart), 1, 2), a.shape());
}

}  // namespace

mx::array interleaved_rows(const mx::array& a, int heads) { return reordered(a, heads, true); }
mx::array halved_rows(const mx::array& a, int heads) { return reordered(a, heads, false); }

bool has_interleaved_rows(const Json& config) {
  bool pairs = false;
  if (config.is_object()) ConfigReader(config, "config.json").maybe("rope_traditional", pairs);
  return pairs;
}

int heads_at(const std::string& path, const Json& config) {
  const bool query = path.ends_with("q_proj"), key = path.ends_with("k_proj");
  if (!query && !key) return 0;
  int heads = 0;
  ConfigReader v(config, "config.json");
  v.need("num_attention_heads", heads);
  if (key) v.maybe("num_key_value_heads", heads);
  return heads;
}

}  // namespace mlxcpp
