// Qwen2-VL (arXiv 2409.12191) and Qwen2.5-VL (arXiv 2502.13923): a tower for pictures and films of
// any size, and Qwen2, whose tokens stand in time, height and width. Reference: transformers
// modeling_qwen2_vl.py, modeling_qwen2_5_vl.py, processing_qwen2_5_vl.py.
#include <algorithm>

#include "llm/blocks/config.h"
#include "vlm/blocks/qwen_tower.h"
#include "vlm/media/image_processor.h"
#include "vlm/media_processor.h"
#include "vlm/models.h"
#include "vlm/text_part.h"
#include "vlm/vision_language_model.h"

namespace mlxcpp::vlm {
namespace {

constexpr std::initializer_list<const char*> kMediaKeys = {
    "image_token_id",      "text_config",           "video_token_id", "vision_config",
    "vision_end_token_id", "vision_start_token_id", "vision_token_id"};

// The language model's keys stand in "text_config", or (older) beside the tower's.
Json qwen_text(const ConfigReader& v) {
  const std::vector<const char*> media(kMediaKeys);
  Json text;
  if (v.json().contains("text_config")) {
    text = text_config(v.json(), v.where(), "qwen2", media);
  } else {
    text = v.json();
    for (const char* key : media) text.erase(key);
    text.erase("quantization");
    text.erase("quantization_config");
  }
  text["model_type"] = "qwen2";
  return text;
}

template <class Tower>
struct QwenConfig {
  Json text;
  Tower vision_config;
  int image_token_id = 151655, video_token_id = 151656;

  void fields(ConfigReader& v) {
    text = qwen_text(v);
    if (v.json().contains("text_config")) {
      v.skip("tie_word_embeddings");
    } else {
      for (const auto& [key, value] : v.json().items()) v.skip(key.c_str());
    }
    for (const char* key : kMediaKeys) v.skip(key);
    v.need("vision_config", vision_config);
    v.maybe("image_token_id", image_token_id);
    v.maybe("video_token_id", video_token_id);
    int hidden_size = 0;
    ConfigReader(text, v.where()).need("hidden_size", hidden_size);
    if (hidden_size != vision_config.out_hidden_size)
      throw Error("{}: the tower gives tokens of {} values, the text model takes {}", v.where(),
                  vision_config.out_hidden_size, hidden_size);
  }
};

// "image_grid_thw" or "video_grid_thw": int32 [1, 3], evaluated.
Grid grid_of(const Medium& medium) {
  const mx::array& a =
      value_of(medium, medium.kind == Medium::Kind::video ? "video_grid_thw" : "image_grid_thw", 2);
  if (a.size() != 3 || a.dtype() != mx::int32)
    throw Error("a grid of patches has three sizes, found {}", a.size());
  const int* g = a.data<int>();
  return {g[0], g[1], g[2]};
}

class QwenVL final : public VisionLanguageModel {
 public:
  template <class Tower>
  explicit QwenVL(const QwenConfig<Tower>& c)
      : VisionLanguageModel(make_text_model(c.text)),
        c_(c.vision_config),
        visual(this, "visual", c.vision_config) {}

  mx::array encode(const Medium& medium) const override {
    const bool film = medium.kind == Medium::Kind::video;
    return visual(value_of(medium, film ? "pixel_values_videos" : "pixel_values", 2),
                  grid_of(medium));
  }

 protected:
  Prefixes prefixes() const override {
    return {{"model.language_model.", "language_model.model."},
            {"model.visual.", "visual."},
            {"vision_tower.", "visual."},
            {"model.", "language_model.model."},
            {"lm_head.", "language_model.lm_head."}};
  }
  nn::Weights sanitize_towers(nn::Weights weights) const override {
    for (auto& [name, w] : weights)  // mlx_vlm has the channels last
      if (name.ends_with("patch_embed.proj.weight") && w.ndim() == 5 &&
          w.shape(1) != c_.in_channels && w.shape(4) == c_.in_channels)
        w = mx::contiguous(mx::transpose(w, {0, 4, 1, 2, 3}));
    return weights;
  }

