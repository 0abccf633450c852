#include "weights/checkpoint.h"

#include "weights/gguf.h"

#include <limits>
#include "weights/safetensors.h"
#include "weights/support.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using namespace test;
using kernels::QuantMode;
using kernels::QuantType;
using ::testing::HasSubstr;

Quantization quantization(const char* text) {
  return read_quantization(parse_json(text, "config.json"));
}

TEST(Quantization, NoneAndDefaults) {
  EXPECT_FALSE(quantization("{}").everywhere);
  EXPECT_FALSE(quantization(R"({"quantization": null})").everywhere);
  EXPECT_EQ(quantization(R"({"quantization": {"group_size": 32, "bits": 8}})").everywhere,
            (QuantType{QuantMode::affine, 32, 8}));
  EXPECT_EQ(quantization(R"({"quantization_config": {"mode": "mxfp4"}})").everywhere,
            (QuantType{QuantMode::mxfp4, 32, 4}));
  EXPECT_EQ(quantization(R"({"quantization": {"mode": "nvfp4", "bits": 4}})").everywhere,
            (QuantType{QuantMode::nvfp4, 16, 4}));
}

TEST(Quantization, PerLayer) {
  const auto q = quantization(R"({"quantization": {"group_size": 64, "bits": 4, "mode": "affine",
      "lm_head": false, "model.embed_tokens": {"group_size": 32, "bits": 8},
      "a": {"mode": "mxfp8"}, "b": true}})");
  EXPECT_FALSE(q.at("lm_head"));
  EXPECT_EQ(q.at("model.embed_tokens"), (QuantType{QuantMode::affine, 32, 8}));
  EXPECT_EQ(q.at("a"), (QuantType{QuantMode::mxfp8, 32, 8}));
  EXPECT_EQ(q.at("b"), (QuantType{QuantMode::affine, 64, 4}));
  EXPECT_EQ(q.at("elsewhere"), (QuantType{QuantMode::affine, 64, 4}));
}

TEST(Quantization, BadSettings) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"quantization": 4})",
       "config.json: quantization: expected an object, found the number 4"},
      {R"({"quantization": {"bits": 7}})", "affine with 7 bits and group size 64 does not exist"},
      {R"({"quantization": {"bits": "4"}})",
       "config.json: quantization: 'bits' must be an integer, found the string \"4\""},
      {R"({"quantization": {"bits": 4, "group_size": 48}})", "group size 48 does not exist"},
      {R"({"quantization": {"mode": "q4_0"}})", "'mode' must be affine, mxfp4, mxfp8 or nvfp4"},
      {R"({"quantization": {"mode": "mxfp4", "bits": 8}})", "mxfp4 with 8 bits"},
      {R"({"quantization": {"bits": 4, "lm_head": 8}})",
       "config.json: quantization: lm_head: expected an object or false, found the number 8"},
      {R"({"quantization": {"bits": 4, "lm_head": {"bits": 4, "sym": true}}})",
       "lm_head: expected group_size, bits and mode, found 'sym'"},
      {R"({"quantization": {"bits": 4, "lm_head": {"bits": 9}}})", "lm_head: quantization: affine"},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})",
       "config.json: quantization_config: quant_method the string \"gptq\" is not supported"},
      {R"({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}})",
       "bitsandbytes"},
      {R"({"quantization_config": {"quant_method": "fp8"}})", "fp8"},
      {R"([])", "config.json: expected an object"},
  };
  for (const auto& [text, message] : cases)
    EXPECT_THAT(error_of([t = text] { quantization(t); }), HasSubstr(message)) << text;
}

TEST(Quantization, WritesWhatItReads) {
  const Json json = parse_json(R"({"group_size": 64, "bits": 4, "mode": "affine",
      "model.embed_tokens": {"group_size": 32, "bits": 8, "mode": "affine"}})",
                               "q");
  const Quantization q = read_quantization({{"quantization", json}});
  EXPECT_EQ(write_quantization(q), json);
  EXPECT_TRUE(write_quantization({}).is_null());
  Quantization gguf;
  gguf.per_layer["a"] = kernels::quant_type(QuantMode::q4_0);
  EXPECT_THAT(error_of([&] { write_quantization(gguf); }), HasSubstr("'a' is q4_0"));
}

