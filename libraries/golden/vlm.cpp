// golden/vlm: prompts with media. In the order of the computation: token ids, what the processor
// makes of the files, intermediates of the towers, logits from the stored values of the processor,
// greedy tokens, and the whole way from the files to the first token.
#include "golden/vlm.h"

#include <fmt/ranges.h>

#include "golden/steps.h"
#include "lm_common/model_context.h"
#include "vlm/media_processor.h"
#include "vlm/registry.h"
#include "vlm/vision_language_model.h"

namespace mlxcpp::golden {
namespace {

// What the fixtures call intermediates, and what the modules are in ours: a path ends so.
struct Intermediate {
  std::string_view name, path;
  bool map = false;  // ours has channels last, the reference's has them first
};
constexpr Intermediate kIntermediates[] = {
    {"vision.embeddings", "vision_model.embeddings"},
    {"vision.layer0", "vision_model.encoder.layers.0"},
    {"vision.tower", "vision_model.post_layernorm"},
    {"vision.projector", "multi_modal_projector"},
    {"vision.connector", "connector"},
    {"vision.patch_embed", "visual.patch_embed"},
    {"vision.block", "visual.blocks."},  // and a number
    {"vision.merger", "visual.merger"},
    {"vision.stem", "timm_model.conv_stem", true},
    {"vision.stage", "timm_model.blocks.", true},
    {"vision.msfa", "timm_model.msfa", true},
    {"embed_vision", "embed_vision"},
    {"audio.subsample", "audio_tower.subsample_conv_projection"},
    {"audio.conformer", "audio_tower.conformer."},
    {"audio.tower", "audio_tower"},
    {"embed_audio", "embed_audio"},
    {"layer", "model.layers."},
};

const Intermediate* intermediate(const std::string& name) {
  for (const Intermediate& known : kIntermediates)
    if (name == known.name || (known.path.ends_with('.') && name.starts_with(known.name)))
      return &known;
  return nullptr;
}

std::optional<std::string> path_of(const std::string& name) {
  const Intermediate* known = intermediate(name);
  if (!known) return std::nullopt;
  return std::string(known->path) + name.substr(known->name.size());
}

mx::array joined(std::vector<mx::array> parts) {
  return parts.size() == 1 ? parts[0] : mx::concatenate(std::move(parts), 0);
}

// What the fixture calls `name`, in its form.
mx::array in_form_of(const mx::array& want, const std::string& name, const mx::array& got) {
  if (intermediate(name)->map && got.ndim() == 4) return mx::transpose(got, {0, 3, 1, 2});
  // The streams of Gemma 3n's layers: ours is [B, L, streams, hidden].
  if (name.starts_with("layer") && got.ndim() == 4) return mx::transpose(got, {2, 0, 1, 3});
  return got.size() == want.size() ? mx::reshape(got, want.shape()) : got;
}

class MediaCase {
 public:
  MediaCase(const fs::path& folder, const vlm::VisionLanguageModel& model,
            const vlm::MediaProcessor& processor, const Tokenizer& tokenizer, const Json& info,
            References& want, Comparison& out)
      : folder_(folder),
        model_(model),
        processor_(processor),
        tokenizer_(tokenizer),
        info_(info),
        name_(info.at("name").get<std::string>()),
        want_(want),
        out_(out) {}

  void run(double pixel_tolerance) {
    std::string prompt = info_.at("prompt");
    if (const Json& messages = info_.at("messages"); !messages.is_null()) {
      const std::string rendered = processor_.render(messages, tokenizer_);
      out_.check(name_ + ".prompt", rendered == prompt, "found " + rendered);
    }
    LMInput own = processor_.assemble(prompt, contents(), tokenizer_);
    compare_ids(own.tokens);
    LMInput stored = own;
    compare_values(stored, pixel_tolerance);
    compare_forward(stored);
    for (const int step : {static_cast<int>(own.tokens.size()), 7}) compare_greedy(stored, step);
    compare_end_to_end(own);
    // What masks and types say is in the groups and placeholders.
    for (const char* other : {"attention_mask", "token_type_ids", "mm_token_type_ids",
                              "pixel_attention_mask", "audio.mask_out"})
      want_.skip(name_ + "." + other);
  }

 private:
  const mx::array& at(const std::string& what) { return want_.at(name_ + "." + what); }
  bool has(const std::string& what) const { return want_.has(name_ + "." + what); }