  // Text counts on in all three directions. A medium's tokens share their time (or a frame's) and
  // count rows and columns from where the text before them ended; text goes on behind the largest
  // side.
  void arrange(const LMInput& input, size_t cached, PreparedPrompt& prompt) const override {
    if (input.media.empty()) return;
    const size_t length = input.tokens.size();
    std::array<std::vector<int>, 3> at;
    int next = 0, most = -1;
    const auto put = [&](int t, int h, int w) {
      at[0].push_back(t), at[1].push_back(h), at[2].push_back(w);
      most = std::max({most, t, h, w});
    };
    for (const Medium& medium : input.media) {
      while (at[0].size() < medium.begin) put(next, next, next), ++next;
      const Grid grid = grid_of(medium);
      const int high = grid[1] / c_.spatial_merge_size, wide = grid[2] / c_.spatial_merge_size;
      const double interval = time_interval(medium);
      for (int t = 0; t < grid[0]; ++t)
        for (int h = 0; h < high; ++h)
          for (int w = 0; w < wide; ++w)
            put(next + static_cast<int>(t * interval), next + h, next + w);
      if (at[0].size() != medium.end)
        throw Error("a medium's {} tokens must follow each other in the prompt", medium.count);
      next += std::max(high, wide);
    }
    while (at[0].size() < length) put(next, next, next), ++next;
    std::vector<int> all;
    for (const auto& axis : at)
      all.insert(all.end(), axis.begin() + static_cast<std::ptrdiff_t>(cached), axis.end());
    prompt.positions = mx::array(all.data(), {3, 1, static_cast<int>(length - cached)}, mx::int32);
    prompt.position_shift = most + 1 - static_cast<int>(length);
  }

 private:
  // Between two of a film's rows of patches.
  double time_interval(const Medium& medium) const {
    if (!c_.windows || medium.kind != Medium::Kind::video) return 1;
    return c_.tokens_per_second *
           static_cast<double>(value_of(medium, "second_per_grid_ts", 1).data<float>()[0]);
  }

  const QwenTowerConfig c_;

 public:
  nn::Child<QwenTower> visual;
};

class QwenProcessor final : public MediaProcessor {
 public:
  template <class Tower>
  QwenProcessor(const QwenConfig<Tower>& config, const std::filesystem::path& folder)
      : image_token_(config.image_token_id), video_token_(config.video_token_id) {
    const ProcessorFiles files(folder);
    pictures_ = ProcessorFiles::read<media::PatchProcessor>(files.image);
    Film film;
    film.min_pixels = 128 * 28 * 28;
    film.max_pixels = 768 * 28 * 28;
    const auto& where = files.video.json.is_null() ? files.image : files.video;
    films_ = ProcessorFiles::read(where, film);
    check(pictures_, config.vision_config, files.image.where);
    check(films_, config.vision_config, where.where);
  }

  Json describe() const override {
    const auto one = [](const media::PatchProcessor& p) {
      Json j = describe_pictures(p);
      j["pixels"] = {p.min_pixels, p.max_pixels};
      j["patch"] = p.patch_size;
      j["merge"] = p.merge_size;
      return j;
    };
    Json film = one(films_);
    film["fps"] = films_.sampling.fps;
    film["frames"] = {films_.sampling.min_frames, films_.sampling.max_frames};
    return {{"pictures", one(pictures_)}, {"films", std::move(film)}};
  }

  FilmReading film_reading(const MediaOptions& options) const override {
    media::FilmSampling sampling = films_.sampling;
    sampling.fps = options.fps.value_or(sampling.fps);
    sampling.max_frames = options.max_frames.value_or(sampling.max_frames);
    return {.choose =
                [sampling](const media::Film& film) {
                  return sampling.uniform(film.frames(), film.fps());
                },
            .shrink =
                [p = films_](media::Picture frame, int) {
                  if (!p.do_resize) return frame;
                  const media::Size size =
                      media::smart_resize({frame.height, frame.width}, p.patch_size * p.merge_size,
                                          p.min_pixels, p.max_pixels);
                  return media::resize(frame, size.width, size.height, p.resample);
                }};
  }

