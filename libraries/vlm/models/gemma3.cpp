// Gemma 3 with pictures (arXiv 2503.19786): SigLIP, its patches averaged down to
// mm_tokens_per_image, and the text model, where the tokens of a picture see each other. Reference:
// transformers modeling_gemma3.py, processing_gemma3.py.
#include <cmath>

#include "kernels/linear.h"
#include "llm/blocks/config.h"
#include "llm/models.h"
#include "vlm/blocks/siglip.h"
#include "vlm/media/image_processor.h"
#include "vlm/media_processor.h"
#include "vlm/models.h"
#include "vlm/text_part.h"
#include "vlm/vision_language_model.h"

namespace mlxcpp::vlm {
namespace {

struct Gemma3Config {
  Json text;
  SiglipConfig vision_config;
  int hidden_size = 2304;  // of the text
  int mm_tokens_per_image = 256, image_token_index = 262144;

  int tokens_per_side() const { return static_cast<int>(std::sqrt(mm_tokens_per_image)); }

  void fields(ConfigReader& v) {
    text = text_config(v.json(), v.where(), "gemma3_text");
    v.skip("text_config");
    v.skip("tie_word_embeddings");
    v.need("vision_config", vision_config);
    llm::read_size(v, "mm_tokens_per_image", mm_tokens_per_image);
    v.maybe("image_token_index", image_token_index);
    v.maybe("image_token_id", image_token_index);
    for (const char* key : {"boi_token_index", "boi_token_id", "eoi_token_index", "eoi_token_id"})
      v.skip(key);
    ConfigReader t(text, v.where() + ": text_config");
    llm::read_size(t, "hidden_size", hidden_size);
    int sliding_window = 4096;
    t.maybe("sliding_window", sliding_window);

    const int side = vision_config.side(), tokens = tokens_per_side();
    if (tokens * tokens != mm_tokens_per_image || side % tokens != 0)
      throw Error(
          "{}: 'mm_tokens_per_image' is {}, expected a square whose side divides the {} patches "
          "along a picture's edge",
          v.where(), mm_tokens_per_image, side);
    if (mm_tokens_per_image > sliding_window)
      throw Error("{}: 'mm_tokens_per_image' is {}, more than the sliding window of {}", v.where(),
                  mm_tokens_per_image, sliding_window);
  }
};

class Projector : public nn::Module {
 public:
  explicit Projector(const Gemma3Config& c)
      : tokens_(c.tokens_per_side()),
        mm_soft_emb_norm(this, "mm_soft_emb_norm", c.vision_config.hidden_size,
                         c.vision_config.layer_norm_eps, true),
        mm_input_projection_weight(this, "mm_input_projection_weight",
                                   mx::zeros({c.vision_config.hidden_size, c.hidden_size})) {}

  // [n, patches, vision hidden] -> [n, tokens, hidden]
  mx::array operator()(const mx::array& x) const {
    const int n = x.shape(0), width = x.shape(2);
    const int pool = static_cast<int>(std::lround(std::sqrt(x.shape(1)))) / tokens_;
    auto y = mx::reshape(x, {n, tokens_, pool, tokens_, pool, width});
    y = mx::reshape(mx::mean(y, {2, 4}), {n, tokens_ * tokens_, width});
    return kernels::matmul(mm_soft_emb_norm(y), mx::astype(*mm_input_projection_weight, y.dtype()));
  }

 private:
  const int tokens_;

 public:
  nn::Child<nn::RMSNorm> mm_soft_emb_norm;
  nn::Param mm_input_projection_weight;  // [vision hidden, hidden]
};

class Gemma3 final : public VisionLanguageModel {
 public:
  explicit Gemma3(const Gemma3Config& c)
      : VisionLanguageModel(make_text_model(c.text)),
        image_token_(c.image_token_index),
        vision_tower(this, "vision_tower.vision_model", c.vision_config),
        multi_modal_projector(this, "multi_modal_projector", c) {}

