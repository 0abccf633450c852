// Gemma 3n that sees and hears (https://ai.google.dev/gemma/docs/gemma-3n). Reference: transformers
// modeling_gemma3n.py, processing_gemma3n.py.
#include <cmath>

#include "core/log.h"
#include "kernels/norm.h"
#include "llm/blocks/config.h"
#include "llm/models.h"
#include "nn/embedding.h"
#include "vlm/media/image_processor.h"
#include "vlm/media/log_mel.h"
#include "vlm/media_processor.h"
#include "vlm/models.h"
#include "vlm/models/gemma3n_audio.h"
#include "vlm/models/gemma3n_vision.h"
#include "vlm/text_part.h"
#include "vlm/vision_language_model.h"

namespace mlxcpp::vlm {
namespace {

struct Gemma3nConfig {
  Json text;
  int hidden_size = 2048, vocab_size = 262400;  // of the text
  Gemma3nVisionConfig vision_config;
  Gemma3nAudioConfig audio_config;
  int vision_soft_tokens_per_image = 256, audio_soft_tokens_per_image = 188;
  int image_token_id = 262145, boi_token_id = 255999, eoi_token_id = 262144;
  int audio_token_id = 262273, boa_token_id = 256000, eoa_token_id = 262272;

  void fields(ConfigReader& v) {
    text = text_config(v.json(), v.where(), "gemma3n_text");
    v.skip("text_config");
    v.skip("tie_word_embeddings");
    ConfigReader t(text, v.where() + ": text_config");
    llm::read_size(t, "hidden_size", hidden_size);
    llm::read_size(t, "vocab_size", vocab_size);
    v.maybe("vision_config", vision_config);
    v.maybe("audio_config", audio_config);
    llm::read_size(v, "vision_soft_tokens_per_image", vision_soft_tokens_per_image);
    llm::read_size(v, "audio_soft_tokens_per_image", audio_soft_tokens_per_image);
    v.maybe("image_token_id", image_token_id);
    v.maybe("boi_token_id", boi_token_id);
    v.maybe("eoi_token_id", eoi_token_id);
    v.maybe("audio_token_id", audio_token_id);
    v.maybe("boa_token_id", boa_token_id);
    v.maybe("eoa_token_id", eoa_token_id);
    // Newer configs have these names for them.
    v.maybe("eoi_token_index", eoi_token_id);
    v.maybe("eoa_token_index", eoa_token_id);
    if (vision_soft_tokens_per_image != vision_config.soft_tokens())
      throw Error("{}: 'vision_soft_tokens_per_image' is {}, but the tower makes {}", v.where(),
                  vision_soft_tokens_per_image, vision_config.soft_tokens());
  }
};

// Brings what a tower makes, and ids of its own small vocabulary, to where the text's embeddings
// are.
class MultimodalEmbedder final : public nn::Module {
 public:
  template <class Tower>
  MultimodalEmbedder(const Tower& tower, int text_hidden_size)
      : offset_(tower.vocab_offset),
        eps_(tower.rms_norm_eps),
        embedding(this, "embedding", tower.vocab_size, tower.hidden_size),
        hard_embedding_norm(this, "hard_embedding_norm", tower.hidden_size, eps_),
        soft_embedding_norm(this, "soft_embedding_norm", tower.hidden_size, eps_),
        embedding_projection(this, "embedding_projection", tower.hidden_size, text_hidden_size) {}

  // Soft tokens [..., tower's hidden] -> [..., hidden]
  mx::array operator()(const mx::array& soft) const { return projected(soft_embedding_norm(soft)); }

  // Of ids [...] of the text's vocabulary, which belong to this one or are taken as its last.
  mx::array of_ids(const mx::array& ids) const {
    const int last = embedding->count() - 1;
    const auto own = ids - mx::array(offset_);
    const auto known =
        mx::logical_and(mx::greater_equal(own, mx::array(0)), mx::less_equal(own, mx::array(last)));
    return projected(hard_embedding_norm(embedding(mx::where(known, own, mx::array(last)))));
  }
  // What fills places where nothing is heard: [1, hidden].
  mx::array padding() const { return of_ids(mx::array({offset_ + embedding->count() - 1})); }

 private:
  mx::array projected(const mx::array& x) const {
    return kernels::rms_norm(embedding_projection(x), std::nullopt, eps_);
  }

  const int offset_;
  const float eps_;

