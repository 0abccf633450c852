// Adapters on a tiny Llama; their numbers are compared by the golden fixtures (tests/llm).
#include "adapters/adapter_set.h"
#include "adapters/lora_adapter.h"
#include "adapters/lora_layers.h"
#include "core/atomic_file.h"
#include "golden/fixture.h"
#include "llm/registry.h"
#include "lm_common/head_rows.h"
#include "lm_common/model_context.h"
#include "nn/quantized.h"
#include "support/temp_folder.h"
#include "support/throws.h"
#include "tests/support/paths.h"
#include "vlm/registry.h"
#include "weights/safetensors.h"

namespace mlxcpp::adapters {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::HasSubstr;

const fs::path kLlm = test::golden_folder() / "llm";

std::unique_ptr<LanguageModel> tiny(const char* name = "llama") {
  auto model =
      make_language_model(golden::load_fixture_checkpoint(kLlm / name), llm::model_types());
  model->eval();
  return model;
}

mx::array logits(LanguageModel& model) {
  Caches none;
  return model(mx::array({3, 14, 15, 92, 65, 35}, {1, 6}, mx::int32), none);
}

double difference(const mx::array& a, const mx::array& b) {
  return mx::max(mx::abs(a - b)).item<float>();
}

// A copy of a fixture's adapter that a test may spoil.
struct Spoiled {
  test::TempFolder folder;
  nn::Weights tensors;
  Json config;

