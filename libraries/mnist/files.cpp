#include "mnist/files.h"

#include <vector>

#include "core/atomic_file.h"
#include "hub/file.h"
#include "hub/http.h"
#include "hub/progress.h"
#include "mnist/idx.h"

namespace mlxcpp::mnist {
namespace {

namespace fs = std::filesystem;

constexpr int kSide = 28, kClasses = 10;
constexpr size_t kMaxDownload = 64 << 20;  // bytes

struct Name {
  const char* name;
  int axes;
};
constexpr Name kTrainImages{"train-images-idx3-ubyte", 3},
    kTrainLabels{"train-labels-idx1-ubyte", 1}, kTestImages{"t10k-images-idx3-ubyte", 3},
    kTestLabels{"t10k-labels-idx1-ubyte", 1};

Split load_split(const fs::path& folder, const Name& images_name, const Name& labels_name) {
  const Idx images = read_idx_file(folder / images_name.name, images_name.axes);
  const Idx labels = read_idx_file(folder / labels_name.name, labels_name.axes);
  const std::string where = (folder / images_name.name).string();
  if (images.shape[1] != kSide || images.shape[2] != kSide)
    throw Error("{}: expected pictures of {} x {}, found {} x {}", where, kSide, kSide,
                images.shape[1], images.shape[2]);
  if (labels.shape[0] != images.shape[0])
    throw Error("{}: {} pictures, but {} has {} labels", where, images.shape[0], labels_name.name,
                labels.shape[0]);
  for (const uint8_t label : labels.values)
    if (label >= kClasses)
      throw Error("{}: expected labels below {}, found {}", (folder / labels_name.name).string(),
                  kClasses, label);
  return {mx::array(images.values.data(), {images.shape[0], kSide, kSide, 1}, mx::uint8),
          mx::array(labels.values.data(), {labels.shape[0]}, mx::uint32)};
}

std::string get(hub::HttpClient& http, const std::string& url, const std::string& name,
                hub::ProgressMeter& meter, const std::stop_token& stop) {
  const hub::RetryPolicy retry;
  for (int next = 1;; ++next) {
    std::string body;
    hub::BodySink sink;
    sink.write = [&](std::string_view piece) {
      if (body.size() + piece.size() > kMaxDownload)
        throw Error("{}: expected at most {} bytes, found more", url, kMaxDownload);
      body += piece;
      meter.received(name, piece.size());
    };
    const auto response = http.send({.url = url}, sink, stop);
    if (response.ok()) return body;
    meter.present(name, -static_cast<int64_t>(body.size()));
    if (!response.transient || !retry.pause(next, response, stop))
      throw Error(
          "{}: cannot be fetched: {}; a folder with the files can be named instead", url,
          response.status == 0 ? response.failure : fmt::format("HTTP {}", response.status));
  }
}

}  // namespace

Data load(const fs::path& folder) {
  return {load_split(folder, kTrainImages, kTrainLabels),
          load_split(folder, kTestImages, kTestLabels)};
}

void fetch(const fs::path& folder, const FetchOptions& options) {
  hub::make_folders(folder);
  hub::ProgressMeter meter(options.on_progress, 0);
  hub::HttpClient http;
  bool fetched = false;
  for (const Name& file : {kTrainImages, kTrainLabels, kTestImages, kTestLabels}) {
    const std::string packed = std::string(file.name) + ".gz";
    if (fs::exists(folder / file.name) || fs::exists(folder / packed)) continue;
    const std::string url = options.source + (options.source.ends_with('/') ? "" : "/") + packed;
    const std::string bytes = get(http, url, packed, meter, options.stop);
    read_idx(bytes, file.axes, url);
    write_file(folder / packed, bytes);
    fetched = true;
  }
  if (fetched) meter.finish();
}

}  // namespace mlxcpp::mnist