TEST(Checkpoint, FolderRoundTrip) {
  Checkpoint c;
  c.config = {{"model_type", "llama"}, {"hidden_size", 64}};
  const auto w = mx::reshape(mx::arange(64.0f * 64), {64, 64});
  const auto parts = mx::quantize(w, 64, 4);
  c.quantization.everywhere = QuantType{QuantMode::affine, 64, 4};
  c.weights = {
      {"a.weight", parts[0]}, {"a.scales", parts[1]}, {"a.biases", parts[2]}, {"b.weight", w}};
  const TempFolder folder;
  write_checkpoint(folder.path(), c);
  const Checkpoint back = load_checkpoint(folder.path());
  EXPECT_EQ(back.config["hidden_size"], 64);
  EXPECT_EQ(back.quantization.at("a"), (QuantType{QuantMode::affine, 64, 4}));
  EXPECT_FALSE(back.quantization.at("b"));  // no scales: left as it was
  EXPECT_EQ(back.bytes, 64 * 64 * 4u + 64 * 8 * 4u + 2 * 64 * 4u);
  for (const auto& [name, array] : c.weights) expect_same(back.weights.at(name), array, name);
  EXPECT_EQ(load_config(folder.path()), back.config);
}

TEST(Checkpoint, FolderWithoutItsFiles) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { load_checkpoint(folder.path()); }), HasSubstr("config.json"));
  folder.write("config.json", "[]");
  EXPECT_THAT(error_of([&] { load_checkpoint(folder.path()); }), HasSubstr("expected an object"));
  folder.write("config.json", "{}");
  EXPECT_THAT(error_of([&] { load_checkpoint(folder.path()); }), HasSubstr("no model.safetensors"));
}

TEST(Checkpoint, OldNpzFolder) {
  const TempFolder folder;
  folder.write("config.json", "{}");
  fs::copy(golden("npz/stored.npz"), folder / "weights.npz");
  EXPECT_TRUE(load_checkpoint(folder.path()).weights.count("layer.0.weight"));
}

// The metadata that every decoder has, and its outer tensors.
GgufBytes model(const std::string& arch, int layers = 1) {
  GgufBytes g;
  g.string("general.architecture", arch);
  g.u32(arch + ".block_count", static_cast<uint32_t>(layers));
  g.u32(arch + ".context_length", 512).u32(arch + ".embedding_length", 32);
  g.u32(arch + ".feed_forward_length", 64).u32(arch + ".attention.head_count", 4);
  g.f32(arch + ".attention.layer_norm_rms_epsilon", 1e-6f);
  g.f32_tensor("token_embd.weight", {32, 40}).f32_tensor("output_norm.weight", {32}, 1.5f);
  return g;
}

Checkpoint load(const GgufBytes& g) {
  const TempFolder folder;  // the mapping outlives the file's name
  return load_checkpoint(folder.path(), {folder.write("model.gguf", g.str())});
}

TEST(GgufCheckpoint, Llama) {
  const Checkpoint c = load_checkpoint("", {golden("gguf/split-00001-of-00003.gguf")});
  const Json want = parse_json(R"({"model_type": "llama", "hidden_act": "silu", "vocab_size": 48,
      "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 4,
      "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "rope_theta": 50000.0,
      "tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false,
      "rope_traditional": true, "bos_token_id": 1, "eos_token_id": 2,
      "rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 128,
                       "attention_factor": 1.0}})",
                               "want");
  Json got = c.config;
  EXPECT_NEAR(got["rms_norm_eps"].get<float>(), 1e-5f, 1e-12f);
  got.erase("rms_norm_eps");
  const auto factors = got["rope_scaling"]["long_factor"].get<std::vector<float>>();
  EXPECT_EQ(factors.size(), 4u);
  EXPECT_EQ(factors.back(), 8.0f);
  EXPECT_EQ(got["rope_scaling"]["short_factor"], got["rope_scaling"]["long_factor"]);
  got["rope_scaling"].erase("long_factor");
  got["rope_scaling"].erase("short_factor");
  EXPECT_EQ(got, want);

  EXPECT_EQ(c.weights.size(), 20u);  // without rope_freqs
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                           "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
    const std::string path = fmt::format("model.layers.1.{}", name);
    EXPECT_TRUE(c.weights.count(path + ".weight")) << path;
    EXPECT_EQ(c.quantization.at(path)->mode, QuantMode::q8_0) << path;
  }
  EXPECT_TRUE(c.weights.count("model.layers.0.input_layernorm.weight"));
  EXPECT_TRUE(c.weights.count("model.layers.0.post_attention_layernorm.weight"));
  EXPECT_FALSE(c.quantization.at("model.embed_tokens"));
}

