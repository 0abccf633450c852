// Models written as folders and read again.
#include "lm_common/write_model.h"

#include "adapters/lora_adapter.h"
#include "golden/fixture.h"
#include "llm/registry.h"
#include "lm_common/gguf_tokenizer.h"
#include "lm_common/test_tokenizer.h"
#include "nn/quantized.h"
#include "support/temp_folder.h"
#include "support/throws.h"
#include "tests/support/paths.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempFolder;
using ::testing::HasSubstr;

const fs::path kGolden = test::golden_folder();

mx::array logits(const ModelContext& c) {
  Caches none;
  return (*c.model)(mx::array({3, 14, 15, 9, 26, 35}, {1, 6}, mx::int32), none);
}

float difference(const mx::array& a, const mx::array& b) {
  return mx::max(mx::abs(mx::astype(a, mx::float32) - mx::astype(b, mx::float32))).item<float>();
}

// A fixture's model as a folder, with a tokenizer.
fs::path folder_of(const TempFolder& folder, const char* fixture) {
  const fs::path to = folder / fixture;
  fs::create_directories(to);
  write_checkpoint(to, golden::load_fixture_checkpoint(kGolden / "llm" / fixture));
  testing::write_test_tokenizer(to);
  return to;
}

ModelContext load(const fs::path& folder) {
  return load_model_context(ModelFiles{folder, {}}, llm::model_types());
}

TEST(WriteModel, FloatIsTheSame) {
  const TempFolder folder;
  const fs::path from = folder_of(folder, "llama"), to = folder / "out";
  ModelContext c = load(from);
  const auto before = logits(c);
  write_model(to, c, {from, {}});
  const ModelContext again = load(to);
  EXPECT_EQ(difference(before, logits(again)), 0);
  EXPECT_EQ(again.tokenizer->encode("abc"), c.tokenizer->encode("abc"));
  EXPECT_TRUE(again.tokenizer->has_chat_template());
}

// Not bfloat16, which has fewer bits than the scales.
TEST(WriteModel, DequantisedWeightsHaveTheDtypeOfTheirScales) {
  const TempFolder folder;
  const fs::path from = folder_of(folder, "llama");
  ModelContext c = load(from);
  write_model(folder / "q4", c, {from, {}}, {.quantize = kernels::QuantType{.group_size = 32}});
  ModelContext quantised = load(folder / "q4");
  nn::dequantize_weights(*c.model, mx::float32);
  write_model(folder / "float", quantised, {folder / "q4", {}}, {.dequantize = true});
  EXPECT_LT(difference(logits(c), logits(load(folder / "float"))), 1e-4);
}

TEST(WriteModel, QuantisesAndDequantises) {
  const TempFolder folder;
  const fs::path from = folder_of(folder, "llama");
  for (const auto& type : {kernels::QuantType{kernels::QuantMode::affine, 32, 4},
                           kernels::QuantType{kernels::QuantMode::mxfp4, 32, 4}}) {
    const std::string name(kernels::name(type.mode));
    ModelContext c = load(from);
    write_model(folder / name, c, {from, {}}, {.quantize = type});
    ModelContext quantised = load(folder / name);
    EXPECT_EQ(quantised.config.at("quantization").at("mode"), name);
    EXPECT_EQ(difference(logits(c), logits(quantised)), 0) << name;

    nn::dequantize_weights(*c.model, mx::float32);
    const auto want = logits(c);
    write_model(folder / (name + "-float"), quantised, {folder / name, {}},
                {.dtype = mx::float32, .dequantize = true});
    const ModelContext back = load(folder / (name + "-float"));
    EXPECT_FALSE(back.config.contains("quantization"));
    EXPECT_LT(difference(want, logits(back)), 1e-4) << name;
  }
  ModelContext c = load(from);
  EXPECT_THAT(error_of([&] {
                write_model(folder / "no", c, {from, {}},
                            {.quantize = kernels::quant_type(kernels::QuantMode::q4_k)});
              }),
              HasSubstr("safetensors cannot hold q4_k"));
  EXPECT_FALSE(fs::exists(folder / "no"));
}

