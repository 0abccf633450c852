// From a folder of files to an answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <unistd.h>

#include "lm_common/model_container.h"
#include "lm_common/test_tokenizer.h"
#include "nn/quantized.h"
#include "tests/support/throws.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using namespace mlxcpp::testing;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The smallest language model that loads: an embedding that is also the head.
class Bigram final : public LanguageModel {
 public:
  struct Config {
    int vocab_size = 0, hidden_size = 0;
    void fields(ConfigReader& v) {
      v.need("vocab_size", vocab_size);
      v.need("hidden_size", hidden_size);
    }
  };
  explicit Bigram(const Config& c)
      : embed_tokens(this, "embed_tokens", c.vocab_size, c.hidden_size) {}

  mx::array embed(const mx::array& ids) const override { return embed_tokens(ids); }
  mx::array hidden(const mx::array& ids, Caches&) const override { return embed(ids); }
  mx::array logits(const mx::array& hidden) const override {
    return embed_tokens->as_linear(hidden);
  }
  Caches make_caches(const CacheOptions& = {}) const override { return {}; }
  nn::Weights sanitize(nn::Weights weights) const override {
    weights.erase("superfluous");
    return weights;
  }

  nn::Child<nn::Embedding> embed_tokens;
};

const ModelTypes& types() {
  static const ModelTypes all = {{"bigram", [](const Json& config) {
                                    return std::make_unique<Bigram>(
                                        read_config<Bigram::Config>(config));
                                  }}};
  return all;
}

class Loading : public ::testing::Test {
 protected:
  Loading() {
    std::string name = (fs::temp_directory_path() / "mlxcpp-load-XXXXXX").string();
    if (!mkdtemp(name.data())) throw Error("cannot make a temporary folder");
    folder = name;
    write_test_tokenizer(folder);
    write_config();
    write_weights({{"embed_tokens.weight", weight}});
  }
  ~Loading() override { fs::remove_all(folder); }

  void write_config(const Json& more = Json::object()) {
    Json config = {{"model_type", "bigram"}, {"vocab_size", 64}, {"hidden_size", 32}};
    config.update(more);
    std::ofstream(folder / "config.json") << config.dump();
  }
  void write_weights(const std::unordered_map<std::string, mx::array>& weights) {
    mx::save_safetensors((folder / "model.safetensors").string(), weights);
  }
  ModelContext load() { return load_model_context({.folder = folder, .gguf = {}}, types()); }
  std::string fault() {
    try {
      load();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  fs::path folder;
  mx::array weight = mx::random::normal({64, 32}, mx::float32, mx::random::key(1));
};

TEST_F(Loading, AFolder) {
  const ModelContext context = load();
  EXPECT_EQ(context.configuration.id, folder.string());
  EXPECT_EQ(context.weight_bytes, 64u * 32 * 4);
  EXPECT_EQ(context.vocab_size(), 64);
  EXPECT_EQ(*context.eos().begin(), kEos);
  Caches none;
  const mx::array ids({5, 6}, {1, 2});
  const mx::array want = mx::matmul(mx::take(weight, ids, 0), mx::transpose(weight));
  EXPECT_TRUE(mx::allclose((*context.model)(ids, none), want, 1e-4, 1e-4).item<bool>());
  GenerateParameters p;
  p.max_tokens = 3;
  EXPECT_LE(context.generate(context.prepare("Hi"), none, p).text().size(), 3u);
}

TEST_F(Loading, ThroughTheConfiguration) {
  const auto container =
      load_model_container({.id = folder.string(), .default_prompt = "Well?"}, types());
  EXPECT_EQ(container->configuration().default_prompt, "Well?");
  EXPECT_EQ(container->tokenizer()->encode("a"), letters("a"));
}

TEST_F(Loading, QuantisedLayers) {
  const auto parts = mx::quantize(weight, 32, 4);
  write_config({{"quantization", {{"group_size", 32}, {"bits", 4}}}});
  write_weights({{"embed_tokens.weight", parts[0]},
                 {"embed_tokens.scales", parts[1]},
                 {"embed_tokens.biases", parts[2]},
                 {"superfluous", mx::zeros({1})}});
  const ModelContext context = load();
  const auto& model = static_cast<const Bigram&>(*context.model);
  EXPECT_NE(dynamic_cast<const nn::QuantizedEmbedding*>(&*model.embed_tokens), nullptr);

  // What has no scales was not quantised, whatever the setting for all says.
  write_weights({{"embed_tokens.weight", weight}});
  const ModelContext plain = load();
  EXPECT_EQ(dynamic_cast<const nn::QuantizedEmbedding*>(
                &*static_cast<const Bigram&>(*plain.model).embed_tokens),
            nullptr);
}

// Families leave out what is their default: what a config says of it is not asked.
TEST_F(Loading, TheVocabularyIsTheModels) {
  ModelContext context = load();
  context.config.erase("vocab_size");
  EXPECT_EQ(context.vocab_size(), 64);
  context.config["vocab_size"] = 1000;
  EXPECT_EQ(context.vocab_size(), 64);
  Caches none;
  EXPECT_THAT(test::error_of([&] { context.generate(LMInput({64}), none, {}); }),
              HasSubstr("the model's vocabulary ends at 63"));
}

// nvfp4's groups are of 16, and MLX writes rows of an odd number of them.
TEST_F(Loading, RowsOfAnOddNumberOfGroups) {
  const auto wide = mx::random::normal({64, 48}, mx::float32, mx::random::key(2));
  const auto parts = mx::quantize(wide, 16, 4, "nvfp4");
  write_config({{"hidden_size", 48},
                {"quantization", {{"group_size", 16}, {"bits", 4}, {"mode", "nvfp4"}}}});
  write_weights({{"embed_tokens.weight", parts[0]}, {"embed_tokens.scales", parts[1]}});
  const ModelContext context = load();
  const mx::array ids({5, 63}, {1, 2});
  const auto want =
      mx::dequantize(parts[0], parts[1], std::nullopt, 16, 4, "nvfp4", std::nullopt, mx::float32);
  EXPECT_TRUE(
      mx::array_equal(mx::astype(context.model->embed(ids), mx::float32), mx::take(want, ids, 0))
          .item<bool>());
  write_weights({{"embed_tokens.weight", parts[0]},
                 {"embed_tokens.scales", mx::slice(parts[1], {0, 0}, {64, 2})}});
  EXPECT_THAT(fault(), HasSubstr("embed_tokens: dequantize: scales of a nvfp4 matrix"));
}

TEST_F(Loading, Faults) {
  write_weights({{"embed_token.weight", weight}});
  EXPECT_THAT(fault(), HasSubstr("embed_tokens.weight"));
  write_weights({{"embed_tokens.weight", mx::zeros({64, 16})}});
  EXPECT_THAT(fault(), StartsWith(folder.string() + ": weights do not fit the model: shape of "
                                                    "embed_tokens.weight: expected "));
  write_config({{"model_type", "bigrams"}});
  EXPECT_THAT(fault(), HasSubstr((folder / "config.json").string() +
                                 ": unsupported model type 'bigrams'; did you mean 'bigram'?"));
  write_config({{"hidden_size", "many"}});
  EXPECT_THAT(fault(), StartsWith((folder / "config.json").string() + ": 'hidden_size' must be"));
  write_config();
  write_weights({{"embed_tokens.weight", weight}});
  fs::remove(folder / "tokenizer.json");
  EXPECT_THAT(fault(), HasSubstr("tokenizer"));
}

}  // namespace
}  // namespace mlxcpp