TEST(GgufCheckpoint, OutputAndBiases) {
  const Checkpoint c = load(model("qwen2")
                                .f32_tensor("output.weight", {32, 40})
                                .f32_tensor("blk.0.attn_q.bias", {32})
                                .f32("qwen2.rope.freq_base", 1e6f));
  EXPECT_EQ(c.config["tie_word_embeddings"], false);
  EXPECT_EQ(c.config["attention_bias"], true);
  EXPECT_EQ(c.config["rope_theta"], 1e6);
  EXPECT_EQ(c.config["num_key_value_heads"], 4);
  EXPECT_FALSE(c.config.contains("rope_traditional"));
  EXPECT_TRUE(c.weights.count("lm_head.weight"));
  EXPECT_TRUE(c.weights.count("model.layers.0.self_attn.q_proj.bias"));
}

TEST(GgufCheckpoint, Gemma3) {
  const Checkpoint c = load(model("gemma3")
                                .u32("gemma3.attention.key_length", 16)
                                .string("gemma3.rope.scaling.type", "linear")
                                .f32("gemma3.rope.scaling.factor", 8)
                                .f32_tensor("blk.0.ffn_norm.weight", {32}, 2)
                                .f32_tensor("blk.0.post_attention_norm.weight", {32}, 3)
                                .f32_tensor("blk.0.post_ffw_norm.weight", {32}, 4)
                                .f32_tensor("blk.0.attn_q_norm.weight", {16}, 5));
  EXPECT_EQ(c.config["model_type"], "gemma3_text");
  EXPECT_EQ(c.config["hidden_activation"], "gelu_pytorch_tanh");
  EXPECT_EQ(c.config["head_dim"], 16);
  EXPECT_EQ(c.config["query_pre_attn_scalar"], 16);
  EXPECT_EQ(c.config["sliding_window_pattern"], 6);
  EXPECT_EQ(c.config["rope_local_base_freq"], 10000.0);
  EXPECT_EQ(c.config["rope_theta"], 1e6);
  EXPECT_EQ(c.config["rope_scaling"], (Json{{"rope_type", "linear"}, {"factor", 8.0}}));
  const auto at = [&](const char* name) { return c.weights.at(name).data<float>()[0]; };
  EXPECT_EQ(at("model.norm.weight"), 0.5f);
  EXPECT_EQ(at("model.layers.0.pre_feedforward_layernorm.weight"), 1.0f);
  EXPECT_EQ(at("model.layers.0.post_attention_layernorm.weight"), 2.0f);
  EXPECT_EQ(at("model.layers.0.post_feedforward_layernorm.weight"), 3.0f);
  EXPECT_EQ(at("model.layers.0.self_attn.q_norm.weight"), 4.0f);
}

TEST(GgufCheckpoint, Gemma3PatternAsList) {
  const Checkpoint c =
      load(model("gemma3", 3)
               .f32_tensor("blk.0.attn_norm.weight", {32})
               .list("gemma3.attention.sliding_window_pattern", 7, 3, std::string("\1\1\0", 3)));
  EXPECT_EQ(c.config["layer_types"],
            (Json{"sliding_attention", "sliding_attention", "full_attention"}));
}

TEST(GgufCheckpoint, Phi3LongRope) {
  const Checkpoint c = load(model("phi3")
                                .u32("phi3.rope.dimension_count", 4)
                                .u32("phi3.rope.scaling.original_context_length", 128)
                                .f32_tensor("rope_factors_long.weight", {2}, 4)
                                .f32_tensor("rope_factors_short.weight", {2}, 1)
                                .f32_tensor("blk.0.attn_qkv.weight", {32, 96})
                                .f32_tensor("blk.0.ffn_up.weight", {32, 128}));
  EXPECT_EQ(c.config["rope_scaling"]["type"], "longrope");
  EXPECT_EQ(c.config["rope_scaling"]["long_factor"], (Json{4.0, 4.0}));
  EXPECT_EQ(c.config["original_max_position_embeddings"], 128);
  EXPECT_EQ(c.config["partial_rotary_factor"], 0.5);
  EXPECT_TRUE(c.weights.count("model.layers.0.mlp.gate_up_proj.weight"));
  EXPECT_TRUE(c.weights.count("model.layers.0.self_attn.qkv_proj.weight"));
}

