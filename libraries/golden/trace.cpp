#include "golden/trace.h"

#include <algorithm>
#include <optional>

#include "weights/safetensors.h"

namespace mlxcpp::golden {
namespace {

constexpr const char* kIds = "input_ids";

float distance(const mx::array& a, const mx::array& b) {
  return mx::max(mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32))).item<float>();
}

// In the form of `want`: batch and positions may be one axis there, as routers have them, or two;
// of four axes the first three may stand in another order (heads before positions, [B, H, L, D]; a
// model's streams before the batch), the one that is nearest.
mx::array with_axes_of(const mx::array& got, const mx::array& want) {
  if (got.size() == 0 || got.size() != want.size() || got.ndim() == 0 || want.ndim() == 0 ||
      got.shape(-1) != want.shape(-1))
    return got;
  if (got.ndim() != want.ndim()) return mx::reshape(got, want.shape());
  if (got.ndim() != 4) return got;
  std::optional<mx::array> nearest;
  std::vector<int> axes = {0, 1, 2, 3};
  do {
    const auto turned = mx::transpose(got, axes);
    if (turned.shape() == want.shape() &&
        (!nearest || distance(turned, want) < distance(*nearest, want)))
      nearest = turned;
  } while (std::next_permutation(axes.begin(), axes.end() - 1));
  return nearest.value_or(got);
}

// The first module of `trace` that `other` has not.
std::string without_partner(const Trace& trace, const Trace& other) {
  for (const std::string& name : trace.order)
    if (!other.tensors.contains(name)) return name;
  return "";
}

// A few that agree say nothing where the names of the others do not meet.
void expect_partners(size_t compared, const Trace& got, const Trace& want) {
  const size_t of_got = got.order.size() - 1, of_want = want.order.size() - 1;  // the ids apart
  if (compared > 0 && 2 * compared >= std::min(of_got, of_want)) return;
  throw Error(
      "the two traces have {} tensors in common, of {} and {}: their names differ, as '{}' and "
      "'{}' do",
      compared, of_got, of_want, without_partner(got, want), without_partner(want, got));
}

}  // namespace

void Trace::add(const std::string& name, const mx::array& value) {
  std::string unique = name;
  for (int n = 2; tensors.contains(unique); ++n) unique = fmt::format("{}#{}", name, n);
  order.push_back(unique);
  tensors.emplace(unique, value);
}

Trace trace(const LanguageModel& model, const mx::array& ids) {
  Trace out;
  out.add(kIds, ids);
  const auto paths = model.paths();
  const nn::ObserverScope scope([&](const nn::Module& module, const mx::array& value) {
    const auto it = paths.find(&module);
    if (it != paths.end()) out.add(it->second, value);
  });
  Caches none;
  out.add("logits", model(ids, none));
  return out;
}

void save_trace(const std::filesystem::path& file, const Trace& trace) {
  write_safetensors(file, trace.tensors, {{"order", Json(trace.order).dump()}});
}

Trace load_trace(const std::filesystem::path& file) {
  Safetensors read = read_safetensors(file);
  const auto order = read.metadata.find("order");
  if (order == read.metadata.end())
    throw Error("{}: no trace: its metadata has no 'order'", file.string());
  Trace out;
  const Json names = parse_json(order->second, file.string() + ": order");
  if (!names.is_array()) throw Error("{}: 'order' must be a list of names", file.string());
  for (const Json& name : names) {
    if (!name.is_string()) throw Error("{}: 'order' must be a list of names", file.string());
    const auto it = read.tensors.find(name.get<std::string>());
    if (it == read.tensors.end())
      throw Error("{}: 'order' names {}, which is not there", file.string(), describe(name));
    out.add(it->first, it->second);
  }
  return out;
}

Comparison compare_traces(const Trace& got, const Trace& want, Tolerance tolerance) {
  const auto ids = got.tensors.find(kIds), wanted_ids = want.tensors.find(kIds);
  if (ids == got.tensors.end() || wanted_ids == want.tensors.end() ||
      !mx::array_equal(mx::astype(ids->second, mx::int32),
                       mx::astype(wanted_ids->second, mx::int32))
           .item<bool>())
    throw Error("the two traces are of different '{}'", kIds);
  Comparison out(tolerance, kernels::Precision::exact);
  for (const std::string& name : want.order) {
    const auto it = got.tensors.find(name);
    if (name == kIds || it == got.tensors.end()) continue;
    const mx::array& wanted = want.tensors.at(name);
    out.tensor(name, with_axes_of(it->second, wanted), wanted);
  }
  expect_partners(out.results().size(), got, want);
  return out;
}

}  // namespace mlxcpp::golden
