#include "embedders/embedder.h"

#include "embedders/model_folder.h"
#include "embedders/reranker.h"
#include "kernels/thread_pool.h"
#include "support/throws.h"
#include "tests/support/paths.h"

namespace mlxcpp::embedders {
namespace {

using mlxcpp::test::error_of;
using test::fixture;
using test::ModelFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

float largest_difference(const mx::array& a, const mx::array& b) {
  EXPECT_EQ(a.shape(), b.shape());
  const auto d = mx::abs(a - b);
  return mx::max(mx::where(mx::isnan(d), mx::array(1e30f), d)).item<float>();
}
mx::array row(const mx::array& x, int i) { return mx::slice(x, {i, 0}, {i + 1, x.shape(1)}); }

constexpr const char* kModels[] = {"bert",       "embeddinggemma",  "modernbert",
                                   "nomic_bert", "qwen3_embedding", "roberta",
                                   "xlm_roberta"};

// Texts of many lengths, an empty one among them.
std::vector<std::string> many_texts() {
  std::vector<std::string> texts{""};
  std::string text;
  for (int i = 0; i < 24; ++i) {
    text += i % 3 ? "bread and water " : "the quick fox. ";
    texts.push_back(text);
    if (i % 5 == 0) texts.push_back("yes");
  }
  return texts;
}

TEST(Embedder, ATextsVectorDoesNotDependOnBatchOrderOrThreads) {
  const auto texts = many_texts();
  for (const char* name : kModels) {
    const Embedder embedder(ModelFiles{fixture(name), {}});
    const auto want = embedder.embed(texts, {.batch_size = 1});
    EXPECT_LE(largest_difference(embedder.embed(texts, {.batch_size = 7}), want), 1e-6f) << name;
    const int before = kernels::num_threads();
    kernels::set_num_threads(3);
    EXPECT_LE(largest_difference(embedder.embed(texts, {.batch_size = 64}), want), 1e-6f) << name;
    kernels::set_num_threads(before);
    std::vector<std::string> reversed(texts.rbegin(), texts.rend());
    const auto other = embedder.embed(reversed, {.batch_size = 5});
    for (size_t i = 0; i < texts.size(); ++i)
      ASSERT_LE(largest_difference(row(other, static_cast<int>(texts.size() - 1 - i)),
                                   row(want, static_cast<int>(i))),
                1e-6f)
          << name;
  }
}

TEST(Embedder, LongTextsAreCutAndKeepWhatStandsAroundThem) {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "water and bread ";
  for (const char* name : kModels) {
    const Embedder embedder(ModelFiles{fixture(name), {}}, {{.max_length = 16}});
    const Tokens cut = embedder.tokens(text, ""), whole = embedder.tokens("water", "");
    ASSERT_EQ(cut.ids.size(), 16u) << name;
    EXPECT_EQ(cut.ids.front(), whole.ids.front()) << name;
    if (std::string(name) != "qwen3_embedding") continue;
    EXPECT_EQ(cut.ids.back(), whole.ids.back()) << name;  // <|endoftext|>, which is pooled
  }
}

TEST(Embedder, TheModelsOwnBoundHolds) {
  // max_seq_length says 512, but there are 128 positions.
  const Embedder embedder(ModelFiles{fixture("bert"), {}});
  EXPECT_EQ(embedder.max_length(), 128);
  std::string text;
  for (int i = 0; i < 400; ++i) text += "salt ";
  EXPECT_EQ(embedder.tokens(text, "").ids.size(), 128u);
  EXPECT_EQ(embedder.embed({text}).shape(), (mx::Shape{1, 48}));
  // XLM-RoBERTa's positions begin at 2.
  EXPECT_EQ(Embedder(ModelFiles{fixture("xlm_roberta"), {}}).max_length(), 128);
}

TEST(Embedder, OptionsShapeTheVector) {
  const Embedder embedder(ModelFiles{fixture("bert"), {}});
  const auto raw = embedder.embed({"bread"}, {.normalize = false});
  const auto length = [](const mx::array& x) { return mx::sqrt(mx::sum(x * x)).item<float>(); };
  EXPECT_GT(std::abs(length(raw) - 1), 0.01f);
  EXPECT_NEAR(length(embedder.embed({"bread"})), 1, 1e-6);
  const auto cut = embedder.embed({"bread"}, {.dimension = 7});
  EXPECT_EQ(cut.shape(), (mx::Shape{1, 7}));
  EXPECT_NEAR(length(cut), 1, 1e-6);
  EXPECT_LE(largest_difference(embedder.embed({"bread"}, {.normalize = false, .dimension = 7}),
                               mx::slice(raw, {0, 0}, {1, 7})),
            0.0f);
  EXPECT_EQ(embedder.embed({}).shape(), (mx::Shape{0, 48}));
}

TEST(Embedder, PoolingCanBeChosenAndSeveralAreJoined) {
  const ModelFolder folder("bert");
  folder.set("1_Pooling/config.json", "pooling_mode_cls_token", true);
  const Embedder both(folder.files());
  EXPECT_EQ(both.dimension(), 96);
  const Embedder cls(folder.files(), {{}, Pooling::cls}), mean(folder.files(), {{}, Pooling::mean});
  const EmbedOptions plain{.normalize = false};
  const auto joined = both.embed({"bread"}, plain);
  EXPECT_LE(
      largest_difference(
          joined, mx::concatenate({cls.embed({"bread"}, plain), mean.embed({"bread"}, plain)}, 1)),
      1e-6f);
}

TEST(Embedder, TokensVectorsOnRequest) {
  const Embedder embedder(ModelFiles{fixture("bert"), {}}, {{}, Pooling::none});
  EXPECT_THAT(error_of([&] { embedder.embed({"bread"}); }), HasSubstr("use embed_tokens"));
  const auto vectors = embedder.embed_tokens({"bread and water", "", "yes"});
  ASSERT_EQ(vectors.size(), 3u);
  EXPECT_EQ(vectors[1].shape(), (mx::Shape{2, 48}));  // [CLS] [SEP]
  const Embedder mean(ModelFiles{fixture("bert"), {}});
  EXPECT_LE(largest_difference(mx::mean(vectors[0], 0, true),
                               mean.embed({"bread and water"}, {.normalize = false})),
            1e-6f);
}

TEST(Embedder, PromptsStandBeforeTheText) {
  const Embedder embedder(ModelFiles{fixture("xlm_roberta"), {}});
  const auto want = embedder.embed({"query: bread"});
  EXPECT_LE(largest_difference(embedder.embed({"bread"}, {.prompt_name = "query"}), want), 0.0f);
  EXPECT_LE(largest_difference(embedder.embed({"bread"}, {.prompt = "query: "}), want), 0.0f);
  EXPECT_THAT(error_of([&] { embedder.embed({"bread"}, {.prompt_name = "poem"}); }),
              AllOf(HasSubstr("no prompt 'poem'"), HasSubstr("passage, query")));
  EXPECT_THAT(error_of([&] { embedder.embed({"bread"}, {.prompt = "a", .prompt_name = "query"}); }),
              HasSubstr("both a prompt and the name"));
}

TEST(Embedder, TheDefaultPromptAndPoolingWithoutIt) {
  const ModelFolder folder("bert");
  folder.set("config_sentence_transformers.json", "prompts", {{"q", "the quick "}});
  folder.set("config_sentence_transformers.json", "default_prompt_name", "q");
  const Embedder with(folder.files());
  EXPECT_LE(largest_difference(with.embed({"fox"}),
                               Embedder({fixture("bert"), {}}).embed({"the quick fox"})),
            0.0f);
  folder.set("1_Pooling/config.json", "include_prompt", false);
  const Embedder without(folder.files(), {});
  const Tokens tokens = without.tokens("fox", "the quick ");
  EXPECT_EQ(tokens.prompt,  // [CLS] and the prompt
            static_cast<int>(without.model().tokenizer->encode("the quick ").size()) - 1);
  EXPECT_GT(largest_difference(without.embed({"fox"}), with.embed({"fox"})), 1e-3f);
}

TEST(Embedder, QuantisedStaysNear) {
  const Embedder plain(ModelFiles{fixture("bert"), {}});
  const Embedder quantised(ModelFiles{fixture("bert"), {}},
                           {{.quantize = kernels::quant_type(kernels::QuantMode::affine, 32, 8)}});
  const auto texts = many_texts();
  const auto a = plain.embed(texts), b = quantised.embed(texts);
  EXPECT_GT(largest_difference(a, b), 0.0f);
  EXPECT_GT(mx::min(mx::sum(a * b, 1)).item<float>(), 0.999f);
}

TEST(Embedder, StopsWhenAsked) {
  std::stop_source stop;
  const Embedder embedder(ModelFiles{fixture("bert"), {}});
  size_t seen = 0;
  const auto error = error_of([&] {
    embedder.embed({"a", "b", "c"}, {.batch_size = 1,
                                     .on_progress =
                                         [&](size_t done) {
                                           seen = done;
                                           stop.request_stop();
                                         },
                                     .stop = stop.get_token()});
  });
  EXPECT_EQ(error, "stopped");
  EXPECT_EQ(seen, 1u);
}

TEST(Embedder, BadTextsNameTheirNumber) {
  const Embedder embedder(ModelFiles{fixture("bert"), {}});
  EXPECT_THAT(error_of([&] { embedder.embed({"good", "bad \xff"}); }),
              AllOf(HasSubstr("text 2: "), HasSubstr("not UTF-8 at byte 4")));
}

TEST(Embedder, BadOptionsAreErrors) {
  const Embedder embedder(ModelFiles{fixture("bert"), {}});
  EXPECT_THAT(error_of([&] { embedder.embed({"a"}, {.dimension = 49}); }),
              HasSubstr("a dimension of 49 was asked for; the model's vectors have 48"));
  EXPECT_THAT(error_of([&] { embedder.embed({"a"}, {.dimension = 0}); }), HasSubstr("of 0"));
  EXPECT_THAT(error_of([&] { embedder.embed({"a"}, {.batch_size = 0}); }), HasSubstr("batch of 0"));
  EXPECT_THAT(error_of([&] { Embedder e({fixture("bert"), {}}, {{.max_length = 0}}); }),
              HasSubstr("at most 0 tokens"));
}

TEST(Embedder, ModelsThatMakeNoEmbeddingsAreRefused) {
  const auto open = [](const std::filesystem::path& folder) {
    return error_of([&] { Embedder e(ModelFiles{folder, {}}); });
  };
  EXPECT_THAT(open(mlxcpp::test::golden_folder() / "llm" / "llama"),
              HasSubstr("a model of type 'llama' makes no embeddings"));
  EXPECT_THAT(open(fixture("qwen3_reranker")), HasSubstr("say how to pool"));
  const ModelFolder misspelt("bert");
  misspelt.set("config.json", "model_type", "brt");
  EXPECT_THAT(open(misspelt.path()), AllOf(HasSubstr((misspelt.path() / "config.json").string() +
                                                     ": a model of type 'brt'"),
                                           HasSubstr("did you mean 'bert'")));
}

// Of an Error that may list several tensors.
template <class F>
std::string text_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "expected an Error";
  return "";
}

TEST(Embedder, BadFoldersSayFileAndKey) {
  const auto with = [](const char* name, const char* file, const char* key, const Json& value) {
    const ModelFolder folder(name);
    folder.set(file, key, value);
    return text_of([&] { Embedder e(folder.files()); });
  };
  EXPECT_THAT(with("bert", "config.json", "relative_attention", true),
              HasSubstr("relative_attention"));
  EXPECT_THAT(with("bert", "config.json", "num_attention_heads", 5),
              HasSubstr("/config.json: 'hidden_size' is 48, expected a multiple of "
                        "num_attention_heads (5)"));
  EXPECT_THAT(with("bert", "config.json", "num_hidden_layers", 4),
              AllOf(HasSubstr("encoder.layer.3"), HasSubstr("missing")));
  EXPECT_THAT(with("bert", "config.json", "position_embedding_type", "relative_key"),
              HasSubstr("position_embedding_type"));
  EXPECT_THAT(with("nomic_bert", "config.json", "prenorm", true), HasSubstr("prenorm"));
  const auto file_and_key = [&](const char* name, const char* key, const Json& value,
                                const std::string& expected) {
    EXPECT_THAT(with(name, "config.json", key, value),
                HasSubstr(fmt::format("/config.json: '{}' must be {}", key, expected)))
        << name;
  };
  for (const char* name : {"bert", "modernbert", "nomic_bert"}) {
    file_and_key(name, "hidden_size", -48, "positive, found -48");
    file_and_key(name, "vocab_size", 0, "positive, found 0");
    file_and_key(name, "num_hidden_layers", 1'000'000'000, "at most 10000, found 1000000000");
  }
  file_and_key("bert", "type_vocab_size", -1, "0 or more, found -1");
  file_and_key("modernbert", "local_attention", 0, "positive, found 0");
  file_and_key("modernbert", "num_attention_heads", -1, "positive, found -1");
  file_and_key("nomic_bert", "n_inner", -1, "positive, found -1");
  EXPECT_THAT(with("modernbert", "config.json", "num_attention_heads", 48),
              HasSubstr("num_attention_heads (48), heads of an even size"));
  EXPECT_THAT(with("roberta", "config.json", "pad_token_id", 500), HasSubstr("pad_token_id"));
  EXPECT_THAT(with("embeddinggemma", "2_Dense/config.json", "in_features", 47),
              HasSubstr("'in_features' is 47"));
  EXPECT_THAT(with("embeddinggemma", "2_Dense/config.json", "bias", true),
              HasSubstr("linear.bias"));

  const ModelFolder folder("bert");
  Json tokenizer = read_json(folder / "tokenizer.json");
  tokenizer["model"]["vocab"]["bread"] = 100000;
  folder.write("tokenizer.json", tokenizer.dump());
  EXPECT_THAT(error_of([&] { Embedder(folder.files()).embed({"bread"}); }),
              HasSubstr("the model knows 260"));
}

TEST(Similarity, ByName) {
  const mx::array a({1.0f, 0.0f, 3.0f, 4.0f}, {2, 2}), b({2.0f, 0.0f}, {1, 2});
  const auto values = [&](const char* function) {
    auto s = mx::contiguous(similarity(a, b, function));
    s.eval();
    return std::vector<float>(s.data<float>(), s.data<float>() + s.size());
  };
  EXPECT_THAT(values("cosine"), ::testing::Pointwise(::testing::FloatNear(1e-6f), {1.0f, 0.6f}));
  EXPECT_EQ(values("dot"), (std::vector<float>{2, 6}));
  EXPECT_EQ(values("manhattan"), (std::vector<float>{-1, -5}));
  EXPECT_NEAR(values("euclidean")[1], -std::sqrt(17.0f), 1e-5);
  EXPECT_THAT(error_of([&] { similarity(a, b, "hamming"); }), HasSubstr("'hamming'"));
}

TEST(PlanBatches, LongestFirstWithinBothBounds) {
  std::vector<Tokens> texts;
  for (const int n : {3, 10000, 0, 5, 9000, 4}) texts.push_back({.ids = std::vector<int>(n, 1)});
  EXPECT_EQ(plan_batches(texts, 2), (std::vector<std::vector<size_t>>{{1}, {4, 3}, {5, 0}}));
}

}  // namespace
}  // namespace mlxcpp::embedders