TEST(GgufCheckpoint, Phimoe) {
  const Checkpoint c = load(model("phimoe")
                                .u32("phimoe.expert_count", 8)
                                .u32("phimoe.expert_used_count", 2)
                                .u32("phimoe.rope.scaling.original_context_length", 128)
                                .f32("phimoe.rope.scaling.attn_factor", 1.25f)
                                .f32_tensor("rope_factors_long.weight", {4}, 4)
                                .f32_tensor("rope_factors_short.weight", {4}, 1)
                                .f32_tensor("output.weight", {32, 40})
                                .f32_tensor("output.bias", {40})
                                .f32_tensor("blk.0.ffn_gate_inp.weight", {32, 8})
                                .f32_tensor("blk.0.ffn_gate_exps.weight", {32, 16, 8}));
  EXPECT_EQ(c.config["model_type"], "phimoe");
  EXPECT_EQ(c.config["num_local_experts"], 8);
  EXPECT_EQ(c.config["num_experts_per_tok"], 2);
  EXPECT_EQ(c.config["lm_head_bias"], true);
  EXPECT_EQ(c.config["rope_scaling"]["type"], "longrope");
  EXPECT_EQ(c.config["rope_scaling"]["attention_factor"], 1.25);
  EXPECT_TRUE(c.weights.count("lm_head.bias"));
  EXPECT_TRUE(c.weights.count("model.layers.0.block_sparse_moe.gate.weight"));
  EXPECT_TRUE(c.weights.count("model.layers.0.block_sparse_moe.switch_mlp.gate_proj.weight"));
}

// The activation that llama.cpp takes where the file names none.
TEST(GgufCheckpoint, BitNet) {
  const Checkpoint c = load(model("bitnet")
                                .f32_tensor("blk.0.attn_sub_norm.weight", {32})
                                .f32_tensor("blk.0.ffn_sub_norm.weight", {32}));
  EXPECT_EQ(c.config["model_type"], "bitnet");
  EXPECT_EQ(c.config["hidden_act"], "silu");
  EXPECT_TRUE(c.weights.count("model.layers.0.self_attn.attn_sub_norm.weight"));
  EXPECT_TRUE(c.weights.count("model.layers.0.mlp.ffn_sub_norm.weight"));
  EXPECT_EQ(load(model("bitnet").string("bitnet.hidden_activation", "relu2")).config["hidden_act"],
            "relu2");
}

// Ternary blocks become MLX's 2-bit form: here all codes 2 with the scale 0.5, which is 0.5.
TEST(GgufCheckpoint, TernaryBlocks) {
  std::string block(64, '\xaa');
  block += bytes_of<uint16_t>(0x3800);
  const Checkpoint c =
      load(model("llama").tensor("blk.0.ffn_down.weight", {256, 3}, 35, block + block + block));
  const std::string path = "model.layers.0.mlp.down_proj";
  const auto type = kernels::quant_type(QuantMode::affine, 128, 2);
  EXPECT_EQ(c.quantization.per_layer.at(path), type);
  const kernels::QuantizedMatrix w{type, c.weights.at(path + ".weight"),
                                   c.weights.at(path + ".scales"), c.weights.at(path + ".biases")};
  expect_same(kernels::dequantize(w, mx::float32), mx::full({3, 256}, 0.5f), path);
  EXPECT_THAT(
      error_of([&] { load(model("llama").tensor("blk.0.attn_norm.weight", {256}, 35, block)); }),
      HasSubstr("'blk.0.attn_norm.weight' is quantised, expected plain numbers"));
}