 public:
  nn::Child<nn::Embedding> embedding;
  nn::Child<nn::RMSNorm> hard_embedding_norm, soft_embedding_norm;
  nn::Child<nn::Linear> embedding_projection;
};

class Gemma3n final : public VisionLanguageModel {
 public:
  explicit Gemma3n(const Gemma3nConfig& c)
      : VisionLanguageModel(make_text_model(c.text)),
        c_(c),
        vision_tower(this, "vision_tower.timm_model", c.vision_config),
        audio_tower(this, "audio_tower", c.audio_config),
        embed_vision(this, "embed_vision", c.vision_config, c.hidden_size),
        embed_audio(this, "embed_audio", c.audio_config, c.hidden_size) {}

  // Ids of the towers' vocabularies (ends of pictures and sounds) have embeddings of their own.
  mx::array embed(const mx::array& ids) const override {
    const auto text = language_model->embed(ids);
    const auto from = [&](int offset) {
      return mx::expand_dims(mx::greater_equal(ids, mx::array(offset)), -1);
    };
    const auto place = [&](const mx::array& h) { return mx::astype(h, text.dtype()); };
    return mx::where(
        from(c_.audio_config.vocab_offset), place(embed_audio->of_ids(ids)),
        mx::where(from(c_.vision_config.vocab_offset), place(embed_vision->of_ids(ids)), text));
  }
  mx::array hidden(const mx::array& ids, Caches& caches) const override {
    return hidden_from(embed(ids), ids, caches);
  }

  mx::array encode(const Medium& medium) const override {
    return medium.kind == Medium::Kind::audio ? encode_sound(medium) : encode_picture(medium);
  }

 protected:
  Prefixes prefixes() const override {
    return {
        {"model.language_model.", "language_model.model."}, {"lm_head.", "language_model.lm_head."},
        {"model.vision_tower.", "vision_tower."},           {"model.audio_tower.", "audio_tower."},
        {"model.embed_vision.", "embed_vision."},           {"model.embed_audio.", "embed_audio."}};
  }
  nn::Weights sanitize_towers(nn::Weights weights) const override {
    return convolutions_channels_last(std::move(weights));
  }

 private:
  mx::array encode_picture(const Medium& medium) const {
    const auto map = vision_tower(value_of(medium, "pixel_values", 4));  // [1, r, r, width]
    const int width = map.shape(3);
    const auto soft = mx::reshape(map, {1, -1, width});
    return mx::squeeze(
        embed_vision(soft * mx::array(std::sqrt(static_cast<float>(width)), soft.dtype())), 0);
  }

  mx::array encode_sound(const Medium& medium) const {
    const auto valid = mx::astype(value_of(medium, "input_features_mask", 2), mx::bool_);
    const auto states = audio_tower(value_of(medium, "input_features", 3), valid);
    const auto heard = mx::expand_dims(audio_tower->heard(valid), -1);
    const auto padding = embed_audio->padding();
    const auto soft = mx::where(heard, embed_audio(states), padding);
    const int rest = c_.audio_soft_tokens_per_image - soft.shape(1);
    if (rest < 0)
      throw Error("a sound gives {} soft tokens, more than the model's {}", soft.shape(1),
                  c_.audio_soft_tokens_per_image);
    return mx::concatenate(
        {mx::squeeze(soft, 0), mx::broadcast_to(padding, {rest, padding.shape(1)})}, 0);
  }

  const Gemma3nConfig c_;

 public:
  nn::Child<MobileNetV5> vision_tower;
  nn::Child<Conformer> audio_tower;
  nn::Child<MultimodalEmbedder> embed_vision, embed_audio;
};

class Gemma3nProcessor final : public MediaProcessor {
 public:
  Gemma3nProcessor(Gemma3nConfig config, const std::filesystem::path& folder)
      : c_(std::move(config)) {
    const ProcessorFiles files(folder);
    media::SquareProcessor defaults;
    defaults.resample = media::Filter::bilinear;
    defaults.do_normalize = false;
    defaults.height = defaults.width = 768;
    pictures_ = ProcessorFiles::read(files.image, defaults);
    c_.vision_config.check_size(pictures_.height, pictures_.width, files.image.where);
    sounds_ = ProcessorFiles::read<media::Gemma3nLogMel>(files.sound);
    if (sounds_.feature_size != c_.audio_config.input_feat_size)
      throw Error("{}: 'feature_size' is {}, but the model's 'input_feat_size' {}",
                  files.sound.where, sounds_.feature_size, c_.audio_config.input_feat_size);
    check_count(files.processor, "image_seq_length", c_.vision_soft_tokens_per_image);
    check_count(files.processor, "audio_seq_length", c_.audio_soft_tokens_per_image);
  }

