// What is wrong with a model or a request is said in one line, before anything is computed.
#include <cmath>

#include "model_folder.h"
#include "stable_diffusion/pipeline.h"
#include "support/throws.h"

namespace mlxcpp::sd {
namespace {

using mlxcpp::test::error_of;
using test::kSd21;
using test::kXl;
using test::ModelFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::string error_of_source(const fs::path& model, const fs::path& configs = {}) {
  return error_of([&] { ModelSource(model, configs); });
}

TEST(Errors, WrongFolder) {
  const mlxcpp::test::TempFolder empty;
  EXPECT_THAT(error_of_source("/no/such/folder"), HasSubstr("no such file"));
  EXPECT_THAT(error_of_source(empty.path()), HasSubstr("no model_index.json"));
  EXPECT_THAT(error_of_source(empty.write("model.ckpt", "x")), HasSubstr(".safetensors"));
  EXPECT_THAT(error_of_source(empty.write("model.safetensors", "x")), HasSubstr("configurations"));
  ModelFolder other;
  other.set("model_index.json", "_class_name", "FluxPipeline");
  EXPECT_THAT(error_of_source(other.path()), HasSubstr("'FluxPipeline' is not supported"));
}

TEST(Errors, MissingParts) {
  for (const char* part : {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}) {
    const ModelFolder folder;
    fs::remove_all(folder / part);
    EXPECT_THAT(error_of_source(folder.path()), HasSubstr(fmt::format("'{}' is missing", part)));
  }
  for (const char* part : {"text_encoder_2", "tokenizer_2"}) {
    const ModelFolder folder(kXl);
    fs::remove_all(folder / part);
    EXPECT_THAT(error_of_source(folder.path()), HasSubstr(fmt::format("'{}' is missing", part)));
  }
  for (const char* part :
       {"unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"}) {
    const ModelFolder folder;
    const auto file = folder / (std::string(part) + ".safetensors");
    fs::remove(file);
    EXPECT_THAT(error_of_source(folder.path()),
                HasSubstr("no " + file.stem().string() + ".safetensors here"))
        << "before anything is loaded";
  }
}

// As transformers 5 writes a text encoder of its own.
TEST(ModelSource, TextEncoderWithoutItsPrefix) {
  const ModelFolder folder;
  const auto file = folder / "text_encoder/model.safetensors";
  std::unordered_map<std::string, mx::array> renamed;
  for (const auto& [name, value] : load_safetensors(file)) {
    ASSERT_TRUE(name.starts_with("text_model."));
    renamed.insert({name.substr(11), value});
  }
  for (auto& [name, value] : renamed) value.eval();
  mx::save_safetensors((folder / "new.safetensors").string(), renamed);
  fs::rename(folder / "new.safetensors", file);
  const auto ids = mx::reshape(mx::arange(77), {1, 77});
  const auto states = [&](const fs::path& model) {
    return (*ModelSource(model).load_text_encoder(0, mx::float32))(ids).last_hidden_state;
  };
  EXPECT_TRUE(mx::array_equal(states(folder.path()), states(kSd21)).item<bool>());
}

// Stable Diffusion 2 as published: OpenCLIP's names, queries, keys and values in one, a projection
// that nobody uses, and one layer more than the pipeline runs.
TEST(ModelSource, OpenClipTextEncoderOfASingleFile) {
  const std::string prefix = "cond_stage_model.model.";
  Tensors file = {{"model.diffusion_model.out.2.bias", mx::zeros({4})},
                  {prefix + "text_projection", mx::ones({3, 3})},
                  {prefix + "logit_scale", mx::array(1.0f)}};
  const auto weights = load_safetensors(kSd21 / "text_encoder/model.safetensors");
  int layers = 0;
  for (const auto& [key, value] : weights) {
    std::string name = key;
    const auto rename = [&](const std::string& from, const std::string& to) {
      if (const size_t at = name.find(from); at != std::string::npos)
        name.replace(at, from.size(), to);
    };
    for (const auto& [from, to] : std::initializer_list<std::pair<const char*, const char*>>{
             {"text_model.encoder.layers.", "transformer.resblocks."},
             {"text_model.embeddings.position_embedding.weight", "positional_embedding"},
             {"text_model.embeddings.token_embedding.", "token_embedding."},
             {"text_model.final_layer_norm.", "ln_final."},
             {"layer_norm1.", "ln_1."},
             {"layer_norm2.", "ln_2."},
             {"self_attn.out_proj.", "attn.out_proj."},
             {"mlp.fc1.", "mlp.c_fc."},
             {"mlp.fc2.", "mlp.c_proj."}})
      rename(from, to);
    if (name.find("position_ids") != std::string::npos ||
        name.find("k_proj") != std::string::npos || name.find("v_proj") != std::string::npos)
      continue;
    mx::array all = value;
    if (const size_t at = key.find("q_proj"); at != std::string::npos) {
      const auto part = [&](const char* which) {
        return weights.at(std::string(key).replace(at, 6, which));
      };
      all = mx::concatenate({value, part("k_proj"), part("v_proj")}, 0);
      rename("self_attn.q_proj.", "attn.in_proj_");
      ++layers;
    }
    file.emplace(prefix + name, all);
  }
  const std::string last = fmt::format("resblocks.{}.", layers / 2 - 1);
  for (const auto& [name, value] : Tensors(file))
    if (const size_t at = name.find(last); at != std::string::npos)
      file.emplace(
          std::string(name).replace(at, last.size(), fmt::format("resblocks.{}.", layers / 2)),
          value + mx::array(1.0f));
  const mlxcpp::test::TempFolder folder;
  write_safetensors(folder / "model.safetensors", file);
  EXPECT_EQ(ldm_family(file, "file"), ModelFamily::sd2);
  const auto ids = mx::reshape(mx::arange(77), {1, 77});
  const auto states = [&](const ModelSource& source) {
    return (*source.load_text_encoder(0, mx::float32))(ids).last_hidden_state;
  };
  EXPECT_TRUE(mx::array_equal(states(ModelSource(folder / "model.safetensors", kSd21)),
                              states(ModelSource(kSd21)))
                  .item<bool>());
}

TEST(Errors, PartsThatDoNotBelongTogether) {
  ModelFolder vae, text;
  vae.set("vae/config.json", "latent_channels", 16);
  EXPECT_THAT(error_of_source(vae.path()),
              AllOf(HasSubstr("16 latent channels"), HasSubstr("do not belong together")));
  ModelFolder grey;
  grey.set("vae/config.json", "out_channels", 1);
  EXPECT_THAT(error_of_source(grey.path()), HasSubstr("a picture has 3"));
  text.set("text_encoder/config.json", "hidden_size", 48);
  EXPECT_THAT(error_of_source(text.path()), HasSubstr("do not belong together"));
  ModelFolder xl(kXl);
  xl.set("unet/config.json", "addition_embed_type", nullptr);
  EXPECT_THAT(error_of_source(xl.path()), HasSubstr("takes no a pooled text state"));
}

// The autoencoders of Stable Diffusion 1 and 2 and of XL have the same shapes.
TEST(Errors, AnAutoencoderOfTheOtherFamily) {
  for (const auto& [model, other] : {std::pair(kSd21, kXl), {kXl, kSd21}}) {
    const ModelFolder folder(model);
    fs::remove_all(folder / "vae");
    fs::copy(other / "vae", folder / "vae", fs::copy_options::recursive);
    EXPECT_THAT(error_of_source(folder.path()),
                AllOf(HasSubstr("'scaling_factor'"), HasSubstr("do not belong together")));
    ModelFolder own(model);  // one of neither family is taken at its word
    own.set("vae/config.json", "scaling_factor", 0.25);
    EXPECT_NO_THROW(ModelSource(own.path()));
  }
}

// A field that changes what is computed is refused by its name, known or not.
TEST(Errors, UnsupportedFields) {
  const auto error = [](const char* file, const char* key, const Json& value) {
    ModelFolder folder;
    folder.set(file, key, value);
    return error_of_source(folder.path());
  };
  const char* unet = "unet/config.json";
  EXPECT_THAT(error(unet, "class_embed_type", "timestep"), HasSubstr("'class_embed_type'"));
  EXPECT_THAT(error(unet, "dual_cross_attention", true), HasSubstr("'dual_cross_attention'"));
  EXPECT_THAT(error(unet, "encoder_hid_dim_type", "text_proj"),
              HasSubstr("'encoder_hid_dim_type'"));
  EXPECT_THAT(error(unet, "newly_invented", 3), HasSubstr("'newly_invented'"));
  EXPECT_THAT(error(unet, "norm_num_groups", 5), HasSubstr("'norm_num_groups'"));
  EXPECT_THAT(error(unet, "attention_head_dim", 3), HasSubstr("'attention_head_dim'"));
  EXPECT_THAT(error(unet, "attention_head_dim", {1, 2}), HasSubstr("'attention_head_dim'"));
  EXPECT_THAT(error(unet, "block_out_channels", Json::array()), HasSubstr("'block_out_channels'"));
  EXPECT_THAT(error(unet, "block_out_channels", {8, -16, 16, 16}),
              HasSubstr("'block_out_channels'"));
  EXPECT_THAT(error(unet, "down_block_types",
                    {"AttnDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"}),
              HasSubstr("'AttnDownBlock2D'"));
  EXPECT_THAT(error(unet, "layers_per_block", 1 << 20), HasSubstr("'layers_per_block'"));
  EXPECT_THAT(error("vae/config.json", "shift_factor", 0.1), HasSubstr("'shift_factor'"));
  for (const double factor : {0.0, -1.0, 1e39, 1e-45})
    EXPECT_THAT(error("vae/config.json", "scaling_factor", factor), HasSubstr("'scaling_factor'"));
  EXPECT_THAT(error("text_encoder/config.json", "architectures", {"T5EncoderModel"}),
              HasSubstr("'T5EncoderModel'"));
}

// A list for each block, as distilled SDXL models have: the middle takes the last one's first, as
// diffusers does.
TEST(UNetConfig, TransformerLayersOfEachLayer) {
  Json json = read_json(kXl / "unet/config.json");
  json["transformer_layers_per_block"] = {1, {1, 2}, {3, 4}};
  json["reverse_transformer_layers_per_block"] = {{4, 3, 2}, {2, 1, 1}, 1};
  const auto c = read_unet_config(json, "config.json");
  EXPECT_EQ(c.mid_transformer_layers, 3);
  EXPECT_EQ(c.down_transformer_layers, (std::vector<std::vector<int>>{{1, 1}, {1, 2}, {3, 4}}));
  EXPECT_EQ(c.up_transformer_layers,
            (std::vector<std::vector<int>>{{4, 3, 2}, {2, 1, 1}, {1, 1, 1}}));
}

TEST(Errors, WeightsThatDoNotFit) {
  const ModelFolder folder;
  const auto file = folder / "unet/diffusion_pytorch_model.safetensors";
  auto weights = load_safetensors(kSd21 / "unet/diffusion_pytorch_model.safetensors");
  weights.erase("conv_in.bias");
  weights.insert_or_assign("conv_out.weight", mx::zeros({4, 8, 3, 4}));
  fs::remove(file);
  write_safetensors(file, weights);
  try {  // a list of them, one a line
    ModelSource(folder.path()).load_unet(mx::float32);
    ADD_FAILURE() << "expected an Error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), AllOf(::testing::StartsWith((folder / "unet").string()),
                                HasSubstr("missing conv_in.bias"), HasSubstr("conv_out.weight")));
  }
}

