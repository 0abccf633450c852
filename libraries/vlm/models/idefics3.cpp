// Idefics3 (arXiv 2408.12637) and SmolVLM (arXiv 2504.05299): a picture as tiles and as a whole,
// each through SigLIP, a pixel shuffle and a linear layer, into Llama. SmolVLM takes films as
// frames with their times. Reference: transformers modeling_idefics3.py, processing_idefics3.py,
// processing_smolvlm.py, video_processing_smolvlm.py.
#include <cmath>

#include "llm/blocks/config.h"
#include "vlm/blocks/siglip.h"
#include "vlm/media/image_processor.h"
#include "vlm/media_processor.h"
#include "vlm/models.h"
#include "vlm/number_words.h"
#include "vlm/text_part.h"
#include "vlm/vision_language_model.h"

namespace mlxcpp::vlm {
namespace {

struct Idefics3TowerConfig : SiglipConfig {
  Idefics3TowerConfig() {
    hidden_size = 1152;
    num_attention_heads = 16;
    patch_size = 32;
  }
};

struct Idefics3Config {
  Json text;
  Idefics3TowerConfig vision_config;
  int hidden_size = 4096;  // of the text
  int scale_factor = 2, image_token_id = 128257;

  int tokens() const {  // of a tile
    const int side = vision_config.side() / scale_factor;
    return side * side;
  }

  void fields(ConfigReader& v) {
    text = text_config(v.json(), v.where(), "llama", {"perceiver_config", "pixel_shuffle_factor"});
    ConfigReader t(text, v.where() + ": text_config");
    for (const char* key : {"qk_layer_norms", "use_resampler"}) {
      t.only(key, false);
      text.erase(key);
    }
    t.maybe("hidden_size", hidden_size);
    v.skip("text_config");
    v.skip("tie_word_embeddings");
    v.need("vision_config", vision_config);
    llm::read_size(v, "scale_factor", scale_factor);
    v.maybe("image_token_id", image_token_id);
    for (const char* key :
         {"_pad_token_id", "image_seq_len", "use_reentrant_checkpointing", "vocab_size"})
      v.skip(key);
    if (vision_config.side() % scale_factor != 0)
      throw Error("{}: 'scale_factor' is {}, expected a divisor of the {} patches along an edge",
                  v.where(), scale_factor, vision_config.side());
  }
};

class Connector : public nn::Module {
 public:
  explicit Connector(const Idefics3Config& c)
      : scale_(c.scale_factor),
        proj(this, "modality_projection.proj",
             c.vision_config.hidden_size * c.scale_factor * c.scale_factor, c.hidden_size) {}

  // [n, side^2, width] -> [n, (side / scale)^2, hidden]: neighbours become one token.
  mx::array operator()(const mx::array& x) const {
    const int n = x.shape(0), width = x.shape(2), s = scale_;
    const int side = static_cast<int>(std::lround(std::sqrt(x.shape(1)))) / s;
    auto y = mx::reshape(x, {n, side, s, side, s * width});
    y = mx::transpose(y, {0, 1, 3, 2, 4});
    return proj(mx::reshape(y, {n, side * side, s * s * width}));
  }

 private:
  const int scale_;

 public:
  nn::Child<nn::Linear> proj;
};

// A tile fills the tower's whole square, so that the reference's positions, which count in
// fractions of an edge, are SigLIP's.
class Idefics3 final : public VisionLanguageModel {
 public:
  explicit Idefics3(const Idefics3Config& c)
      : VisionLanguageModel(make_text_model(c.text)),
        vision_model(this, "vision_model", c.vision_config),
        connector(this, "connector", c) {}

  mx::array encode(const Medium& medium) const override {
    const auto& pixels = value_of(medium, "pixel_values", 4);  // [tiles, 3, H, W]
    std::vector<mx::array> all;
    for (int i = 0; i < pixels.shape(0); ++i) {
      const auto one = mx::slice(pixels, {i, 0, 0, 0},
                                 {i + 1, pixels.shape(1), pixels.shape(2), pixels.shape(3)});
      all.push_back(mx::squeeze(connector(vision_model(one)), 0));
      all.back().eval();
    }
    return mx::concatenate(std::move(all), 0);
  }

