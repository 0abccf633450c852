// PaliGemma and PaliGemma 2 (arXiv 2407.07726, 2412.03555): SigLIP, a linear layer, and Gemma or
// Gemma 2, which sees the whole prompt from every token of it. Reference: transformers
// modeling_paligemma.py, processing_paligemma.py.
#include "llm/blocks/config.h"
#include "vlm/blocks/siglip.h"
#include "vlm/media/image_processor.h"
#include "vlm/media_processor.h"
#include "vlm/models.h"
#include "vlm/text_part.h"
#include "vlm/vision_language_model.h"

namespace mlxcpp::vlm {
namespace {

struct PaliGemmaConfig {
  Json text;
  SiglipConfig vision_config;
  int hidden_size = 2048;  // of the text
  int image_token_index = 256000;

  int tokens() const { return vision_config.side() * vision_config.side(); }

  void fields(ConfigReader& v) {
    text = text_config(v.json(), v.where(), "gemma",
                       {"num_image_tokens", "use_bidirectional_attention"});
    v.skip("text_config");
    v.skip("tie_word_embeddings");
    v.need("vision_config", vision_config);
    llm::read_size(v, "hidden_size", hidden_size);
    ConfigReader(text, v.where() + ": text_config").maybe("hidden_size", hidden_size);
    v.maybe("image_token_index", image_token_index);
    v.maybe("image_token_id", image_token_index);
    for (const char* key :
         {"_vocab_size", "ignore_index", "num_image_tokens", "projection_dim", "vocab_size"})
      v.skip(key);
  }
};

class Projector : public nn::Module {
 public:
  explicit Projector(const PaliGemmaConfig& c)
      : linear(this, "linear", c.vision_config.hidden_size, c.hidden_size, true) {}
  mx::array operator()(const mx::array& x) const { return linear(x); }

  nn::Child<nn::Linear> linear;
};

class PaliGemma final : public VisionLanguageModel {
 public:
  explicit PaliGemma(const PaliGemmaConfig& c)
      : VisionLanguageModel(make_text_model(c.text)),
        vision_tower(this, "vision_tower.vision_model", c.vision_config),
        multi_modal_projector(this, "multi_modal_projector", c) {}

  // The published model divides by the square root of the hidden size what embed() multiplies by
  // it: neither is done here.
  mx::array encode(const Medium& medium) const override {
    const auto& pixels = value_of(medium, "pixel_values", 4);  // [1, 3, H, W]
    return mx::squeeze(multi_modal_projector(vision_tower(pixels)), 0);
  }

  // Every token of a prompt sees all others: none is as it was in a shorter one.
  size_t reusable(const LMInput&, size_t) const override { return 0; }

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
  void arrange(const LMInput&, size_t, PreparedPrompt& prompt) const override {
    prompt.groups.assign(prompt.tokens.size(), 0);
  }

 public:
  nn::Child<SiglipTower> vision_tower;
  nn::Child<Projector> multi_modal_projector;
};

class PaliGemmaProcessor final : public MediaProcessor {
 public:
  PaliGemmaProcessor(const PaliGemmaConfig& config, const std::filesystem::path& folder)
      : tokens_(config.tokens()), placeholder_(config.image_token_index) {
    const ProcessorFiles files(folder);
    pictures_ = ProcessorFiles::read<media::SquareProcessor>(files.image);
    check_size(pictures_, config.vision_config, files.image.where);
  }

  Json describe() const override {
    return {{"pictures", describe_pictures(pictures_)}, {"tokens of a picture", tokens_}};
  }

 protected:
  std::string mark(Medium::Kind kind) const override {
    return kind == Medium::Kind::image ? kMark : "";
  }
  Part of_picture(const media::Picture& picture, const Tokenizer&) const override {
    const auto tokens = static_cast<size_t>(tokens_);
    return {.text = repeat(kMark, tokens),
            .medium = {.values = {{"pixel_values", pictures_(picture).values}},
                       .placeholder = placeholder_,
                       .count = tokens}};
  }
  // Pictures, beginning of sequence, text, newline.
  std::string complete(std::string prompt, const Tokenizer& tokenizer) const override {
    const size_t last = prompt.rfind(kMark);
    const auto bos = tokenizer.bos();
    prompt.insert(last == std::string::npos ? 0 : last + std::string_view(kMark).size(),
                  bos ? tokenizer.id_to_token(*bos) : "");
    return prompt + "\n";
  }

 private:
  static constexpr const char* kMark = "<image>";

  const int tokens_, placeholder_;
  media::SquareProcessor pictures_;
};

std::unique_ptr<LanguageModel> make(const PaliGemmaConfig& c) {
  return std::make_unique<PaliGemma>(c);
}

std::shared_ptr<const Processor> make_processor(const Json& json,
                                                const std::filesystem::path& folder) {
  return std::make_shared<PaliGemmaProcessor>(read_config<PaliGemmaConfig>(json), folder);
}

}  // namespace

ModelTypes::Entry paligemma() {
  return {.name = "paligemma", .make = creator(make), .processor = make_processor};
}

}  // namespace mlxcpp::vlm
