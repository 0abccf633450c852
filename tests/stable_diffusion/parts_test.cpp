// Single parts: bf16 beyond f16's range, tiles, quantised layers, prompts that are too long.
#include <gtest/gtest.h>

#include "model_folder.h"
#include "stable_diffusion/pipeline.h"
#include "tests/support/throws.h"

namespace mlxcpp::sd {
namespace {

using test::kSd21;

double largest(const mx::array& x) {
  return mx::max(mx::abs(mx::astype(x, mx::float32))).item<float>();
}

Conditioning some_text(int width) {
  return {mx::sin(mx::reshape(mx::arange(77 * width, mx::float32), {1, 77, width})), {}, {}};
}

mx::array some_latents() {
  return mx::random::normal({1, 16, 8, 4}, mx::float32, 0.0f, 1.0f, mx::random::key(3));
}

// The first convolution's output is about a million, which f16 has no number for; every resnet adds
// to it.
TEST(UNet, Bf16ActivationsBeyondTheRangeOfF16) {
  const ModelSource source(kSd21);
  const auto f32 = source.load_unet(mx::float32), bf16 = source.load_unet(mx::bfloat16);
  for (const auto* unet : {f32.get(), bf16.get()})
    for (const auto* param : {&unet->conv_in->weight, &unet->conv_in->bias})
      const_cast<nn::Param*>(param)->set(**param * mx::array(1e6f, unet->dtype()));
  double seen = 0;
  const auto text = some_text(32);
  const auto y = [&] {
    const nn::ObserverScope scope(
        [&](const nn::Module&, const mx::array& x) { seen = std::max(seen, largest(x)); });
    return (*bf16)(some_latents(), mx::array(500.0f), text);
  }();
  EXPECT_GT(seen, 65504.0);
  EXPECT_TRUE(mx::all(mx::isfinite(y)).item<bool>());
  const auto want = (*f32)(some_latents(), mx::array(500.0f), text);
  EXPECT_LT(largest(y - want), 0.1 * largest(want));
}

TEST(UNet, HalfTypesAreCloseToF32) {
  const ModelSource source(kSd21);
  const auto text = some_text(32);
  const auto want = (*source.load_unet(mx::float32))(some_latents(), mx::array(500.0f), text);
  for (const auto& [dtype, share] : {std::pair(mx::float16, 0.01), {mx::bfloat16, 0.06}}) {
    const auto y = (*source.load_unet(dtype))(some_latents(), mx::array(500.0f), text);
    EXPECT_EQ(y.dtype(), mx::float32);
    EXPECT_LT(largest(y - want), share * largest(want));
  }
}

// Sizes that do not halve evenly come back to what they were.
TEST(UNet, OddSizes) {
  const auto unet = ModelSource(kSd21).load_unet(mx::float32);
  for (const auto& [h, w] : {std::pair(9, 7), {1, 5}, {11, 16}}) {
    const auto y = (*unet)(mx::zeros({2, h, w, 4}), mx::array(10.0f), some_text(32));
    EXPECT_EQ(y.shape(), (mx::Shape{2, h, w, 4}));
  }
}

TEST(Autoencoder, TilesChangeNothingInsideOneTile) {
  const auto vae = ModelSource(kSd21).load_autoencoder(mx::float32);
  const auto z = some_latents();
  const auto whole = vae->decode_scaled(z);
  EXPECT_TRUE(mx::array_equal(vae->decode_scaled(z, Tiling{16}), whole).item<bool>());
  for (const int edge : {3, 8, 11})
    for (const float overlap : {0.0f, 0.25f, 0.9f})
      EXPECT_EQ(vae->decode_scaled(z, Tiling{edge, overlap}).shape(), whole.shape());
}

// A small model of widths that quantised rows fit: the fixtures' are too narrow.
TEST(Quantized, TextEncoderAndUNetStayClose) {
  const test::ModelFolder folder;
  folder.set("unet/config.json", "block_out_channels", {32, 64, 64, 64});
  folder.set("unet/config.json", "cross_attention_dim", 64);
  folder.set("text_encoder/config.json", "hidden_size", 64);
  folder.set("text_encoder/config.json", "intermediate_size", 128);
  const ModelSource source(folder.path());
  const auto save = [&](const nn::Module& module, const std::string& file) {
    Tensors weights;
    for (const auto& [path, value] : module.parameters())
      weights.emplace(path, value.ndim() == 4 ? mx::transpose(value, {0, 3, 1, 2}) : value);
    std::filesystem::remove(folder / file);
    write_safetensors(folder / file, weights);
  };
  mx::random::seed(7);
  save(UNet(source.unet_config()), "unet/diffusion_pytorch_model.safetensors");
  save(ClipTextModel(source.text_config(0)), "text_encoder/model.safetensors");

  const EvaluateParameters p{
      .prompt = "a cat", .cfg = 1, .steps = 1, .latent_width = 8, .latent_height = 8};
  const auto run = [&](bool quantize) {
    StableDiffusion model(source, {.dtype = mx::float16, .quantize = quantize});
    const size_t before = mx::get_active_memory();
    model.ensure_loaded();
    const size_t bytes = mx::get_active_memory() - before;
    return std::pair(model.generate(p).next()->latents, bytes);
  };
  const auto [want, full] = run(false);
  const auto [got, small] = run(true);
  EXPECT_LT(small, full);
  EXPECT_FALSE(mx::array_equal(got, want).item<bool>());
  EXPECT_LT(largest(got - want), 0.05 * largest(want));
}

TEST(Prompt, IdsBeyondTheVocabularyAreRefused) {
  const auto encoder = ModelSource(kSd21).load_text_encoder(0, mx::float32);
  for (const int id : {10'000'000, -1})
    EXPECT_THAT(mlxcpp::test::error_of([&] { (*encoder)(mx::array({0, id}, {1, 2})); }),
                ::testing::HasSubstr(fmt::format("has the token id {}", id)));
}

TEST(Prompt, TooLongIsCutAsDiffusersCutsIt) {
  const PromptTokenizer tokenizer(kSd21 / "tokenizer");
  std::string text;
  for (int i = 0; i < 200; ++i) text += "a ";
  const auto one = tokenizer.encode("a", 77);
  const auto ids = tokenizer.encode(text, 77);
  ASSERT_EQ(ids.size(), 77u);
  EXPECT_EQ(ids[0], one[0]) << "the beginning";
  for (int i = 1; i < 76; ++i) EXPECT_EQ(ids[i], one[1]) << i;
  EXPECT_EQ(ids[76], one[2]) << "the end, which is kept";
}

}  // namespace
}  // namespace mlxcpp::sd