  mx::array encode(const Medium& medium) const override {
    const auto& pixels = value_of(medium, "pixel_values", 4);  // [1 + crops, 3, H, W]
    std::vector<mx::array> all;
    for (int i = 0; i < pixels.shape(0); ++i) {
      const auto one = mx::slice(pixels, {i, 0, 0, 0},
                                 {i + 1, pixels.shape(1), pixels.shape(2), pixels.shape(3)});
      all.push_back(mx::squeeze(multi_modal_projector(vision_tower(one)), 0));
      all.back().eval();
    }
    return mx::concatenate(std::move(all), 0);
  }

 protected:
  Prefixes prefixes() const override {
    return {{"model.language_model.", "language_model.model."},
            {"lm_head.", "language_model.lm_head."},
            {"model.vision_tower.vision_model.", "vision_tower.vision_model."},
            {"model.vision_tower.", "vision_tower.vision_model."},
            {"vision_tower.vision_model.", "vision_tower.vision_model."},
            {"vision_tower.", "vision_tower.vision_model."},  // transformers 5
            {"model.multi_modal_projector.", "multi_modal_projector."}};
  }
  nn::Weights sanitize_towers(nn::Weights weights) const override {
    return siglip_weights(std::move(weights));
  }
  void arrange(const LMInput& input, size_t cached, PreparedPrompt& prompt) const override {
    if (!input.media.empty() && input.media.back().end > cached)
      prompt.groups = groups_of_runs(prompt.tokens, image_token_);
  }

 private:
  const int image_token_;

 public:
  nn::Child<SiglipTower> vision_tower;
  nn::Child<Projector> multi_modal_projector;
};

class Gemma3Processor final : public MediaProcessor {
 public:
  Gemma3Processor(const Gemma3Config& config, const std::filesystem::path& folder)
      : tokens_(config.mm_tokens_per_image), placeholder_(config.image_token_index) {
    const ProcessorFiles files(folder);
    media::SquareProcessor defaults;
    defaults.resample = media::Filter::bilinear;
    pictures_ = ProcessorFiles::read(files.image, defaults);
    check_size(pictures_, config.vision_config, files.image.where);
  }

  Json describe() const override {
    return {{"pictures", describe_pictures(pictures_)},
            {"pan and scan", pictures_.do_pan_and_scan},
            {"tokens of a picture", tokens_}};
  }

 protected:
  std::string mark(Medium::Kind kind) const override {
    return kind == Medium::Kind::image ? "<start_of_image>" : "";
  }
  Part of_picture(const media::Picture& picture, const Tokenizer& tokenizer) const override {
    const media::Pixels pixels = pictures_(picture);
    const auto tokens = static_cast<size_t>(tokens_);
    const std::string one = "\n\n<start_of_image>" +
                            repeat(tokenizer.id_to_token(placeholder_), tokens) +
                            "<end_of_image>\n\n";
    Part p{.text = one,
           .medium = {.values = {{"pixel_values", pixels.values}},
                      .placeholder = placeholder_,
                      .count = tokens * (1 + static_cast<size_t>(pixels.crops))}};
    if (pixels.crops > 0) {
      p.text = "Here is the original image " + one +
               " and here are some crops to help you see better " + one;
      for (int i = 1; i < pixels.crops; ++i) p.text += " " + one;
    }
    return p;
  }

 private:
  const int tokens_, placeholder_;
  media::SquareProcessor pictures_;
};

std::unique_ptr<LanguageModel> make(const Gemma3Config& c) { return std::make_unique<Gemma3>(c); }

std::shared_ptr<const Processor> make_processor(const Json& json,
                                                const std::filesystem::path& folder) {
  return std::make_shared<Gemma3Processor>(read_config<Gemma3Config>(json), folder);
}

}  // namespace

ModelTypes::Entry gemma3() {
  return {.name = "gemma3",
          .make = creator(make),
          .processor = make_processor,
          .text_only = llm::gemma3()};
}

}  // namespace mlxcpp::vlm