 protected:
  Prefixes prefixes() const override {
    return {{"model.text_model.", "language_model.model."},
            {"model.vision_model.", "vision_model."},
            {"model.connector.", "connector."},
            {"lm_head.", "language_model.lm_head."},
            // mlx_vlm's
            {"language_model.layers.", "language_model.model.layers."},
            {"language_model.norm.", "language_model.model.norm."},
            {"language_model.embed_tokens.", "language_model.model.embed_tokens."}};
  }
  nn::Weights sanitize_towers(nn::Weights weights) const override {
    return siglip_weights(std::move(weights));
  }

 public:
  nn::Child<SiglipTower> vision_model;
  nn::Child<Connector> connector;
};

class Idefics3Processor : public MediaProcessor {
 public:
  Idefics3Processor(const Idefics3Config& config, const std::filesystem::path& folder)
      : tokens_(config.tokens()), placeholder_(config.image_token_id), files_(folder) {
    tiles_ = ProcessorFiles::read<media::TileProcessor>(files_.image);
    check_tile(tiles_, config.vision_config, files_.image.where);
    int image_seq_len = tokens_;
    if (files_.processor.json.is_object())
      ConfigReader(files_.processor.json, files_.processor.where)
          .maybe("image_seq_len", image_seq_len);
    if (image_seq_len != tokens_)
      throw Error("{}: 'image_seq_len' is {}, but the model makes {} tokens of a tile",
                  files_.processor.where, image_seq_len, tokens_);
  }

  Json describe() const override {
    return {{"pictures", describe_pictures(tiles_)},
            {"longest edge", tiles_.longest_edge},
            {"tile", tiles_.tile},
            {"tiles", tiles_.do_image_splitting},
            {"tokens of a tile", tokens_}};
  }

 protected:
  std::string mark(Medium::Kind kind) const override {
    return kind == Medium::Kind::image ? "<image>" : "";
  }
  Part of_picture(const media::Picture& picture, const Tokenizer& tokenizer) const override {
    media::Pixels pixels = tiles_(picture);
    std::string text;
    for (int row = 1; row <= pixels.rows; ++row) {
      for (int col = 1; col <= pixels.cols; ++col)
        text += fmt::format("<fake_token_around_image><row_{}_col_{}>", row, col) + tile(tokenizer);
      text += "\n";
    }
    if (pixels.rows > 0) text += "\n";
    text += whole(tokenizer);
    return with(std::move(text), pixels.values);
  }

  // The tokens of a tile.
  std::string tile(const Tokenizer& tokenizer) const {
    return repeat(tokenizer.id_to_token(placeholder_), static_cast<size_t>(tokens_));
  }
  // A picture in one tile.
  std::string whole(const Tokenizer& tokenizer) const {
    return "<fake_token_around_image><global-img>" + tile(tokenizer) + "<fake_token_around_image>";
  }
  Part with(std::string text, const mx::array& pixels) const {
    return {
        .text = std::move(text),
        .medium = {.values = {{"pixel_values", pixels}},
                   .placeholder = placeholder_,
                   .count = static_cast<size_t>(tokens_) * static_cast<size_t>(pixels.shape(0))}};
  }
  static void check_tile(const media::TileProcessor& p, const SiglipConfig& tower,
                         std::string_view where) {
    if (p.tile != tower.image_size)
      throw Error("{}: tiles have {} x {} pixels, but the model's tower takes {} x {}", where,
                  p.tile, p.tile, tower.image_size, tower.image_size);
  }
  const ProcessorFiles& files() const { return files_; }

 private:
  const int tokens_, placeholder_;
  const ProcessorFiles files_;
  media::TileProcessor tiles_;
};

class SmolVLMProcessor final : public Idefics3Processor {
 public:
  SmolVLMProcessor(const Idefics3Config& config, const std::filesystem::path& folder)
      : Idefics3Processor(config, folder) {
    const auto& where = files().video.json.is_null() ? files().image : files().video;
    films_ = ProcessorFiles::read<Films>(where);
    check_tile(films_, config.vision_config, where.where);
  }

