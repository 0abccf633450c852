// The real models' files as checkpoints.
#include <gtest/gtest.h>

#include "support/real_model.h"
#include "weights/checkpoint.h"
#include "weights/gguf.h"

namespace mlxcpp {
namespace {

using kernels::QuantMode;

TEST(RealModels, SmolLM2) {
  const GgufFile gguf(test::real_model(golden::kSmolLM2));
  const auto tokens = gguf.need<std::vector<std::string_view>>("tokenizer.ggml.tokens");
  EXPECT_EQ(tokens.size(), 49152u);
  EXPECT_EQ(tokens[1], "<|im_start|>");
  const Checkpoint c = load_checkpoint(gguf);
  EXPECT_LT(mx::get_active_memory(), c.bytes / 100);  // mapped, not read
  EXPECT_EQ(c.config["model_type"], "llama");
  EXPECT_EQ(c.config["num_hidden_layers"], 30);
  EXPECT_EQ(c.config["num_key_value_heads"], 3);
  EXPECT_EQ(c.config["tie_word_embeddings"], true);
  EXPECT_EQ(c.config["rope_traditional"], true);
  EXPECT_EQ(c.config["rope_theta"], 100000.0);
  EXPECT_EQ(c.weights.size(), 272u);
  EXPECT_EQ(c.quantization.at("model.embed_tokens")->mode, QuantMode::q8_0);
  EXPECT_EQ(c.quantization.at("model.layers.29.mlp.down_proj")->mode, QuantMode::q4_1);
  EXPECT_EQ(c.weights.at("model.layers.0.self_attn.k_proj.weight").shape(), (mx::Shape{192, 360}));
}

TEST(RealModels, Gemma3) {
  const GgufFile gguf(test::real_model(golden::kGemma3));
  EXPECT_EQ(gguf.need<std::vector<float>>("tokenizer.ggml.scores").size(), 262144u);
  const Checkpoint c = load_checkpoint(gguf);
  EXPECT_LT(mx::get_active_memory(), c.bytes / 100);
  EXPECT_EQ(c.config["model_type"], "gemma3_text");
  EXPECT_EQ(c.config["head_dim"], 256);
  EXPECT_EQ(c.config["query_pre_attn_scalar"], 256);
  EXPECT_EQ(c.config["sliding_window"], 512);
  EXPECT_EQ(c.config["sliding_window_pattern"], 6);
  EXPECT_EQ(c.config["rope_local_base_freq"], 10000.0);
  EXPECT_EQ(c.config["rope_theta"], 1e6);
  EXPECT_EQ(c.weights.size(), 236u);
  EXPECT_EQ(c.quantization.at("model.layers.3.self_attn.o_proj")->mode, QuantMode::q4_k);
  EXPECT_EQ(c.quantization.at("model.layers.17.mlp.down_proj")->mode, QuantMode::q6_k);
}

}  // namespace
}  // namespace mlxcpp