TEST(WriteModel, MixedTypesStayMixed) {
  const TempFolder folder;
  const fs::path from = folder_of(folder, "llama-mixed");
  ModelContext c = load(from);
  const auto before = logits(c);
  write_model(folder / "out", c, {from, {}});
  EXPECT_EQ(difference(before, logits(load(folder / "out"))), 0);
}

TEST(WriteModel, GgufBecomesSafetensors) {
  for (const char* name : {"llama", "qwen3", "smollm3-every4", "internlm2"}) {
    const TempFolder folder;
    const ModelFiles files{kGolden / "gguf", {kGolden / "gguf" / (std::string(name) + ".gguf")}};
    Checkpoint checkpoint = load_checkpoint(files.folder, files.gguf);
    ModelContext c{.model = nullptr, .tokenizer = testing::test_tokenizer()};
    c.config = checkpoint.config;
    c.model = make_language_model(std::move(checkpoint), llm::model_types());
    c.model->eval();
    nn::dequantize_weights(*c.model, mx::float32);
    const auto before = logits(c);

    // The fixtures have no vocabulary: a folder's tokenizer stands in for it.
    const fs::path beside = folder / "tokenizer";
    fs::create_directories(beside);
    testing::write_test_tokenizer(beside);
    write_model(folder / "out", c, {beside, {}}, {.dtype = mx::float32});
    const ModelContext again = load(folder / "out");
    EXPECT_FALSE(again.config.contains("rope_traditional")) << name;
    EXPECT_LT(difference(before, logits(again)), 2e-4) << name;
  }
}

// Of families whose other checkpoints have towers; names stay as they were, so that others find
// them.
TEST(WriteModel, TextAloneOfAMultimodalFamily) {
  for (const char* name : {"gemma3", "gemma3n"}) {
    const TempFolder folder;
    const fs::path from = folder_of(folder, name);
    Checkpoint checkpoint = load_checkpoint(from);
    std::erase_if(checkpoint.weights, [](const auto& w) {
      return w.first.find("language_model.") == std::string::npos;
    });
    write_checkpoint(from, checkpoint);
    ModelContext c = load(from);
    const auto before = logits(c);
    write_model(folder / "out", c, {from, {}});
    const Checkpoint written = load_checkpoint(folder / "out");
    for (const auto& [key, w] : written.weights)
      EXPECT_TRUE(checkpoint.weights.contains(key)) << name << ' ' << key;
    EXPECT_EQ(written.weights.size(), checkpoint.weights.size()) << name;
    EXPECT_EQ(difference(before, logits(load(folder / "out"))), 0) << name;

    ModelContext floats = load(from);
    write_model(folder / "q8", floats, {from, {}},
                {.quantize = kernels::QuantType{.group_size = 32, .bits = 8}});
    EXPECT_TRUE(load(folder / "q8").quantization.everywhere) << name;
    EXPECT_LT(difference(before, logits(load(folder / "q8"))), 0.5) << name;

    checkpoint.weights.emplace("model.vision_tower.a.weight", mx::zeros({2}));
    write_checkpoint(from, checkpoint);
    EXPECT_THAT(error_of([&] { write_model(folder / "no", c, {from, {}}); }),
                HasSubstr("besides its text model ('model.vision_tower.a.weight')"));
    EXPECT_FALSE(fs::exists(folder / "no"));
  }
}

TEST(WriteModel, FusedAdapterIsPartOfIt) {
  const TempFolder folder;
  const fs::path from = folder_of(folder, "llama");
  ModelContext c = load(from);
  const adapters::LoraAdapter adapter(kGolden / "llm" / "llama-lora" / "adapter", c.config);
  adapter.load(*c.model);
  const auto want = logits(c);
  adapter.fuse(*c.model, false);
  write_model(folder / "out", c, {from, {}});
  EXPECT_LT(difference(want, logits(load(folder / "out"))), 1e-3);
}

}  // namespace
}  // namespace mlxcpp