  explicit Spoiled(const char* fixture = "llama-lora") {
    const fs::path from = kLlm / fixture / "adapter";
    tensors = load_safetensors(from / "adapters.safetensors");
    config = read_json(from / "adapter_config.json");
  }
  const fs::path& write() {
    write_safetensors(folder / "adapters.safetensors", tensors);
    write_file(folder / "adapter_config.json", config.dump());
    return folder.path();
  }
};

TEST(LoraAdapter, ComesAndGoesWithoutTrace) {
  const auto model = tiny();
  const auto before = logits(*model);
  const auto paths = model->paths().size();
  const LoraAdapter lora(kLlm / "llama-lora" / "adapter"), dora(kLlm / "llama-dora" / "adapter");
  lora.load(*model);
  const auto with_lora = logits(*model);
  EXPECT_GT(difference(before, with_lora), 0.1);
  EXPECT_THAT(error_of([&] { lora.load(*model); }), HasSubstr("already"));
  lora.unload(*model);
  lora.unload(*model);
  dora.load(*model);
  EXPECT_GT(difference(with_lora, logits(*model)), 0.1);
  dora.unload(*model);
  EXPECT_EQ(difference(before, logits(*model)), 0);
  EXPECT_EQ(model->paths().size(), paths);
}

TEST(LoraAdapter, TwoAddUpAndLeaveInAnyOrder) {
  const auto model = tiny();
  const LoraAdapter one(kLlm / "llama-lora" / "adapter"), two(kLlm / "llama-lora-all" / "adapter");
  two.load(*model);
  const auto only_two = logits(*model);
  two.unload(*model);
  one.load(*model);
  two.load(*model);
  EXPECT_GT(difference(only_two, logits(*model)), 0.1);
  one.unload(*model);  // the one below
  EXPECT_EQ(difference(only_two, logits(*model)), 0);
  const LoraAdapter dora(kLlm / "llama-dora" / "adapter");
  EXPECT_THAT(error_of([&] { dora.load(*model); }), HasSubstr("DoRA needs a plain"));
  EXPECT_EQ(difference(only_two, logits(*model)), 0);
  EXPECT_THAT(error_of([&] { nn::quantize_weights(*model, kernels::QuantType{}); }),
              HasSubstr("adapter"));
}

TEST(LoraAdapter, SwitchedByName) {
  const auto model = tiny();
  const auto base = logits(*model);
  AdapterSet set;
  set.add("a", std::make_shared<LoraAdapter>(kLlm / "llama-lora" / "adapter"));
  set.add("b", std::make_shared<LoraAdapter>(kLlm / "llama-dora" / "adapter"));
  set.add("other model's", std::make_shared<LoraAdapter>(kLlm / "llama-lora" / "adapter"));
  set.use(*model, "a");
  const auto a = logits(*model);
  set.use(*model, "b");
  EXPECT_GT(difference(a, logits(*model)), 0.1);
  EXPECT_THAT(error_of([&] { set.use(*model, "c"); }), HasSubstr("a, b"));
  EXPECT_EQ(set.active(), "b");
  set.use(*model, "a");
  EXPECT_EQ(difference(a, logits(*model)), 0);
  EXPECT_THAT(error_of([&] { set.remove("a"); }), HasSubstr("is on"));
  EXPECT_THAT(error_of([&] { set.add("a", nullptr); }), HasSubstr("already"));
  set.use(*model, std::nullopt);
  EXPECT_EQ(difference(base, logits(*model)), 0);
}

TEST(LoraAdapter, FusedIsPlainOrQuantisedAsTheBase) {
  const auto model = tiny("llama-q4");
  const LoraAdapter adapter(kLlm / "llama-q4-lora" / "adapter");
  adapter.load(*model);
  const auto with = logits(*model);
  const fs::path q_proj = "model.layers.2.self_attn.q_proj";
  adapter.fuse(*model);
  EXPECT_TRUE(dynamic_cast<nn::QuantizedLinear*>(&model->at(q_proj.string())));
  const auto floats = tiny("llama-q4");
  adapter.fuse(*floats, true);
  EXPECT_FALSE(dynamic_cast<nn::QuantizedLinear*>(&floats->at(q_proj.string())));
  EXPECT_LE(difference(with, logits(*floats)), 2e-2);  // but for activations that were rounded
}

TEST(LoraAdapter, ForAnotherModelIsAnError) {
  const auto fault = [](Spoiled& s) {
    const auto model = tiny();
    const auto before = logits(*model);
    const auto text = error_of([&] { LoraAdapter(s.write()).load(*model); });
    EXPECT_EQ(difference(before, logits(*model)), 0);
    return text;
  };
  const std::string a = "model.layers.2.self_attn.q_proj.lora_a";
  {
    Spoiled s;
    s.tensors.insert_or_assign(a, mx::zeros({32, 4}));
    EXPECT_THAT(fault(s), HasSubstr("'" + a +
                                    "' does not fit the model: expected shape [64, 4], "
                                    "found [32, 4]"));
  }
  {
    Spoiled s;
    s.tensors.erase(a);
    EXPECT_THAT(fault(s), HasSubstr("no partner"));
  }
  {
    Spoiled s;
    s.tensors.emplace("model.layers.9.self_attn.q_proj.lora_a", mx::zeros({64, 4}));
    s.tensors.emplace("model.layers.9.self_attn.q_proj.lora_b", mx::zeros({4, 64}));
    EXPECT_THAT(fault(s), HasSubstr("model.layers.9.self_attn.q_proj, found none there"));
  }
  {
    Spoiled s;
    s.tensors.emplace("model.layers.2.self_attn.q_proj.m", mx::zeros({64}));
    EXPECT_THAT(fault(s), HasSubstr("no parameter of a lora adapter"));
  }
  {
    Spoiled s;
    s.config["lora_parameters"].erase("scale");
    s.config["lora_parameters"]["alpha"] = 3;
    EXPECT_THAT(fault(s), HasSubstr("'scale' is missing"));
  }
  {
    Spoiled s;
    s.config["lora_parameters"]["rank"] = 5;
    EXPECT_THAT(fault(s), HasSubstr("expected shape [96, 5], found [96, 4]"));
  }
  {
    Spoiled s;
    s.config["fine_tune_type"] = "ia3";
    EXPECT_THAT(fault(s), HasSubstr("lora, dora or full"));
  }
  EXPECT_THAT(error_of([] { LoraAdapter("/nonexistent"); }), HasSubstr("adapter_config.json"));
}

TEST(LoraAdapter, Full) {
  test::TempFolder folder;
  const auto model = tiny();
  const auto before = logits(*model);
  const auto norm = mx::full({64}, 2.0f);
  write_adapter(folder.path(), {{"model.norm.weight", norm}},
                {{"fine_tune_type", "full"}, {"num_layers", 1}});
  const LoraAdapter adapter(folder.path());
  adapter.load(*model);
  EXPECT_GT(difference(before, logits(*model)), 0.1);
  adapter.unload(*model);
  EXPECT_EQ(difference(before, logits(*model)), 0);
  write_adapter(folder.path(), {{"model.norm.weight", mx::zeros({65})}},
                {{"fine_tune_type", "full"}, {"num_layers", 1}});
  EXPECT_THAT(error_of([&] { LoraAdapter(folder.path()).load(*model); }),
              HasSubstr("expected float32 [64], found float32 [65]"));
}

// A folder of PEFT for some layers; every matrix of ones.
struct PeftFolder {
  test::TempFolder folder;
  nn::Weights tensors;