// Each part's weights are looked at when the model is opened, and not held.
TEST(Errors, WeightsThatDoNotFitAreSeenAtOnce) {
  for (const char* part : {"vae", "unet", "text_encoder"}) {
    const ModelFolder folder;
    const auto file = folder / part /
                      (std::string(part) == "text_encoder" ? "model" : "diffusion_pytorch_model") +=
        ".safetensors";
    auto weights = load_safetensors(file);
    weights.insert_or_assign("more.weight", mx::zeros({2}));
    write_safetensors(file, weights);
    const ModelSource source(folder.path());
    EXPECT_THAT(error_of([&] { source.check_weights(); }),
                AllOf(HasSubstr(part), HasSubstr("unused more.weight")));
    EXPECT_THAT(error_of([&] { StableDiffusion{source}; }), HasSubstr("unused more.weight"));
  }
  mx::synchronize();
  const size_t before = mx::get_active_memory();
  ModelSource(kXl).check_weights();
  EXPECT_EQ(mx::get_active_memory(), before);
}

TEST(Errors, SingleFilesOfOtherModels) {
  const mlxcpp::test::TempFolder folder;
  write_safetensors(folder / "other.safetensors", {{"blocks.0.weight", mx::zeros({2})}});
  const ModelSource source(folder / "other.safetensors", kSd21);
  EXPECT_THAT(error_of([&] { source.load_text_encoder(0, mx::float32); }),
              HasSubstr("not a single-file checkpoint"));
  EXPECT_THAT(error_of([&] { open_model((folder / "other.safetensors").string()); }),
              HasSubstr("not a single-file checkpoint"));
  EXPECT_THAT(error_of([&] { open_model(kSd21.string(), kXl.string()); }),
              HasSubstr("is a folder"));
}

