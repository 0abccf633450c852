#pragma once

#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>

#include <mlx/mlx.h>

#include "hub/model_source.h"

namespace mlxcpp::mnist {

namespace mx = mlx::core;

// Pictures uint8 [N, 28, 28, 1], labels uint32 [N] below 10.
struct Split {
  mx::array images, labels;
  int size() const { return images.shape(0); }
};
struct Data {
  Split train, test;
};

// From a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
// t10k-labels-idx1-ubyte, each as it is or with .gz. Error names the file and what is wrong.
Data load(const std::filesystem::path& folder);

// Where mlx-swift-examples has its copy from.
inline constexpr const char* kSource = "https://raw.githubusercontent.com/fgnt/mnist/master/";

// Fetches those of the four files that the folder lacks, as SOURCE/NAME.gz. What came is read
// before it gets its name. The folder is made.
struct FetchOptions {
  std::string source = kSource;
  std::function<void(const Progress&)> on_progress = {};
  std::stop_token stop = {};
};
void fetch(const std::filesystem::path& folder, const FetchOptions& options = {});

}  // namespace mlxcpp::mnist
