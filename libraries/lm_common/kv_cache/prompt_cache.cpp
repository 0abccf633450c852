#include "lm_common/kv_cache/prompt_cache.h"

#include <algorithm>
#include <charconv>

#include "lm_common/kv_cache/arrays_cache.h"
#include "lm_common/kv_cache/attention_cache.h"
#include "lm_common/kv_cache/cache_list.h"
#include "weights/safetensors.h"

namespace mlxcpp {
namespace {

using Tensors = std::map<std::string, mx::array>;
using Metadata = std::map<std::string, std::string>;

constexpr int kMaxLayers = 4096;
constexpr int kMaxDepth = 4;  // of lists in lists

// --- to the file: tensors by path; metadata "0.KEY" the writer's, "1.LAYER" the class names, "2.N"
// the tensors that stand for something else, after an empty first one ---

mx::array text_array(const std::string& text) {
  const std::vector<int> codes(text.begin(), text.end());
  return mx::array(codes.data(), {static_cast<int>(codes.size())}, mx::int32);
}

class Writer {
 public:
  Tensors tensors;
  Metadata metadata{{"2.0", ""}};

  void add(const CacheState& state, const std::string& path) {
    for (const auto& [inner, value] : state.values) {
      const std::string at = fmt::format("{}.{}", path, inner);
      if (const auto* a = std::get_if<mx::array>(&value))
        tensors.insert_or_assign(at, *a);
      else if (const int* n = std::get_if<int>(&value))
        add_as("scalar", at, mx::array(*n));
      else
        add_as("none", at, mx::zeros({0}));
    }
    for (size_t i = 0; i < state.parts.size(); ++i) {
      const std::string part = path + "." + std::to_string(i);
      add(state.parts[i], part + ".0");
      add_as("string", part + ".1", text_array(state.parts[i].kind));
    }
  }

 private:
  void add_as(const char* type, const std::string& path, const mx::array& a) {
    tensors.insert_or_assign(path, a);
    const std::string entry = "2." + std::to_string(++entries_);
    metadata[entry + ".0"] = path;
    metadata[entry + ".1"] = type;
  }
  int entries_ = 0;
};

// --- and back ---

int integer(const mx::array& a) {
  if (a.size() != 1) throw Error("expected one number, found {}", a.size());
  if (a.dtype() != mx::bool_ && !mx::issubdtype(a.dtype(), mx::integer))
    throw Error("expected an integer");
  return mx::astype(mx::reshape(a, {}), mx::int32).item<int>();
}

std::string text(const mx::array& a) {
  if (a.size() > 256) throw Error("a name of {} characters is too long", a.size());
  auto codes = mx::contiguous(mx::astype(mx::flatten(a), mx::int32));
  codes.eval();
  std::string s;
  for (size_t i = 0; i < codes.size(); ++i) s += static_cast<char>(codes.data<int>()[i]);
  return s;
}

class Reader {
 public:
  Reader(Tensors tensors, const Metadata& metadata) : tensors_(std::move(tensors)) {
    for (const auto& [key, path] : metadata) {
      if (!key.starts_with("2.") || !key.ends_with(".0") || key == "2.0") continue;
      const auto type = metadata.find(key.substr(0, key.size() - 1) + "1");
      if (type != metadata.end()) types_[path] = type->second;
    }
  }

  CacheState state(const std::string& kind, const std::string& path, int depth = 0) const {
    if (depth > kMaxDepth) throw Error("caches nested {} deep", depth);
    CacheState s;
    s.kind = kind;
    if (kind == "CacheList") {
      for (int i = 0; i < kMaxLayers; ++i) {
        const std::string part = path + "." + std::to_string(i);
        const auto name = tensors_.find(part + ".1");
        if (name == tensors_.end()) break;
        s.parts.push_back(state(text(name->second), part + ".0", depth + 1));
      }
      return s;
    }
    const std::string prefix = path + ".";
    for (auto it = tensors_.lower_bound(prefix);
         it != tensors_.end() && it->first.starts_with(prefix); ++it) {
      const std::string inner = it->first.substr(prefix.size());
      const auto type = types_.find(it->first);
      if (type == types_.end())
        s.add(inner, it->second);
      else if (type->second == "scalar")
        s.add(inner, integer(it->second));
      else
        s.add(inner, CacheState::None{});
    }
    return s;
  }