  void layer(const std::string& path, int in, int out) {
    tensors.insert_or_assign("base_model.model." + path + ".lora_A.weight", mx::ones({2, in}));
    tensors.insert_or_assign("base_model.model." + path + ".lora_B.weight", mx::ones({out, 2}));
  }
  const fs::path& write() {
    write_safetensors(folder / "adapter_model.safetensors", tensors);
    write_file(folder / "adapter_config.json", R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4})");
    return folder.path();
  }
};

// transformers names the parts of a multimodal model otherwise than its checkpoints do.
TEST(Peft, PartsOfAMultimodalModel) {
  const fs::path fixture = test::golden_folder() / "vlm" / "gemma3";
  const auto model =
      make_language_model(golden::load_fixture_checkpoint(fixture), vlm::model_types());
  model->eval();
  const auto dims = [&](const std::string& path) {
    const auto& layer = dynamic_cast<const nn::Linear&>(model->at(path));
    return std::pair(layer.input_dims(), layer.output_dims());
  };
  const std::string text = "layers.0.mlp.up_proj", tower = "encoder.layers.0.mlp.fc1";
  const auto [in, out] = dims("language_model.model." + text);
  const auto [tower_in, tower_out] = dims("vision_tower.vision_model." + tower);
  const auto before = logits(*model);
  std::optional<mx::array> with;
  for (const char* prefix : {"model.language_model.", "language_model.model.", "model."}) {
    PeftFolder peft;
    peft.layer(prefix + text, in, out);
    for (const char* level : {"model.vision_tower.", "model.vision_tower.vision_model."}) {
      peft.layer(level + tower, tower_in, tower_out);
      const LoraAdapter adapter(peft.write());
      adapter.load(*model);
      EXPECT_TRUE(dynamic_cast<AdaptedLayer*>(&model->at("vision_tower.vision_model." + tower)));
      if (!with) with = logits(*model);
      EXPECT_GT(difference(before, *with), 0.01);
      EXPECT_EQ(difference(*with, logits(*model)), 0) << prefix;
      adapter.unload(*model);
      peft.tensors.erase("base_model.model." + (level + tower) + ".lora_A.weight");
      peft.tensors.erase("base_model.model." + (level + tower) + ".lora_B.weight");
    }
  }
}

TEST(Peft, MessagesHaveTheFilesKeysAndShapes) {
  const auto model = tiny();
  const auto fault = [&](PeftFolder& peft) {
    return error_of([&] { LoraAdapter(peft.write()).load(*model); });
  };
  PeftFolder peft;
  peft.layer("model.layers.0.self_attn.q_proj", 128, 96);
  EXPECT_THAT(fault(peft), HasSubstr("q_proj.lora_A.weight' does not fit the model: expected shape "
                                     "[2, 64], found [2, 128]"));
  peft.layer("model.layers.0.self_attn.q_proj", 64, 63);
  EXPECT_THAT(fault(peft), HasSubstr("expected shape [64, 2], found [63, 2]"));
  peft.layer("model.layers.0.self_attn.q_proj", 64, 64);
  peft.tensors.emplace("base_model.model.score.weight", mx::ones({2, 64}));
  EXPECT_THAT(fault(peft), HasSubstr("'base_model.model.score.weight' does not fit the model: it "
                                     "has no such parameter"));
  peft.tensors.erase("base_model.model.score.weight");
  peft.tensors.emplace("base_model.model.model.norm.weight", mx::ones({65}));
  EXPECT_THAT(fault(peft), HasSubstr("'base_model.model.model.norm.weight' does not fit the model: "
                                     "expected float32 [64], found float32 [65]"));
}

