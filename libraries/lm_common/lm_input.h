// What a model computes: tokens, and the pictures, films and sounds among them.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <mlx/mlx.h>

namespace mlxcpp {

namespace mx = mlx::core;

// One picture, film or sound, as its processor hands it to the model.
struct Medium {
  enum class Kind { image, video, audio };

  Kind kind = Kind::image;
  // Arrays under the names of transformers ("pixel_values", "image_grid_thw", ...), evaluated.
  std::map<std::string, mx::array> values = {};
  std::string key = {};  // media of one key are the same, and processed alike
  int placeholder = 0;   // the token id that its embeddings replace
  size_t count = 0;      // how many of them
  // Its tokens in the prompt, from the first placeholder to behind the last; see place_media.
  size_t begin = 0, end = 0;
};

struct LMInput {
  LMInput(std::vector<int> ids = {}, std::vector<Medium> with = {})
      : tokens(std::move(ids)), media(std::move(with)) {}
  LMInput(std::initializer_list<int> ids) : tokens(ids) {}

  std::vector<int> tokens;
  std::vector<Medium> media;  // in the order of their placeholders, for each id
};

// Finds each medium's tokens. Error when the prompt has more or fewer placeholders than the media
// need.
void place_media(LMInput& input);

// Embeddings of media that were computed before, the latest used ones up to a number of bytes. Not
// thread-safe.
class FeatureCache {
 public:
  explicit FeatureCache(size_t max_bytes = size_t{256} << 20) : max_bytes_(max_bytes) {}

  // Null when it is not there.
  const mx::array* find(const std::string& key);
  void add(const std::string& key, mx::array features);
  void clear();
  size_t hits() const { return hits_; }

 private:
  using Entry = std::pair<std::string, mx::array>;
  size_t max_bytes_, bytes_ = 0, hits_ = 0;
  std::list<Entry> entries_;  // the latest first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
};

// A prompt's tokens from some point on, ready for the decoder (LanguageModel::prepare).
struct PreparedPrompt {
  std::vector<int> tokens;
  std::optional<mx::array> embeddings = {};  // [1, L, hidden] in place of the tokens' own
  std::optional<mx::array> positions = {};   // int32 [3, 1, L] (time, height, width)
  int position_shift = 0;  // of the tokens that follow: where they stand, less their number
  // Of each token; tokens of one group >= 0 see each other, those behind them too. Empty: none.
  std::vector<int> groups = {};

  // Where a step from `begin` that would like to end at `end` can: no group is divided.
  size_t step_end(size_t begin, size_t end) const;
};

}  // namespace mlxcpp
