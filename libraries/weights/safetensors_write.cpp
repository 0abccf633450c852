#include <algorithm>

#include "core/atomic_file.h"
#include "weights/safetensors.h"
#include "weights/safetensors_dtypes.h"

namespace mlxcpp {
namespace {

using Named = std::pair<const std::string, mx::array>;
using Pointers = std::vector<const Named*>;

void write_tensors(const std::filesystem::path& file, Pointers tensors,
                   const std::map<std::string, std::string>& metadata) {
  // Wide dtypes first, so that every tensor is aligned: the header ends at a multiple of eight.
  std::stable_sort(tensors.begin(), tensors.end(), [](const Named* a, const Named* b) {
    return a->second.itemsize() > b->second.itemsize();
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t end = 0;
  for (const Named* t : tensors) {
    const auto dtype = safetensors_name(t->second.dtype());
    if (!dtype)
      throw Error("{}: tensor '{}': safetensors has no dtype for its values", file.string(),
                  t->first);
    const size_t begin = std::exchange(end, end + t->second.nbytes());
    header[t->first] = {
        {"dtype", *dtype},
        {"shape", std::vector<int>(t->second.shape().begin(), t->second.shape().end())},
        {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const auto length = static_cast<uint64_t>(text.size());

  AtomicFile out(file);
  out.write(std::as_bytes(std::span(&length, 1)));
  out.write(text);
  for (const Named* t : tensors) {
    mx::array values = mx::contiguous(t->second);
    values.eval();
    out.write({reinterpret_cast<const std::byte*>(values.data<uint8_t>()), values.nbytes()});
  }
  out.commit();
}

}  // namespace

void write_safetensors(const std::filesystem::path& file,
                       const std::map<std::string, mx::array>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  Pointers all;
  for (const Named& t : tensors) all.push_back(&t);
  write_tensors(file, std::move(all), metadata);
}

void write_safetensors_folder(const std::filesystem::path& folder,
                              const std::map<std::string, mx::array>& tensors,
                              const std::map<std::string, std::string>& metadata,
                              size_t max_shard_bytes) {
  std::vector<Pointers> shards(1);
  size_t total = 0, in_shard = 0;
  for (const Named& t : tensors) {
    if (in_shard > 0 && in_shard + t.second.nbytes() > max_shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(&t);
    in_shard += t.second.nbytes();
    total += t.second.nbytes();
  }
  std::filesystem::create_directories(folder);
  Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", Json::object()}};
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name =
        shards.size() == 1 ? "model.safetensors"
                           : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const Named* t : shards[i]) index["weight_map"][t->first] = name;
    write_tensors(folder / name, std::move(shards[i]), metadata);
  }
  write_file(folder / "model.safetensors.index.json", index.dump(4));
  if (shards.size() > 1) std::filesystem::remove(folder / "model.safetensors");
}

}  // namespace mlxcpp