TEST(Peft, WhatChangesTheComputationIsRefused) {
  const fs::path from = kLlm / "llama-peft" / "adapter";
  const auto with = [&](const char* key, const Json& value) {
    test::TempFolder folder;
    fs::copy(from / "adapter_model.safetensors", folder / "adapter_model.safetensors");
    Json config = read_json(from / "adapter_config.json");
    config[key] = value;
    write_file(folder / "adapter_config.json", config.dump());
    return error_of([&] { read_adapter(folder.path()); });
  };
  EXPECT_THAT(with("peft_type", "IA3"), HasSubstr("'peft_type' must be LORA"));
  EXPECT_THAT(with("bias", "all"), HasSubstr("'bias'"));
  EXPECT_THAT(with("fan_in_fan_out", true), HasSubstr("'fan_in_fan_out'"));
  EXPECT_THAT(with("init_lora_weights", "pissa"), HasSubstr("pissa"));
  EXPECT_THAT(with("layer_replication", Json::array({1})), HasSubstr("'layer_replication'"));
  EXPECT_THAT(with("new_field", 3), HasSubstr("'new_field'"));
  EXPECT_THAT(with("rank_pattern", {{"q.*", 3}}), HasSubstr("'q.*'"));
  EXPECT_THAT(with("use_dora", true), HasSubstr("lora_magnitude_vector"));
}

TEST(Lora, LayersAreChosenAsMlxLmDoes) {
  const auto model = tiny();
  EXPECT_EQ(decoder_layers(*model).size(), 3u);
  LoraConfig config;
  config.num_layers = 2;
  EXPECT_EQ(adapted_paths(*model, config).size(), 2 * 7u);
  config.num_layers = -1;
  config.keys = {{"self_attn.v_proj", "lm_head"}};
  const auto paths = adapted_paths(*model, config);
  EXPECT_EQ(paths.size(), 4u);
  EXPECT_EQ(paths.back(), "lm_head");
  config.keys = {{"self_attn.w_proj"}};
  EXPECT_THAT(error_of([&] { adapted_paths(*model, config); }), HasSubstr("'self_attn.w_proj'"));
  config.num_layers = 4;
  EXPECT_THAT(error_of([&] { prepare_training(*model, config); }), HasSubstr("the model has 3"));
}

TEST(Lora, FirstMatricesAreThoseOfMlxLm) {
  const auto model = tiny();
  LoraConfig config;
  config.num_layers = 2;
  mx::random::seed(5);
  prepare_training(*model, config);
  const auto got = model->trainable_parameters();
  mx::random::seed(5);
  for (const char* layer : {"model.layers.1.", "model.layers.2."})
    for (const char* key : {"mlp.up_proj", "mlp.down_proj", "mlp.gate_proj", "self_attn.o_proj",
                            "self_attn.v_proj", "self_attn.k_proj", "self_attn.q_proj"}) {
      const auto& a = got.at(std::string(layer) + key + ".lora_a");
      const float limit = 1 / std::sqrt(static_cast<float>(a.shape(0)));
      mx::random::uniform({1});  // mlx_lm makes a layer for the base to be put in, with a weight
      const auto drawn = mx::random::uniform(-limit, limit, a.shape());
      EXPECT_TRUE(mx::array_equal(a, drawn).item<bool>()) << layer << key;
    }
}

TEST(Lora, OnlyTheAdapterIsTrained) {
  const auto model = tiny();
  LoraConfig config;
  config.num_layers = 1;
  config.type = FineTuneType::dora;
  prepare_training(*model, config);
  for (const auto& [path, value] : model->trainable_parameters())
    EXPECT_TRUE(path.ends_with("lora_a") || path.ends_with("lora_b") || path.ends_with(".m"))
        << path;
  EXPECT_EQ(model->trainable_parameters().size(), 3 * 7u);
  const auto full = tiny();
  config.type = FineTuneType::full;
  prepare_training(*full, config);
  EXPECT_EQ(full->trainable_parameters().size(), 9u);
}

TEST(Lora, RowsOfGgufAndBack) {
  const auto a = mx::arange(48.0f);
  const auto b = mx::reshape(a, {24, 2});
  EXPECT_TRUE(mx::array_equal(halved_rows(interleaved_rows(b, 3), 3), b).item<bool>());
  // Head 0 of 8 rows: 0 4 1 5 2 6 3 7.
  const auto rows = mx::slice(interleaved_rows(mx::arange(24.0f), 3), {0}, {4});
  EXPECT_TRUE(mx::array_equal(rows, mx::array({0.0f, 4.0f, 1.0f, 5.0f})).item<bool>());
}

}  // namespace
}  // namespace mlxcpp::adapters