  Json describe() const override {
    Json j = Idefics3Processor::describe();
    j["films"] = {
        {"longest edge", films_.longest_edge}, {"fps", films_.fps}, {"frames", films_.num_frames}};
    return j;
  }

  FilmReading film_reading(const MediaOptions& options) const override {
    const double fps = options.fps.value_or(films_.fps);
    const int most = options.max_frames.value_or(films_.num_frames);
    check_limits(fps, most, "film");
    return {.choose =
                [fps, most](const media::Film& film) {
                  return media::spread_frames(film.frames(), film.fps(), fps, most);
                },
            .shrink = [films = films_](const media::Picture& frame,
                                       int) { return films.whole(frame); }};
  }

 protected:
  std::string mark(Medium::Kind kind) const override {
    return kind == Medium::Kind::video ? "<video>" : Idefics3Processor::mark(kind);
  }
  Part of_picture(const media::Picture& picture, const Tokenizer& tokenizer) const override {
    return Idefics3Processor::of_picture(picture, tokenizer);
  }
  Part of_film(const Frames& film, const Tokenizer& tokenizer) const override {
    const int seconds = static_cast<int>(film.seconds);
    constexpr int kMinute = 60, kHour = 60 * kMinute;
    std::string text = fmt::format(
        "You are provided the following series of {} frames from a {}:{:02}:{:02} [H:MM:SS] "
        "video.\n",
        number_words(static_cast<int>(film.pictures.size())), seconds / kHour,
        seconds % kHour / kMinute, seconds % kMinute);
    for (const double time : film.times) {
      const int at = static_cast<int>(time);
      text +=
          fmt::format("\nFrame from {:02}:{:02}:", at / kMinute, at % kMinute) + whole(tokenizer);
    }
    return with(text + "\n\n", media::to_floats(film.pictures, films_));
  }
  // Templates from before films render pictures and text alone.
  OrderedJson adapt(OrderedJson messages) const override {
    for (OrderedJson& message : messages)
      if (message.is_object() && message.contains("content") && message["content"].is_array())
        for (OrderedJson& part : message["content"])
          if (part.is_object() && part.value("type", "") == "video")
            part = {{"type", "text"}, {"text", mark(Medium::Kind::video)}};
    return messages;
  }

 private:
  static void check_limits(double fps, int frames, std::string_view where) {
    if (!(fps > 0) || frames < 1 || frames > kMostNumberInWords)
      throw Error("{}: expected fps above 0 and 1 to {} frames, found {} and {}", where,
                  kMostNumberInWords, fps, frames);
  }

  struct Films : media::TileProcessor {
    double fps = 1;
    int num_frames = 64;

    void fields(ConfigReader& v) {
      TileProcessor::fields(v);
      v.maybe("fps", fps);
      v.maybe("num_frames", num_frames);
      Json sampling;  // older folders have these apart
      v.maybe("video_sampling", sampling);
      if (sampling.is_object()) {
        ConfigReader s(sampling, v.where() + ": video_sampling");
        s.maybe("fps", fps);
        s.maybe("max_frames", num_frames);
        Json size;
        s.maybe("video_size", size);
        if (size.is_object() && !v.json().contains("size")) {
          ConfigReader video_size(size, s.where() + ": video_size");
          llm::read_size(video_size, "longest_edge", longest_edge);
        }
      }
      check_limits(fps, num_frames, v.where());
    }
  };

  Films films_;
};

std::unique_ptr<LanguageModel> make(const Idefics3Config& c) {
  return std::make_unique<Idefics3>(c);
}

template <class Processor>
ModelTypes::Entry entry(const char* name) {
  return {.name = name,
          .make = creator(make),
          .processor = [](const Json& config, const std::filesystem::path& folder) {
            return std::make_shared<const Processor>(read_config<Idefics3Config>(config), folder);
          }};
}

}  // namespace

ModelTypes::Entry idefics3() { return entry<Idefics3Processor>("idefics3"); }
ModelTypes::Entry smolvlm() { return entry<SmolVLMProcessor>("smolvlm"); }

}  // namespace mlxcpp::vlm