 private:
  Tensors tensors_;
  std::map<std::string, std::string> types_;  // by path
};

std::unique_ptr<KVCache> restored(const CacheState& state) {
  if (state.kind == "ArraysCache" || state.kind == "MambaCache")
    return ArraysCache::restored(state);
  if (state.kind == "CacheList") {
    Caches parts;
    for (const CacheState& part : state.parts) parts.push_back(restored(part));
    return std::make_unique<CacheList>(std::move(parts));
  }
  return AttentionCache::restored(state);
}

// Throws unless `cache` is what a model of caches `like` may go on with.
void check_like(const KVCache& cache, const KVCache& like) {
  const auto differs = [](const char* what) { throw Error("{} differs from the model's", what); };
  if (const auto* want = dynamic_cast<const AttentionCache*>(&like)) {
    const auto* have = dynamic_cast<const AttentionCache*>(&cache);
    if (!have) differs("the kind of cache");
    if (have->layout().kind() != want->layout().kind()) differs("the kind of cache");
    if (have->layout().size() != want->layout().size()) differs("the size of the window");
    if (have->layout().keep() != want->layout().keep()) differs("the number of kept tokens");
  } else if (const auto* arrays = dynamic_cast<const ArraysCache*>(&like)) {
    const auto* have = dynamic_cast<const ArraysCache*>(&cache);
    if (!have) differs("the kind of cache");
    if (have->size() != arrays->size()) differs("the number of arrays");
  } else if (const auto* list = dynamic_cast<const CacheList*>(&like)) {
    const auto* have = dynamic_cast<const CacheList*>(&cache);
    if (!have) differs("the kind of cache");
    if (have->size() != list->size()) differs("the number of caches");
    for (int i = 0; i < list->size(); ++i) check_like((*have)[i], (*list)[i]);
  }
}

}  // namespace

void save_prompt_cache(const std::filesystem::path& file, const Caches& caches,
                       const std::map<std::string, std::string>& metadata) {
  Writer writer;
  for (const auto& [key, value] : metadata) writer.metadata["0." + key] = value;
  for (size_t i = 0; i < caches.size(); ++i) {
    const CacheState state = caches[i]->saved();
    writer.metadata["1." + std::to_string(i)] = state.kind;
    writer.add(state, std::to_string(i));
  }
  write_safetensors(file, writer.tensors, writer.metadata);
}

PromptCache load_prompt_cache(const std::filesystem::path& file, const Caches* like) {
  auto [tensors, metadata, bytes] = read_safetensors(file);
  PromptCache result;
  std::map<int, std::string> kinds;
  for (const auto& [key, value] : metadata) {
    if (key.starts_with("0.")) result.metadata[key.substr(2)] = value;
    if (!key.starts_with("1.")) continue;
    int layer = -1;
    const char* end = key.data() + key.size();
    if (std::from_chars(key.data() + 2, end, layer).ptr == end) kinds[layer] = value;
  }
  const auto layers = static_cast<int>(kinds.size());
  if (layers == 0 || layers > kMaxLayers || kinds.begin()->first != 0 ||
      kinds.rbegin()->first != layers - 1 || !metadata.contains("2.0"))
    throw Error("{}: not a prompt cache: its metadata does not list the layers' caches",
                file.string());
  if (like && static_cast<int>(like->size()) != layers)
    throw Error("{}: a prompt cache of {} layers, but the model has {}", file.string(), layers,
                like->size());
  const Reader reader(std::move(tensors), metadata);
  for (const auto& [layer, kind] : kinds) {
    try {
      result.caches.push_back(restored(reader.state(kind, std::to_string(layer))));
      if (like) check_like(*result.caches.back(), *(*like)[layer]);
    } catch (const std::exception& e) {
      throw Error("{}: layer {} ({}): {}", file.string(), layer, kind, e.what());
    }
  }
  return result;
}

bool can_trim_prompt_cache(const Caches& caches) {
  return std::all_of(caches.begin(), caches.end(), [](const auto& c) { return c->is_trimmable(); });
}

int trim_prompt_cache(Caches& caches, int n) {
  if (caches.empty() || !can_trim_prompt_cache(caches)) return 0;
  int trimmed = 0;
  for (const auto& c : caches) trimmed = c->trim(n);
  return trimmed;
}

}  // namespace mlxcpp
