#include "lm_common/model_container.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <thread>

#include "lm_common/fake_model.h"

namespace mlxcpp {
namespace {

using mlxcpp::testing::TinyModel;

std::shared_ptr<ModelContainer> tiny_container(uint64_t seed = 7) {
  return std::make_shared<ModelContainer>(
      [seed] { return ModelContext{.model = std::make_unique<TinyModel>(seed), .tokenizer = {}}; });
}

GenerateParameters sampled(uint64_t seed) {
  GenerateParameters p;
  p.max_tokens = 16;
  p.temperature = 1.2f;
  p.top_p = 0.97f;
  p.seed = seed;
  return p;
}

std::vector<int> ids_of(GenerationStream stream) {
  std::vector<int> ids;
  for (const Generation& g : stream)
    if (g.token()) ids.push_back(g.token()->id);
  return ids;
}

// One answer as one piece of work.
std::future<std::vector<int>> ask(ModelContainer& container, std::vector<int> prompt,
                                  uint64_t seed) {
  return container.perform([prompt = std::move(prompt), seed](ModelContext& context) {
    Caches caches = context.model->make_caches();
    return ids_of(generate(*context.model, caches, prompt, {.parameters = sampled(seed)}));
  });
}

TEST(ModelContainer, EightThreadsGiveWhatEachGivesAlone) {
  const auto container = tiny_container();
  constexpr int kThreads = 8;
  const auto prompt = [](int i) { return std::vector<int>{i + 1, 2 * i + 3, 40 - i, 7}; };
  std::vector<std::vector<int>> alone, together(kThreads);
  for (int i = 0; i < kThreads; ++i) alone.push_back(ask(*container, prompt(i), i).get());
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i)
      threads.emplace_back([&, i] { together[i] = ask(*container, prompt(i), i).get(); });
  }
  EXPECT_EQ(together, alone);
}

TEST(ModelContainer, TwoContainersAtTheSameTime) {
  const auto a = tiny_container(1), b = tiny_container(2);
  const std::vector<int> prompt = {3, 1, 4, 1, 5};
  const auto alone_a = ask(*a, prompt, 1).get(), alone_b = ask(*b, prompt, 1).get();
  EXPECT_NE(alone_a, alone_b);
  for (int i = 0; i < 5; ++i) {
    auto from_a = ask(*a, prompt, 1), from_b = ask(*b, prompt, 1);
    EXPECT_EQ(from_a.get(), alone_a);
    EXPECT_EQ(from_b.get(), alone_b);
  }
}

TEST(ModelContainer, LoadingFails) {
  try {
    ModelContainer container([]() -> ModelContext { throw Error("no such model"); });
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "no such model");
  }
}

TEST(ModelContainer, ExceptionsEndTheFuture) {
  const auto container = tiny_container();
  auto bad = container->perform([](ModelContext&) -> int { throw Error("inside"); });
  EXPECT_THROW(bad.get(), Error);
  auto shape = container->perform([](ModelContext& c) {
    Caches none;
    return c.model->hidden(mx::zeros({2, 3, 4, 5}, mx::int32), none).size();
  });
  EXPECT_THROW(shape.get(), std::exception);
  EXPECT_FALSE(ask(*container, {1, 2}, 1).get().empty()) << "it goes on";
}

TEST(ModelContainer, DestroyedWithWorkQueued) {
  auto container = tiny_container();
  std::latch begun(1), finish(1);
  auto running = container->perform([&](ModelContext&) {
    begun.count_down();
    finish.wait();
  });
  std::vector<std::future<std::vector<int>>> waiting;
  for (int i = 0; i < 10; ++i) waiting.push_back(ask(*container, {1, 2}, i));
  begun.wait();
  std::jthread end([&] { container.reset(); });
  for (auto& w : waiting) EXPECT_THROW(w.get(), Error);
  finish.count_down();
  end.join();
  EXPECT_NO_THROW(running.get());
}

TEST(ModelContainer, PerformInsidePerform) {
  const auto container = tiny_container();
  const auto inner =
      container->perform([&](ModelContext&) { return ask(*container, {5, 6}, 3).get(); });
  EXPECT_EQ(const_cast<std::future<std::vector<int>>&>(inner).get(),
            ask(*container, {5, 6}, 3).get());
}

TEST(ModelContainer, UpdateChangesTheContext) {
  const auto container = tiny_container();
  container->update([](ModelContext& c) { c.configuration.default_prompt = "changed"; });
  EXPECT_EQ(
      container->perform([](ModelContext& c) { return c.configuration.default_prompt; }).get(),
      "changed");
  EXPECT_THROW(container->update([](ModelContext&) { throw Error("no"); }), Error);
}

TEST(ModelContainer, PrecisionIsTheContainersOwn) {
  const auto make = [] {
    return ModelContext{.model = std::make_unique<TinyModel>(), .tokenizer = {}};
  };
  const auto ask_precision = [](ModelContext&) { return kernels::precision(); };
  ModelContainer exact(make, {.precision = kernels::Precision::exact});
  ModelContainer fast(make, {.precision = kernels::Precision::fast});
  EXPECT_EQ(exact.perform(ask_precision).get(), kernels::Precision::exact);
  EXPECT_EQ(fast.perform(ask_precision).get(), kernels::Precision::fast);
  EXPECT_EQ(kernels::precision(), kernels::Precision::high) << "this thread's is untouched";
}

class CountingAdapter final : public ModelAdapter {
 public:
  void load(LanguageModel&) const override { ++on; }
  void unload(LanguageModel&) const override { --on; }
  void fuse(LanguageModel&) const override {}
  mutable std::atomic<int> on = 0;
};

TEST(ModelContainer, AdapterIsOnMeanwhileAndOffAgain) {
  const auto container = tiny_container();
  const auto adapter = std::make_shared<CountingAdapter>();
  EXPECT_EQ(container->perform(adapter, [&](ModelContext&) { return adapter->on.load(); }).get(),
            1);
  EXPECT_EQ(container->perform([&](ModelContext&) { return adapter->on.load(); }).get(), 0);
  auto bad = container->perform(adapter, [](ModelContext&) { throw Error("no"); });
  EXPECT_THROW(bad.get(), Error);
  EXPECT_EQ(adapter->on, 0);
}

}  // namespace
}  // namespace mlxcpp