TEST(GgufCheckpoint, Gemma3n) {
  const float none = -std::numeric_limits<float>::infinity();
  const Checkpoint c = load(
      model("gemma3n")
          .u32("gemma3n.embedding_length_per_layer_input", 8)
          .u32("gemma3n.attention.shared_kv_layers", 0)
          .list("gemma3n.activation_sparsity_scale", 6, 2, bytes_of(1.6448536f) + bytes_of(none))
          .f32_tensor("per_layer_token_embd.weight", {8, 30})
          .f32_tensor("altup_proj.weight", {32, 32, 3})
          .f32_tensor("blk.0.laurel_l.weight", {32, 4})
          .f32_tensor("blk.0.altup_correct_scale.weight", {32})
          .f32_tensor("blk.0.post_norm.weight", {32}, 2));
  EXPECT_EQ(c.config["model_type"], "gemma3n_text");
  EXPECT_EQ(c.config["hidden_size_per_layer_input"], 8);
  EXPECT_EQ(c.config["vocab_size_per_layer_input"], 30);
  EXPECT_EQ(c.config["laurel_rank"], 4);
  EXPECT_EQ(c.config["altup_num_inputs"], 4);
  EXPECT_EQ(c.config["num_kv_shared_layers"], 0);
  EXPECT_EQ(c.config["final_logit_softcapping"], 30.0);
  EXPECT_NEAR(c.config["activation_sparsity_pattern"][0].get<double>(), 0.95, 1e-7);
  EXPECT_EQ(c.config["activation_sparsity_pattern"][1], 0.0);
  EXPECT_TRUE(c.weights.count("model.altup_projections.weight"));
  EXPECT_TRUE(c.weights.count("model.layers.0.altup.correct_output_scale"));
  // No 1 has been added to this family's norms.
  EXPECT_EQ(c.weights.at("model.layers.0.post_per_layer_input_norm.weight").data<float>()[0], 2.0f);
}

// Names as the gguf package makes them from the published ones, for every family with a fixture.
TEST(GgufCheckpoint, NamesEqualTheGgufPackage) {
  const Json all = read_json(golden("gguf-names.json"));
  EXPECT_GE(all.size(), 25u);
  for (const auto& [arch, names] : all.items()) {
    GgufBytes g;
    g.string("general.architecture", arch);
    for (const auto& [from, to] : names.items())
      if (from != "token_embd.weight") g.f32_tensor(from, {2, 32});
    const int layers = 4;
    const auto key = [&](const char* name) { return arch + "." + name; };
    g.u32(key("block_count"), layers).u32(key("context_length"), 64);
    g.u32(key("embedding_length"), 32).u32(key("feed_forward_length"), 32);
    g.u32(key("attention.head_count"), 4).f32(key("attention.layer_norm_epsilon"), 1e-5f);
    g.f32(key("attention.layer_norm_rms_epsilon"), 1e-5f).f32(key("logit_scale"), 2);
    g.u32(key("expert_count"), 4).u32(key("expert_used_count"), 2);
    g.u32(key("shortconv.l_cache"), 3);
    std::string heads;
    for (const uint32_t n : {0, 2, 0, 2}) heads += bytes_of(n);
    if (arch == "lfm2") g.list("lfm2.attention.head_count_kv", 4, 4, heads);
    const Checkpoint c = load(g.f32_tensor("token_embd.weight", {32, 40}));
    EXPECT_EQ(c.weights.size(), names.size()) << arch;
    for (const auto& [from, to] : names.items())
      EXPECT_TRUE(c.weights.count(to.get<std::string>())) << arch << ": " << from << " -> " << to;
  }
}

GgufBytes layer_norm_model(const std::string& arch) {
  return model(arch).f32(arch + ".attention.layer_norm_epsilon", 1e-3f);
}

