// A layer's step as one operation against the same layer operation by operation, which an Observer
// makes it go: they must agree to the bit.
#include "llm/blocks/step.h"

#include <set>

#include <gtest/gtest.h>
#include <mlx/primitives.h>

#include "golden/fixture.h"
#include "golden/steps.h"
#include "kernels/thread_pool.h"
#include "llm/blocks/decoder_layer.h"
#include "llm/blocks/mla.h"
#include "llm/blocks/moe.h"
#include "llm/registry.h"
#include "lm_common/kv_cache/attention_cache.h"
#include "lm_common/model_context.h"
#include "nn/bit_linear.h"
#include "nn/quantized.h"
#include "nn/value_and_grad.h"
#include "tests/support/paths.h"
#include "weights/gguf.h"

namespace mlxcpp::llm {
namespace {

namespace fs = std::filesystem;
using kernels::QuantMode;

template <class F>
mx::array by_operations(F&& f) {
  const nn::ObserverScope scope([](const nn::Module&, const mx::array&) {});
  return f();
}

mx::array normal(const mx::Shape& shape, uint64_t seed, mx::Dtype dtype = mx::float32,
                 float scale = 1) {
  return mx::astype(mx::random::normal(shape, mx::float32, 0, scale, mx::random::key(seed)), dtype);
}

// How many operations of each name are between y and what is evaluated.
std::map<std::string, int> operations(const mx::array& y) {
  std::map<std::string, int> count;
  std::set<std::uintptr_t> seen;
  std::set<const mx::Primitive*> counted;
  std::vector<mx::array> open{y};
  while (!open.empty()) {
    const mx::array a = open.back();
    open.pop_back();
    if (!seen.insert(a.id()).second || !a.has_primitive()) continue;
    if (counted.insert(&a.primitive()).second) ++count[a.primitive().name()];
    for (const mx::array& in : a.inputs()) open.push_back(in);
  }
  return count;
}

void expect_same_bits(const mx::array& got, const mx::array& want, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  ASSERT_EQ(got.dtype(), want.dtype()) << what;
  const auto differs = mx::not_equal(mx::view(mx::contiguous(got), mx::uint32),
                                     mx::view(mx::contiguous(want), mx::uint32));
  EXPECT_EQ(mx::sum(differs).item<int>(), 0)
      << what << ": largest difference " << mx::max(mx::abs(got - want)).item<float>();
}

// ---- Every family, through its own caches ----

// A prompt, then tokens one by one and a few at a time.
std::vector<mx::array> outputs(const LanguageModel& model, const CacheOptions& options) {
  Caches caches = model.make_caches(options);
  std::vector<mx::array> out;
  int token = 1;
  for (const int count : {12, 1, 1, 3, 1, 7, 1, 1, 2, 1}) {
    std::vector<int> ids;
    for (int i = 0; i < count; ++i) ids.push_back(token = (token * 29 + 7) % 61);
    out.push_back(model(golden::token_ids(ids), caches));
    mx::eval(out.back());
  }
  return out;
}

void compare_model(const LanguageModel& model, const CacheOptions& options,
                   const std::string& what) {
  for (const auto precision : {kernels::Precision::exact, kernels::Precision::high}) {
    const kernels::PrecisionScope scope(precision);
    const auto got = outputs(model, options);
    std::vector<mx::array> want;
    by_operations([&] {
      want = outputs(model, options);
      return want.back();
    });
    for (size_t i = 0; i < got.size(); ++i)
      expect_same_bits(got[i], want[i], fmt::format("{}, call {}", what, i));
  }
}

std::vector<std::string> fixture_names() {
  std::vector<std::string> names;
  for (const char* folder : {"llm", "gguf"})
    for (const auto& entry : fs::directory_iterator(test::golden_folder() / folder)) {
      const bool model = folder == std::string("gguf")
                             ? entry.path().extension() == ".gguf"
                             : fs::exists(entry.path() / "config.json") &&
                                   !fs::exists(entry.path() / "adapter_config.json");
      if (model) names.push_back(std::string(folder) + "/" + entry.path().filename().string());
    }
  std::sort(names.begin(), names.end());
  return names;
}

std::unique_ptr<LanguageModel> load(const std::string& name) {
  const fs::path path = test::golden_folder() / name;
  return make_language_model(path.extension() == ".gguf" ? load_checkpoint(GgufFile(path))
                                                         : golden::load_fixture_checkpoint(path),
                             model_types());
}

class Family : public ::testing::TestWithParam<std::string> {};

TEST_P(Family, GivesTheSameStepByStep) {
  const auto model = load(GetParam());
  compare_model(*model, {}, "plain cache");
  const CacheOptions rotating{.max_size = 9};
  try {
    model->make_caches(rotating);
  } catch (const Error&) {
    return;  // caches of another kind, which cannot
  }
  compare_model(*model, rotating, "rotating cache");
}

INSTANTIATE_TEST_SUITE_P(All, Family, ::testing::ValuesIn(fixture_names()), [](const auto& info) {
  std::string name = info.param;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

// Without phimoe-q4, whose experts' second product is in floats: 48 columns make no groups of 32.
TEST(LayerStep, ALayerIsOneOperation) {
  for (const char* name : {"llm/llama-q4", "llm/gemma3_text", "llm/qwen2", "llm/qwen3", "llm/phi",
                           "llm/phi3", "llm/exaone4", "llm/starcoder2", "gguf/internlm2.gguf",
                           "llm/bitnet", "llm/gemma3n", "llm/deepseek_v3-q4", "llm/qwen3_moe-q4"}) {
    const auto model = load(name);
    Caches caches = model->make_caches();
    mx::eval(model->hidden(golden::token_ids({1, 2, 3}), caches));
    const auto count = operations(model->hidden(golden::token_ids({4}), caches));
    // Gemma 3n has layers without a cache of their own.
    EXPECT_GE(count.contains("mlxcpp::LayerStep") ? count.at("mlxcpp::LayerStep") : 0,
              static_cast<int>(caches.size()))
        << name;
    for (const char* none : {"mlxcpp::KvStep", "mlxcpp::Activation", "mlxcpp::RoPE",
                             "mlxcpp::Route", "mlxcpp::GatherQuantizedMatmul", "mlxcpp::Ternary"})
      EXPECT_FALSE(count.contains(none)) << name << ": " << none;
  }
}

// ---- One layer, with everything that may differ ----

struct TestConfig : DecoderConfig {
  TestConfig() {
    hidden_size = 128;
    intermediate_size = 256;
    num_attention_heads = 4;
    num_key_value_heads = 2;
    head_dim = 64;
    rope.head_dim = 64;
  }
  std::shared_ptr<const nn::RoPE> table(bool traditional = false) const {
    return std::make_shared<const nn::RoPE>(rope, traditional);
  }
};

// Parameters that are not all ones and zeros.
void randomise(nn::Module& m, mx::Dtype dtype = mx::float32) {
  uint64_t seed = 0;
  m.map_parameters([&](const std::string&, const mx::array& value) {
    return normal(value.shape(), ++seed, dtype, value.ndim() == 1 ? 0.5f : 0.1f);
  });
}

struct Steps {
  int batch = 1;
  std::vector<int> lengths = {5, 1, 1, 2, 1};
};

using MakeCache = std::function<std::unique_ptr<KVCache>()>;

// The layer's outputs, and what its cache then holds.
template <class Layer>
std::vector<mx::array> outputs(const Layer& layer, const MakeCache& make, const Steps& steps) {
  const auto cache = make();
  std::vector<mx::array> out;
  uint64_t seed = 100;
  for (const int length : steps.lengths) {
    out.push_back(layer(normal({steps.batch, length, 128}, ++seed), cache.get()));
    mx::eval(out.back());
  }
  const auto state = cache->saved();
  for (const char* part : {"0", "1", "0.1", "1.1"})
    if (const auto* a = state.array(part)) out.push_back(mx::astype(*a, mx::float32));
  return out;
}

template <class Layer>
void compare_layer(
    const Layer& layer, const std::string& what,
    const MakeCache& make = [] { return make_cache(); }, const Steps& steps = {}) {
  const auto got = outputs(layer, make, steps);
  std::vector<mx::array> want;
  by_operations([&] {
    want = outputs(layer, make, steps);
    return want.back();
  });
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    expect_same_bits(got[i], want[i], fmt::format("{}, output {}", what, i));
}

template <class Layer>
void expect_one_operation(const Layer& layer) {
  const auto cache = make_cache();
  auto x = normal({1, 1, 128}, 3);
  x.eval();
  auto y = layer(x, cache.get());
  EXPECT_STREQ(y.primitive().name(), "mlxcpp::LayerStep");
}

TEST(LayerStep, OptionsOfAttention) {
  const TestConfig c;
  const std::pair<const char*, AttentionOptions> cases[] = {
      {"biases", {.qkv_bias = true, .output_bias = true, .rope = c.table()}},
      {"no positions, scale", {.scale = 0.3f}},
      {"pairs", {.rope = c.table(true)}},
      {"softcap", {.softcap = 2.0f, .rope = c.table()}},
      {"window", {.window = 3, .rope = c.table()}},
      {"norm of heads", {.qk_norm = QkNorm::rms, .rope = c.table()}},
      {"norm of heads, plus one", {.qk_norm = QkNorm::rms_plus_one, .rope = c.table()}},
      {"norm of all heads", {.qk_norm = QkNorm::rms_all_heads, .rope = c.table()}},
      {"layer norm of heads", {.qk_norm = QkNorm::layer, .rope = c.table()}},
  };
  for (const auto& [what, options] : cases) {
    PreNormLayer<> layer(c, gated_mlp(c), options);
    randomise(layer);
    expect_one_operation(layer);
    compare_layer(layer, what);
    nn::quantize_weights(layer, kernels::quant_type(QuantMode::affine, 64, 4));
    compare_layer(layer, std::string(what) + ", 4 bits");
  }
}

TEST(LayerStep, ShapesOfLayers) {
  TestConfig c;
  c.attention_bias = c.mlp_bias = true;
  c.residual_multiplier = 0.22f;
  {
    PreNormLayer<> layer(c, gated_mlp(c), AttentionOptions{.rope = c.table()});
    randomise(layer);
    expect_one_operation(layer);
    compare_layer(layer, "residual multiplier");
  }
  for (const char* act : {"gelu", "gelu_pytorch_tanh", "silu", "relu2"}) {
    c.hidden_act = act;
    PreNormLayer<Attention, nn::LayerNorm> layer(c, std::make_unique<MLP>(c),
                                                 AttentionOptions{.rope = c.table()});
    randomise(layer);
    compare_layer(layer, std::string("plain MLP, ") + act);
    PreNormLayer<> gated(c, gated_mlp(c), AttentionOptions{.rope = c.table()});
    randomise(gated);
    compare_layer(gated, std::string("gated MLP, ") + act);
  }
  c.hidden_act = "silu";
  {
    ParallelLayer layer(c, gated_mlp(c), AttentionOptions{.rope = c.table()});
    randomise(layer);
    expect_one_operation(layer);
    compare_layer(layer, "side by side");
  }
  c.norm_plus_one = true;
  for (const auto& names : {SandwichLayer::kGemma, SandwichLayer::kAfterAlone}) {
    SandwichLayer layer(c, names, gated_mlp(c), AttentionOptions{.rope = c.table()});
    randomise(layer);
    expect_one_operation(layer);
    compare_layer(layer, "norms after");
  }
  c.names.qkv_proj = "qkv_proj";
  c.names.gate_up_proj = "gate_up_proj";
  for (const bool grouped : {false, true}) {
    PreNormLayer<> layer(
        c, gated_mlp(c),
        AttentionOptions{
            .qkv_bias = true, .qkv_grouped = grouped, .qk_norm = QkNorm::rms, .rope = c.table()});
    randomise(layer);
    expect_one_operation(layer);
    compare_layer(layer, fmt::format("one projection, grouped {}", grouped));
  }
}

TEST(LayerStep, MixturesOfExperts) {
  using Scores = RoutingOptions::Scores;
  const TestConfig c;
  const RoutingOptions routing{.num_experts = 8, .num_experts_per_tok = 3};
  std::vector<std::pair<const char*, MoEOptions>> cases(
      5, {"", {.routing = routing, .moe_intermediate_size = 64}});
  cases[0].first = "softmax";
  cases[1].first = "softmax, normed, shared expert";
  cases[1].second.routing.norm_topk_prob = true;
  cases[1].second.shared_intermediate_size = 96;
  cases[2].first = "sigmoid, groups, bias";
  cases[2].second.routing.scores = Scores::sigmoid;
  cases[2].second.routing.n_group = 4;
  cases[2].second.routing.topk_group = 2;
  cases[2].second.routing.routed_scaling_factor = 2.5f;
  cases[2].second.correction_bias = "gate.e_score_correction_bias";
  cases[3].first = "sparse mixer, router with bias";
  cases[3].second.routing.scores = Scores::sparse_mixer;
  cases[3].second.router_bias = true;
  cases[4].first = "gated shared expert, which is no step";
  cases[4].second.shared_intermediate_size = 64;
  cases[4].second.shared_gate = true;
  const Steps steps{.batch = 2, .lengths = {5, 1, 3, 4, 1}};
  for (const auto& [what, options] : cases)
    for (const bool quantized : {true, false}) {
      PreNormLayer<> layer(c, std::make_unique<MoE>(128, "silu", options),
                           AttentionOptions{.rope = c.table()});
      randomise(layer);
      if (quantized) nn::quantize_weights(layer, kernels::quant_type(QuantMode::affine, 32, 4));
      if (quantized && !options.shared_gate) expect_one_operation(layer);
      const auto name = fmt::format("{}, quantised {}", what, quantized);
      compare_layer(layer, name);
      compare_layer(layer, name, [] { return make_cache(); }, steps);
    }
}

TEST(LayerStep, LatentAttention) {
  TestConfig c;
  c.rope.head_dim = 32;
  for (const bool compressed : {false, true}) {
    LatentAttentionConfig a;
    if (compressed) a.q_lora_rank = 64;
    a.kv_lora_rank = 96;
    a.qk_nope_head_dim = 64;
    a.qk_rope_head_dim = 32;
    a.v_head_dim = 32;
    for (const bool quantized : {true, false}) {
      PreNormLayer<LatentAttention> layer(c, gated_mlp(c), a, c.table(true), 0.11f);
      randomise(layer);
      if (quantized) {
        nn::quantize_weights(layer, kernels::quant_type(QuantMode::affine, 32, 4));
        expect_one_operation(layer);
      }
      const auto name = fmt::format("compressed {}, quantised {}", compressed, quantized);
      compare_layer(layer, name);
      compare_layer(layer, name, [] { return make_cache(); },
                    {.batch = 2, .lengths = {5, 1, 3, 4, 1, 90, 1}});
      compare_layer(layer, name + ", rotating", [] { return make_cache({.max_size = 9}); },
                    {.lengths = {3, 1, 8, 1, 1, 2, 1, 40, 1, 1}});
    }
  }
}

TEST(LayerStep, TypesOfWeights) {
  const TestConfig c;
  const auto make = [&] {
    auto layer = std::make_unique<PreNormLayer<>>(
        c, gated_mlp(c), AttentionOptions{.qkv_bias = true, .rope = c.table()});
    randomise(*layer);
    return layer;
  };
  for (const auto dtype : {mx::bfloat16, mx::float16}) {
    const auto layer = make();
    layer->cast(dtype);
    compare_layer(*layer, nn::dtype_name(dtype));
    nn::quantize_weights(*layer, kernels::quant_type(QuantMode::affine, 32, 8));
    compare_layer(*layer, nn::dtype_name(dtype) + ", 8 bits");
  }
  std::vector<kernels::QuantType> types;
  for (const int bits : {2, 3, 4, 5, 6, 8})
    types.push_back(kernels::quant_type(QuantMode::affine, 64, bits));
  types.push_back(kernels::quant_type(QuantMode::mxfp4, 32, 4));
  types.push_back(kernels::quant_type(QuantMode::mxfp8, 32, 8));
  types.push_back(kernels::quant_type(QuantMode::nvfp4, 16, 4));
  for (const auto& type : types)
    for (const auto precision :
         {kernels::Precision::fast, kernels::Precision::high, kernels::Precision::exact}) {
      const kernels::PrecisionScope scope(precision);
      const auto layer = make();
      nn::quantize_weights(*layer, type);
      compare_layer(*layer, fmt::format("{}, {} bits, {}", kernels::name(type.mode), type.bits,
                                        kernels::name(precision)));
    }
  // Each of its own type: what the input is rounded to is not shared.
  const auto layer = make();
  int n = 0;
  nn::quantize_weights(*layer, [&](const std::string&, const nn::Module&) {
    return ++n % 3 == 0 ? std::nullopt : std::optional(types[n % types.size()]);
  });
  expect_one_operation(*layer);
  compare_layer(*layer, "a type for each");
}

TEST(LayerStep, Caches) {
  const TestConfig c;
  PreNormLayer<> layer(c, gated_mlp(c), AttentionOptions{.window = 6, .rope = c.table()});
  randomise(layer);
  const Steps steps{.lengths = {3, 1, 8, 1, 1, 2, 1, 40, 1, 1}};
  const std::pair<const char*, MakeCache> caches[] = {
      {"rotating", [] { return make_cache({}, 6); }},
      {"rotating, first tokens kept", [] { return make_cache({.max_size = 9}); }},
      {"8 bits", [] { return make_cache({.bits = 8}); }},
      {"4 bits, later",
       [] { return make_cache({.bits = 4, .group_size = 32, .quantized_start = 4}); }},
      {"8 bits, rotating", [] { return make_cache({.max_size = 9, .bits = 8}); }},
      {"chunked",
       [] { return std::make_unique<AttentionCache>(KvLayout(KvLayout::Kind::chunked, 7)); }},
  };
  for (const auto& [what, make] : caches) compare_layer(layer, what, make, steps);
  const auto padded = [](const KvLayout& layout) {
    return [layout]() -> std::unique_ptr<KVCache> {
      return std::make_unique<AttentionCache>(layout, std::vector<int>{2, 0, 1});
    };
  };
  const Steps batch{.batch = 3, .lengths = {4, 1, 1, 2, 1}};
  compare_layer(layer, "padded rows", padded(KvLayout()), batch);
  compare_layer(layer, "padded rows, rotating", padded(KvLayout(KvLayout::Kind::rotating, 5)),
                batch);
  compare_layer(layer, "rows", [] { return make_cache(); }, batch);
}

TEST(LayerStep, AnyNumberOfThreads) {
  TestConfig c;
  c.intermediate_size = 1024;
  PreNormLayer<> layer(c, gated_mlp(c), AttentionOptions{.rope = c.table()});
  randomise(layer);
  nn::quantize_weights(layer, kernels::quant_type(QuantMode::affine, 64, 4));
  const int before = kernels::num_threads();
  const Steps steps{.lengths = {300, 1, 4, 1}};
  std::vector<std::vector<mx::array>> all;
  for (const int threads : {1, 2, 5}) {
    kernels::set_num_threads(threads);
    all.push_back(outputs(layer, [] { return make_cache(); }, steps));
    mx::synchronize();
  }
  kernels::set_num_threads(before);
  for (size_t t = 1; t < all.size(); ++t)
    for (size_t i = 0; i < all[0].size(); ++i)
      expect_same_bits(all[t][i], all[0][i], fmt::format("threads {}, output {}", t, i));
}

// ---- When a layer goes operation by operation ----

TEST(LayerStep, AnObserverSeesEveryModule) {
  const TestConfig c;
  PreNormLayer<> layer(c, gated_mlp(c), AttentionOptions{.rope = c.table()});
  const auto cache = make_cache();
  std::set<std::string> seen;
  const auto paths = layer.paths();
  const nn::ObserverScope scope(
      [&](const nn::Module& m, const mx::array&) { seen.insert(paths.at(&m)); });
  layer(normal({1, 1, 128}, 1), cache.get());
  for (const char* name : {"input_layernorm", "self_attn", "self_attn.q_proj", "self_attn.o_proj",
                           "post_attention_layernorm", "mlp", "mlp.gate_proj", "mlp.down_proj"})
    EXPECT_TRUE(seen.contains(name)) << name;
}

TEST(LayerStep, GradientsGoThroughTheOperations) {
  const TestConfig c;
  PreNormLayer<> layer(c, gated_mlp(c), AttentionOptions{.rope = c.table()});
  randomise(layer);
  const auto x = normal({1, 3, 128}, 1);
  const auto cache = make_cache();
  mx::eval(layer(x, cache.get()));  // has its plan by now
  const auto loss = [&](const nn::Arrays& in) {
    return mx::sum(mx::square(layer(in[0], nullptr)));
  };
  const auto [value, grads] = nn::value_and_grad(layer, loss)({x});
  ASSERT_TRUE(grads.contains("mlp.gate_proj.weight"));
  EXPECT_GT(mx::max(mx::abs(grads.at("self_attn.q_proj.weight"))).item<float>(), 0);
  const auto dx = mx::grad([&](const mx::array& a) { return loss({a}); })(x);
  EXPECT_EQ(dx.shape(), x.shape());
  // Of the norm's weight alone, all else being constant.
  layer.freeze();
  layer.unfreeze("post_attention_layernorm");
  const auto some = nn::value_and_grad(layer, loss)({x}).second;
  ASSERT_EQ(some.size(), 1u);
  EXPECT_GT(mx::max(mx::abs(some.begin()->second)).item<float>(), 0);
}

TEST(LayerStep, FollowsWeightsThatChange) {
  const TestConfig c;
  PreNormLayer<> layer(c, gated_mlp(c), AttentionOptions{.qkv_bias = true, .rope = c.table()});
  randomise(layer);
  compare_layer(layer, "before");
  for (const auto& [path, value] : layer.parameters()) {
    layer.update({{path, value * mx::array(1.5f)}});
    compare_layer(layer, path);
  }
}

TEST(LayerStep, OtherDtypesAndManyRows) {
  const TestConfig c;
  PreNormLayer<> layer(c, gated_mlp(c), AttentionOptions{.rope = c.table()});
  randomise(layer);
  compare_layer(layer, "nine rows", [] { return make_cache(); }, {.lengths = {9, 8, 9}});
  const auto cache = make_cache();
  const auto y = layer(normal({1, 1, 128}, 1, mx::float16), cache.get());
  EXPECT_FALSE(operations(y).contains("mlxcpp::LayerStep"));
  EXPECT_FALSE(
      operations(layer(normal({1, 9, 128}, 1), make_cache().get())).contains("mlxcpp::LayerStep"));
  EXPECT_THROW(layer(normal({1, 1, 64}, 1), make_cache().get()), Error);
}

void make_ternary(nn::Module& layer) {
  for (const char* part : {"self_attn", "mlp"}) nn::make_ternary(layer, part, {});
  randomise(layer);
  uint64_t seed = 1;
  layer.for_each_module([&](const std::string&, nn::Module& m) {
    if (auto* linear = dynamic_cast<nn::BitLinear*>(&m)) {
      const auto codes =
          mx::random::randint(0, 3, {4, linear->output_dims() / 4, linear->input_dims()}, mx::int32,
                              mx::random::key(++seed));
      const auto places = mx::reshape(mx::array({1, 4, 16, 64}), {4, 1, 1});
      linear->weight.set(mx::astype(mx::sum(codes * places, 0), mx::uint8));
      linear->weight_scale.set(mx::array({0.1f}));
    }
  });
}

// A prompt's rows go in a step too, where all weights are quantised or ternary.
TEST(LayerStep, Prompts) {
  const TestConfig c;
  const AttentionOptions options{.qk_norm = QkNorm::rms, .window = 40, .rope = c.table()};
  PreNormLayer<> before(c, gated_mlp(c), options);
  SandwichLayer around(c, SandwichLayer::kGemma, gated_mlp(c), options);
  ParallelLayer beside(c, gated_mlp(c), options);
  const auto compare = [&](auto& layer, const char* what) {
    const auto y = layer(normal({1, 70, 128}, 1), make_cache().get());
    EXPECT_STREQ(y.primitive().name(), "mlxcpp::LayerStep") << what;
    const std::pair<const char*, MakeCache> caches[] = {
        {"growing", [] { return make_cache(); }},
        {"rotating", [] { return make_cache({}, 40); }},
        {"first tokens kept", [] { return make_cache({.max_size = 33}); }},
        {"8 bits", [] { return make_cache({.bits = 8}); }},
        {"chunked",
         [] { return std::make_unique<AttentionCache>(KvLayout(KvLayout::Kind::chunked, 50)); }},
    };
    for (const auto& [cache, make] : caches)
      compare_layer(layer, fmt::format("{}, {}", what, cache), make,
                    {.lengths = {9, 70, 1, 64, 3, 30, 1}});
    compare_layer(layer, fmt::format("{}, rows", what), [] { return make_cache(); },
                  {.batch = 3, .lengths = {20, 1, 2, 300}});
    const auto padded = []() -> std::unique_ptr<KVCache> {
      return std::make_unique<AttentionCache>(KvLayout(), std::vector<int>{2, 0, 1});
    };
    compare_layer(layer, fmt::format("{}, padded rows", what), padded,
                  {.batch = 3, .lengths = {20, 1, 2}});
  };
  const auto quantised = [](auto& layer) -> auto& {
    randomise(layer);
    nn::quantize_weights(layer, kernels::quant_type(QuantMode::affine, 64, 4));
    return layer;
  };
  compare(quantised(before), "norm before");
  compare(quantised(around), "norm around");
  compare(quantised(beside), "side by side");
  PreNormLayer<> ternary(
      c, gated_mlp(c),
      AttentionOptions{.output_bias = true, .output_norm = "sub_norm", .rope = c.table()});
  make_ternary(ternary);
  compare(ternary, "ternary");
  const auto too_many = before(normal({1, 1025, 128}, 1), make_cache().get());
  EXPECT_STRNE(too_many.primitive().name(), "mlxcpp::LayerStep");
}

}  // namespace
}  // namespace mlxcpp::llm