  std::vector<vlm::Content> contents() const {
    std::vector<vlm::Content> all;
    for (const std::string file : list("images"))
      all.push_back(vlm::read_picture(folder_ / file, {}));
    if (info_.contains("video_frames"))
      for (const Json& files : info_.at("video_frames")) {
        vlm::Frames film;
        film.fps = info_.at("video_fps");
        for (const std::string file : files) {
          film.times.push_back(static_cast<double>(film.times.size()) / film.fps);
          film.pictures.push_back(processor_.film_reading({}).shrink(
              media::read_picture(folder_ / file), static_cast<int>(files.size())));
        }
        film.seconds = static_cast<double>(film.pictures.size()) / film.fps;
        all.push_back({std::move(film)});
      }
    for (const std::string file : list("audio"))
      all.push_back(vlm::read_sound(folder_ / file, {}, 16000));
    return all;
  }
  Json list(const char* key) const {
    return info_.contains(key) ? info_.at(key) : Json(Json::array());
  }

  void compare_ids(const std::vector<int>& ids) {
    auto want = mx::contiguous(mx::astype(mx::flatten(at("input_ids")), mx::int32));
    want.eval();
    const std::vector<int> wanted(want.data<int>(), want.data<int>() + want.size());
    out_.check(name_ + ".input_ids", ids == wanted, fmt::format("found [{}]", fmt::join(ids, " ")));
  }

  // Holds what the processor made against the reference, and puts that in its place.
  void compare_values(LMInput& input, double pixel_tolerance) {
    std::map<std::string, std::vector<mx::array>> made;
    for (const Medium& m : input.media)
      for (const auto& [name, value] : m.values) made[name].push_back(value);
    for (auto& [name, parts] : made) {
      if (!has(name)) continue;  // the towers' own
      const mx::array got = joined(parts);
      const mx::array& stored = at(name);
      const mx::array want = mx::reshape(
          stored.dtype() == mx::uint8 ? pixels(stored) : mx::astype(stored, got.dtype()),
          got.shape());
      if (name == "input_features")
        compare_mel(got, want);
      else
        out_.tensor(name_ + "." + name, got, want, {.abs = pixel_tolerance});
      int begin = 0;
      for (Medium& m : input.media) {
        const auto it = m.values.find(name);
        if (it == m.values.end()) continue;
        mx::Shape from(it->second.ndim(), 0), to = want.shape();
        from[0] = begin;
        to[0] = begin += it->second.shape(0);
        it->second = mx::contiguous(mx::slice(want, from, to));
        it->second.eval();
      }
    }
  }

  // |d| <= 1e-3 + 1e-6 exp(M - value), M the frame's largest: quiet bins hold the reference's own
  // rounding.
  void compare_mel(const mx::array& got, const mx::array& want) {
    const auto bound =
        mx::array(1e-3f) + mx::array(1e-6f) * mx::exp(mx::max(want, -1, true) - want);
    const float worst = mx::max(mx::abs(got - want) / bound).item<float>();
    out_.check(name_ + ".input_features", worst <= 1, fmt::format("{} times the bound", worst));
  }

  // Of 8-bit samples [..., 3, H, W] or patches [n, 3 * ...], by the processor's mean and deviation.
  mx::array pixels(const mx::array& samples) const {
    const Json json = read_json(folder_ / "preprocessor_config.json");
    const auto channels = [&](const char* key) {
      const std::vector<float> v = json.at(key);
      return mx::array(v.data(), {1, 3, 1}, mx::float32);
    };
    const auto x = mx::reshape(
        mx::astype(samples, mx::float32),
        {samples.ndim() == 2 ? samples.shape(0) : -1, 3,
         samples.ndim() == 2 ? samples.shape(1) / 3 : samples.shape(-1) * samples.shape(-2)});
    constexpr float kMost = 255;
    auto scaled = x / mx::array(kMost);
    if (!json.value("do_normalize", true)) return scaled;
    return (scaled - channels("image_mean")) / channels("image_std");
  }