TEST(GgufCheckpoint, FieldsOfFamilies) {
  const auto config = [](const GgufBytes& g) { return load(g).config; };
  const Json cohere = config(layer_norm_model("command-r").f32("command-r.logit_scale", 0.5f));
  EXPECT_EQ(cohere["model_type"], "cohere");
  EXPECT_EQ(cohere["layer_norm_eps"].get<float>(), 1e-3f);
  EXPECT_EQ(cohere["logit_scale"], 0.5);
  EXPECT_EQ(cohere["use_qk_norm"], false);

  const Json granite = config(model("granite")
                                  .f32("granite.attention.scale", 0.25f)
                                  .f32("granite.embedding_scale", 12)
                                  .f32("granite.residual_scale", 0.5f)
                                  .f32("granite.logit_scale", 8));
  EXPECT_EQ(granite["attention_multiplier"], 0.25);
  EXPECT_EQ(granite["embedding_multiplier"], 12.0);
  EXPECT_EQ(granite["residual_multiplier"], 0.5);
  EXPECT_EQ(granite["logits_scaling"], 8.0);
  EXPECT_EQ(granite["rope_traditional"], true);

  const Json qwen = config(model("qwen3moe")
                               .u32("qwen3moe.expert_count", 8)
                               .u32("qwen3moe.expert_used_count", 2)
                               .u32("qwen3moe.expert_feed_forward_length", 16)
                               .f32_tensor("blk.0.ffn_up_exps.weight", {32, 16, 8}));
  EXPECT_EQ(qwen["model_type"], "qwen3_moe");
  EXPECT_EQ(qwen["num_experts"], 8);
  EXPECT_EQ(qwen["num_experts_per_tok"], 2);
  EXPECT_EQ(qwen["moe_intermediate_size"], 16);
  EXPECT_EQ(qwen["norm_topk_prob"], true);

  EXPECT_EQ(config(model("smollm3"))["no_rope_layers"], Json::array({1}));
  EXPECT_EQ(config(model("internlm2"))["model_type"], "llama");
  const Json gemma2 = config(model("gemma2").u32("gemma2.attention.key_length", 16));
  EXPECT_EQ(gemma2["attn_logit_softcapping"], 50.0);
  EXPECT_EQ(gemma2["final_logit_softcapping"], 30.0);
  EXPECT_EQ(gemma2["sliding_window"], 4096);
  EXPECT_EQ(gemma2["query_pre_attn_scalar"], 16);
}

TEST(GgufCheckpoint, DroppedDimensionsComeBack) {
  const Checkpoint c = load(model("qwen2moe")
                                .u32("qwen2moe.expert_count", 8)
                                .u32("qwen2moe.expert_used_count", 2)
                                .f32_tensor("blk.0.ffn_gate_inp_shexp.weight", {32}));
  EXPECT_EQ(c.weights.at("model.layers.0.mlp.shared_expert_gate.weight").shape(),
            (mx::Shape{1, 32}));
}

TEST(GgufCheckpoint, BadModels) {
  const auto error = [](const GgufBytes& g) { return error_of([&] { load(g); }); };
  EXPECT_THAT(error(GgufBytes()), HasSubstr("'general.architecture' is missing"));
  EXPECT_THAT(error(model("whale")), HasSubstr("'whale' is not supported; known: llama"));
  EXPECT_THAT(error(GgufBytes().string("general.architecture", "llama")),
              HasSubstr("tensor 'token_embd.weight'"));
  EXPECT_THAT(error(model("llama", 2147483647)),
              HasSubstr("'llama.block_count' is 2147483647, but the file has 2 tensors"));
  EXPECT_THAT(error(model("llama", 0)), HasSubstr("'llama.block_count' must be positive"));
  EXPECT_THAT(error(model("llama").f32_tensor("blk.0.ssm_a.weight", {4})),
              HasSubstr("tensor 'blk.0.ssm_a.weight' is not one of a llama model"));
  EXPECT_THAT(error(model("llama").f32_tensor("blk.1.attn_q.weight", {4})),
              HasSubstr("tensor 'blk.1.attn_q.weight' is not one of a llama model with 1 layers"));
  EXPECT_THAT(error(model("llama").tensor("blk.0.attn_norm.weight", {32}, 8, std::string(34, 0))),
              HasSubstr("is quantised, expected plain numbers"));
  EXPECT_THAT(error(model("llama").string("llama.rope.scaling.type", "magic")),
              HasSubstr("must be none, linear, yarn or longrope, found 'magic'"));
  EXPECT_THAT(error(model("llama").string("llama.attention.head_count_kv", "2")),
              HasSubstr("'llama.attention.head_count_kv' must be an integer"));
  EXPECT_THAT(error(model("llama").list("llama.attention.head_count_kv", 4, 2,
                                        bytes_of<uint32_t>(2) + bytes_of<uint32_t>(4))),
              HasSubstr("differs from layer to layer"));
}

}  // namespace
}  // namespace mlxcpp
