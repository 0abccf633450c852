// The queue of a container. A program of its own: nothing here computes, so that it runs under
// ThreadSanitizer without the noise of libraries that are not instrumented.
#include "lm_common/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace mlxcpp {
namespace {

using ::testing::HasSubstr;

template <class T>
std::string error_of(std::future<T> future) {
  try {
    future.get();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Worker, ReturnsResultsOfAnyKind) {
  Worker worker;
  EXPECT_EQ(worker.perform([] { return 7; }).get(), 7);
  EXPECT_EQ(*worker.perform([] { return std::make_unique<int>(3); }).get(), 3);
  bool ran = false;
  worker.perform([&ran] { ran = true; }).get();
  EXPECT_TRUE(ran);
  auto owned = std::make_unique<int>(5);
  EXPECT_EQ(worker.perform([owned = std::move(owned)] { return *owned; }).get(), 5);
}

TEST(Worker, AllOnOneThreadAndNotThisOne) {
  Worker worker;
  const auto a = worker.perform([] { return std::this_thread::get_id(); }).get();
  const auto b = worker.perform([] { return std::this_thread::get_id(); }).get();
  EXPECT_EQ(a, b);
  EXPECT_NE(a, std::this_thread::get_id());
  EXPECT_FALSE(worker.on_worker());
  EXPECT_TRUE(worker.perform([&] { return worker.on_worker(); }).get());
}

TEST(Worker, KeepsTheOrderOfEachCaller) {
  Worker worker;
  constexpr int kThreads = 8, kEach = 500;
  std::vector<std::vector<int>> seen(kThreads);  // written by the worker alone
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        std::vector<std::future<void>> done;
        for (int i = 0; i < kEach; ++i)
          done.push_back(worker.perform([&seen, t, i] { seen[t].push_back(i); }));
        for (auto& d : done) d.get();
      });
  }
  for (const auto& one : seen) {
    ASSERT_EQ(one.size(), static_cast<size_t>(kEach));
    for (int i = 0; i < kEach; ++i) EXPECT_EQ(one[i], i);
  }
}

TEST(Worker, ExceptionsGoIntoTheFuture) {
  Worker worker;
  auto bad = worker.perform([]() -> int { throw Error("no {}", "luck"); });
  EXPECT_EQ(error_of(std::move(bad)), "no luck");
  EXPECT_EQ(worker.perform([] { return 1; }).get(), 1) << "it goes on";
}

TEST(Worker, WhatItAsksOfItselfRunsAtOnce) {
  Worker worker;
  const int got = worker
                      .perform([&worker] {
                        auto inner = worker.perform(
                            [&worker] { return worker.perform([] { return 20; }).get() + 1; });
                        return inner.get() * 2;
                      })
                      .get();
  EXPECT_EQ(got, 42);
}

TEST(Worker, DestroyedWithWorkQueuedEndsEveryFuture) {
  std::latch begun(1), finish(1);
  std::vector<std::future<int>> waiting;
  std::future<int> running;
  std::atomic<int> ran = 0;
  auto payload = std::make_shared<int>(1);
  auto worker = std::make_unique<Worker>();
  running = worker->perform([&] {
    begun.count_down();
    finish.wait();
    return 1;
  });
  for (int i = 0; i < 100; ++i)
    waiting.push_back(worker->perform([&ran, payload] { return ++ran; }));
  begun.wait();
  std::jthread end([&] { worker.reset(); });
  for (auto& w : waiting) EXPECT_THAT(error_of(std::move(w)), HasSubstr("closed"));
  finish.count_down();
  end.join();
  EXPECT_EQ(running.get(), 1) << "work in progress is finished";
  EXPECT_EQ(ran, 0);
  EXPECT_EQ(payload.use_count(), 1) << "abandoned work has let go of what it held";
}

TEST(Worker, DestroyedByItsOwnWork) {
  std::atomic<bool> ended = false;
  auto worker = std::make_shared<Worker>([&ended] {
    ended = true;
    ended.notify_all();
  });
  std::latch shared(1);
  auto done = worker->perform([worker, &shared]() mutable {
    shared.wait();
    worker.reset();  // the last one
    return 3;
  });
  worker.reset();
  shared.count_down();
  EXPECT_EQ(done.get(), 3);
  ended.wait(false);
}

TEST(Worker, EndsOnItsOwnThread) {
  std::thread::id at_end;
  std::thread::id home;
  {
    Worker worker([&] { at_end = std::this_thread::get_id(); });
    home = worker.perform([] { return std::this_thread::get_id(); }).get();
  }
  EXPECT_EQ(at_end, home);
}

TEST(Worker, WorkIsGoneWhenItsFutureIsReady) {
  Worker worker;
  for (int i = 0; i < 200; ++i) {
    auto held = std::make_shared<int>(i);
    worker.perform([held] { return *held; }).get();
    EXPECT_EQ(held.use_count(), 1);
  }
}

TEST(Worker, ManyCallersWhileItIsClosed) {
  for (int round = 0; round < 20; ++round) {
    auto worker = std::make_shared<Worker>();
    std::atomic<int> ended = 0;
    constexpr int kThreads = 4, kEach = 50;
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < kThreads; ++t)
        threads.emplace_back([worker, &ended] {
          for (int i = 0; i < kEach; ++i) {
            try {
              worker->perform([] { return 0; }).get();
            } catch (const Error&) {  // NOLINT(bugprone-empty-catch): it has ended, too
            }
            ++ended;
          }
        });
      worker.reset();
    }
    EXPECT_EQ(ended, kThreads * kEach);
  }
}

}  // namespace
}  // namespace mlxcpp