TEST(Errors, Parameters) {
  const EvaluateParameters good{.prompt = "x", .steps = 2, .latent_width = 8, .latent_height = 8};
  const auto error = [&](auto change) {
    auto p = good;
    change(p);
    return error_of([&] { check(p); });
  };
  EXPECT_NO_THROW(check(good));
  EXPECT_THAT(error([](auto& p) { p.steps = 0; }), HasSubstr("steps"));
  EXPECT_THAT(error([](auto& p) { p.image_count = 0; }), HasSubstr("image count"));
  EXPECT_THAT(error([](auto& p) { p.latent_width = 0; }), HasSubstr("latent size"));
  EXPECT_THAT(error([](auto& p) { p.latent_height = 1 << 20; }), HasSubstr("latent size"));
  EXPECT_THAT(error([](auto& p) { p.cfg = NAN; }), HasSubstr("cfg"));
  EXPECT_THAT(error([](auto& p) { p.cfg = -1; }), HasSubstr("cfg"));
}

TEST(Errors, ImageToImage) {
  StableDiffusion model{ModelSource(kSd21), {.dtype = mx::float32}};
  const EvaluateParameters p{.prompt = "x", .cfg = 1, .steps = 4};
  const auto error = [&](const mx::array& image, float strength) {
    return error_of([&] { model.generate(image, strength, p); });
  };
  EXPECT_THAT(error(mx::zeros({60, 64, 3}), 0.5f), HasSubstr("multiples of 8, found [60, 64, 3]"));
  EXPECT_THAT(error(mx::zeros({64, 64, 4}), 0.5f), HasSubstr("[H, W, 3]"));
  EXPECT_THAT(error(mx::zeros({0, 64, 3}), 0.5f), HasSubstr("[H, W, 3]"));
  EXPECT_THAT(error(mx::zeros({64, 64, 3}), 0), HasSubstr("strength"));
  EXPECT_THAT(error(mx::zeros({64, 64, 3}), 1.1f), HasSubstr("strength"));
  EXPECT_THAT(error(mx::zeros({64, 64, 3}), 0.2f), HasSubstr("at least 5 steps"));
}

TEST(Errors, TilesAndLatents) {
  const auto vae = ModelSource(kSd21).load_autoencoder(mx::float32);
  EXPECT_THAT(error_of([&] { vae->decode_scaled(mx::zeros({1, 4, 4, 3})); }),
              HasSubstr("[1, 4, 4, 3]"));
  EXPECT_THAT(error_of([&] { vae->decode_scaled(mx::zeros({1, 4, 4, 4}), Tiling{1, 0.2f}); }),
              HasSubstr("tiles"));
  EXPECT_THAT(error_of([&] { vae->encode(mx::zeros({1, 12, 16, 3})); }),
              HasSubstr("multiples of 8"));
}

}  // namespace
}  // namespace mlxcpp::sd