  void compare_forward(const LMInput& input) {
    std::map<std::string, std::vector<mx::array>> seen;  // by the fixture's name
    const auto paths = model_.paths();
    std::map<std::string, std::string> wanted;  // path -> name
    for (const std::string& full : want_.names())
      if (full.starts_with(name_ + ".")) {
        const std::string name = full.substr(name_.size() + 1);
        if (const auto path = path_of(name)) wanted.emplace(*path, name);
      }
    Caches caches = model_.make_caches({});
    std::optional<PreparedPrompt> prompt;
    std::optional<mx::array> logits;
    {
      const nn::ObserverScope scope([&](const nn::Module& module, const mx::array& value) {
        const auto it = paths.find(&module);
        if (it == paths.end()) return;
        for (const auto& [path, name] : wanted)
          if (it->second == path || it->second.ends_with("." + path)) seen[name].push_back(value);
      });
      prompt = model_.prepare(input, 0, nullptr);
      logits = model_.logits(prompt_step(model_, *prompt, 0, prompt->tokens.size(), caches));
    }
    for (const auto& [path, name] : wanted) {
      const auto it = seen.find(name);
      if (it == seen.end()) {
        out_.check(name_ + "." + name, false, "nothing at " + path);
      } else {
        const auto got = joined(it->second);
        const auto& want = at(name);
        out_.tensor(name_ + "." + name, in_form_of(want, name, got), want);
      }
    }
    if (has("position_ids")) {
      if (prompt->positions)
        out_.tensor(name_ + ".position_ids", *prompt->positions, at("position_ids"), {});
      else
        out_.check(name_ + ".position_ids", false, "there are none");
      out_.check(name_ + ".rope_deltas", prompt->position_shift == int_at(at("rope_deltas"), 0),
                 fmt::format("found {}", prompt->position_shift));
    }
    out_.tensor(name_ + ".logits", *logits, at("logits"));
  }

  // The last row's logits [vocab] of a prompt, `step` tokens at a time.
  mx::array prefill(const LMInput& input, int step, Caches& caches) {
    const PreparedPrompt prompt = model_.prepare(input, 0, nullptr);
    expect(caches, static_cast<int>(prompt.tokens.size()));
    for (const auto& cache : caches) cache->shift_positions(prompt.position_shift);
    std::optional<mx::array> hidden;
    for (size_t begin = 0; begin < prompt.tokens.size();) {
      const size_t end = prompt.step_end(begin, begin + static_cast<size_t>(step));
      hidden = prompt_step(model_, prompt, begin, end, caches);
      hidden->eval();
      begin = end;
    }
    const int last = hidden->shape(1);
    return mx::squeeze(
        model_.logits(mx::slice(*hidden, {0, last - 1, 0}, {1, last, hidden->shape(2)})), {0, 1});
  }

  void compare_greedy(const LMInput& input, int chunk) {
    Caches caches = model_.make_caches({});
    auto next = prefill(input, chunk, caches);
    const auto &tokens = at("greedy"), &margins = at("greedy_margin");
    for (int i = 0; i < static_cast<int>(tokens.size()); ++i) {
      const int token = int_at(tokens, i);
      out_.greedy_step(next, token, float_at(margins, i));
      if (i + 1 < static_cast<int>(tokens.size())) next = step(model_, caches, token);
    }
    out_.end_greedy(fmt::format("{}.greedy, prompt in steps of {}", name_, chunk));
  }

  // Pixels of our own may differ by a step of 1/255 from the reference's: the first token follows.
  void compare_end_to_end(const LMInput& input) {
    Caches caches = model_.make_caches({});
    const auto first = prefill(input, static_cast<int>(input.tokens.size()), caches);
    const int want = int_at(at("greedy"), 0);
    out_.check(name_ + ".first token from the files",
               mx::argmax(first).item<uint32_t>() == static_cast<uint32_t>(want),
               fmt::format("expected {}", want));
  }

  const fs::path& folder_;
  const vlm::VisionLanguageModel& model_;
  const vlm::MediaProcessor& processor_;
  const Tokenizer& tokenizer_;
  const Json& info_;
  const std::string name_;
  References& want_;
  Comparison& out_;
};

}  // namespace

void compare_vision_language_model(const fs::path& folder, const Options& options,
                                   Comparison& out) {
  (void)options;
  const Json info = read_json(folder / "golden.json");
  References want(folder / "golden.safetensors");
  Checkpoint checkpoint = load_fixture_checkpoint(folder);
  const Json config = checkpoint.config;
  const auto& type = vlm::model_types().of(config);
  const auto made = make_language_model(std::move(checkpoint), vlm::model_types());
  made->eval();
  const auto* model = dynamic_cast<const vlm::VisionLanguageModel*>(made.get());
  if (!model || !type.processor) throw Error("{}: this model takes no media", folder.string());
  const auto processor = type.processor(config, folder);
  const auto tokenizer = Tokenizer::from_folder(folder);
  for (const Json& one : info.at("cases"))
    MediaCase(folder, *model, dynamic_cast<const vlm::MediaProcessor&>(*processor), *tokenizer, one,
              want, out)
        .run(info.at("tolerance").at("pixel_values_max_abs"));
  for (const auto& name : want.unused())
    out.check(name, false, "in golden.safetensors, but not compared");
}

}  // namespace mlxcpp::golden