  Json describe() const override {
    return {{"pictures", describe_pictures(pictures_)},
            {"size of pictures", {pictures_.width, pictures_.height}},
            {"tokens of a picture", c_.vision_soft_tokens_per_image},
            {"sound", "log mel, Gemma 3n"},
            {"samples a second", sounds_.sampling_rate},
            {"tokens of a sound", c_.audio_soft_tokens_per_image}};
  }

 protected:
  std::string mark(Medium::Kind kind) const override {
    switch (kind) {
      case Medium::Kind::image:
        return "<image_soft_token>";
      case Medium::Kind::audio:
        return "<audio_soft_token>";
      case Medium::Kind::video:
        break;
    }
    return "";
  }
  int sound_rate() const override { return sounds_.sampling_rate; }

  Part of_picture(const media::Picture& picture, const Tokenizer& tokenizer) const override {
    return filled(tokenizer, c_.boi_token_id, c_.image_token_id, c_.eoi_token_id,
                  c_.vision_soft_tokens_per_image, {{"pixel_values", pictures_(picture).values}});
  }

  // Sounds of a prompt are filled up to the longest: the tower hears the silence behind them.
  Part of_sound(const media::Sound& sound, size_t longest,
                const Tokenizer& tokenizer) const override {
    constexpr size_t kMost = media::Gemma3nLogMel::kMostSamples;
    if (sound.samples.size() > kMost)
      log::warning("a sound of {:.1f} s is cut to its first {} s, which is what the model hears",
                   sound.seconds(), kMost / static_cast<size_t>(sounds_.sampling_rate));
    const size_t length = std::min(longest, kMost);
    const media::LogMel mel = sounds_(sound.samples, length);
    const int frames = mel.features.shape(0);
    if (const int tokens = c_.audio_config.soft_tokens(frames);
        tokens > c_.audio_soft_tokens_per_image)
      throw Error("a sound of {:.1f} s gives {} soft tokens, more than the model's {}",
                  static_cast<double>(length) / sounds_.sampling_rate, tokens,
                  c_.audio_soft_tokens_per_image);
    const auto valid = mx::less(mx::arange(frames), mx::array(mel.frames));
    Part p = filled(tokenizer, c_.boa_token_id, c_.audio_token_id, c_.eoa_token_id,
                    c_.audio_soft_tokens_per_image,
                    {{"input_features", mx::expand_dims(mel.features, 0)},
                     {"input_features_mask", mx::astype(mx::expand_dims(valid, 0), mx::int32)}});
    p.medium.key = fmt::format(" of {} samples", length);
    return p;
  }

 private:
  static void check_count(const ProcessorFiles::Part& part, const char* key, int wanted) {
    if (part.json.is_null()) return;
    int count = wanted;
    ConfigReader(part.json, part.where).maybe(key, count);
    if (count != wanted)
      throw Error("{}: '{}' is {}, but the model takes {}", part.where, key, count, wanted);
  }

  // Soft tokens between a begin and an end, on lines of their own.
  static Part filled(const Tokenizer& tokenizer, int begin, int placeholder, int end, int count,
                     std::map<std::string, mx::array> values) {
    for (auto& [name, value] : values) value.eval();
    const auto n = static_cast<size_t>(count);
    return {.text = "\n\n" + tokenizer.id_to_token(begin) +
                    repeat(tokenizer.id_to_token(placeholder), n) + tokenizer.id_to_token(end) +
                    "\n\n",
            .medium = {.values = std::move(values), .placeholder = placeholder, .count = n}};
  }

  Gemma3nConfig c_;
  media::SquareProcessor pictures_;
  media::Gemma3nLogMel sounds_;
};

std::unique_ptr<LanguageModel> make(const Gemma3nConfig& c) { return std::make_unique<Gemma3n>(c); }

std::shared_ptr<const Processor> make_processor(const Json& json,
                                                const std::filesystem::path& folder) {
  return std::make_shared<Gemma3nProcessor>(read_config<Gemma3nConfig>(json), folder);
}

}  // namespace

ModelTypes::Entry gemma3n() {
  return {.name = "gemma3n",
          .make = creator(make),
          .processor = make_processor,
          .text_only = llm::gemma3n()};
}

}  // namespace mlxcpp::vlm