 protected:
  std::string mark(Medium::Kind kind) const override {
    switch (kind) {
      case Medium::Kind::image:
        return "<|image_pad|>";
      case Medium::Kind::video:
        return "<|video_pad|>";
      case Medium::Kind::audio:
        break;
    }
    return "";
  }
  Part of_picture(const media::Picture& picture, const Tokenizer&) const override {
    return part(pictures_(picture), Medium::Kind::image);
  }
  Part of_film(const Frames& film, const Tokenizer&) const override {
    media::PatchProcessor patches = films_;
    patches.do_resize = false;  // done while the film was read
    Part p = part(patches(film.pictures), Medium::Kind::video);
    const float seconds = static_cast<float>(films_.temporal_patch_size / film.fps);
    p.medium.values.emplace("second_per_grid_ts", mx::array(&seconds, {1}, mx::float32));
    return p;
  }

 private:
  struct Film : media::PatchProcessor {
    media::FilmSampling sampling;

    void fields(ConfigReader& v) {
      PatchProcessor::fields(v);
      v.maybe("fps", sampling.fps);
      v.maybe("min_frames", sampling.min_frames);
      v.maybe("max_frames", sampling.max_frames);
      sampling.multiple = temporal_patch_size;
      if (!(sampling.fps > 0) || sampling.min_frames < 1 ||
          sampling.max_frames < sampling.min_frames)
        throw Error("{}: expected fps above 0 and 1 <= min_frames <= max_frames", v.where());
    }
  };

  static void check(const media::PatchProcessor& p, const QwenTowerConfig& tower,
                    std::string_view where) {
    if (p.patch_size != tower.patch_size || p.merge_size != tower.spatial_merge_size ||
        p.temporal_patch_size != tower.temporal_patch_size)
      throw Error(
          "{}: patch_size {}, merge_size {} and temporal_patch_size {} are not those of the "
          "model's tower ({}, {}, {})",
          where, p.patch_size, p.merge_size, p.temporal_patch_size, tower.patch_size,
          tower.spatial_merge_size, tower.temporal_patch_size);
  }

  Part part(const media::Pixels& pixels, Medium::Kind kind) const {
    const bool film = kind == Medium::Kind::video;
    const auto [t, h, w] = pixels.grid;
    const auto count = static_cast<size_t>(t * h * w) /
                       static_cast<size_t>(pictures_.merge_size * pictures_.merge_size);
    return {.text = repeat(mark(kind), count),
            .medium = {.values = {{film ? "pixel_values_videos" : "pixel_values", pixels.values},
                                  {film ? "video_grid_thw" : "image_grid_thw",
                                   mx::array(pixels.grid.data(), {1, 3}, mx::int32)}},
                       .placeholder = film ? video_token_ : image_token_,
                       .count = count}};
  }

  const int image_token_, video_token_;
  media::PatchProcessor pictures_;
  Film films_;
};

template <class Tower>
ModelTypes::Entry entry(const char* name) {
  return {.name = name,
          .make = creator<QwenConfig<Tower>>([](const auto& c) -> std::unique_ptr<LanguageModel> {
            return std::make_unique<QwenVL>(c);
          }),
          .processor = [](const Json& config, const std::filesystem::path& folder) {
            return std::make_shared<const QwenProcessor>(read_config<QwenConfig<Tower>>(config),
                                                         folder);
          }};
}

}  // namespace

ModelTypes::Entry qwen2_vl() { return entry<Qwen2VLTowerConfig>("qwen2_vl"); }
ModelTypes::Entry qwen2_5_vl() { return entry<Qwen25VLTowerConfig>("qwen2_5_vl"); }

}  // namespace mlxcpp::vlm
