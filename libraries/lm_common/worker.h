#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "core/error.h"

namespace mlxcpp {

// One thread that does work in the order it is handed in. Any thread may hand in work, the worker
// itself included: what it asks of itself it does at once, since waiting for its own queue would
// never end.
class Worker {
 public:
  // `at_end` runs on the thread after the last work, to take down what lives there.
  explicit Worker(std::function<void()> at_end = {});
  // Waits for the work in progress; the futures of work not begun end with an Error. When the
  // worker itself runs this (its work held the last reference), the thread ends by itself after
  // that work.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Runs f() on the thread; its result or exception goes into the future. f is destroyed there
  // before the future is ready (or here, when it never runs).
  template <class F>
  auto perform(F f) -> std::future<std::invoke_result_t<F&>> {
    auto job = std::make_unique<JobOf<F>>(std::move(f));
    auto future = job->future();
    submit(std::move(job));
    return future;
  }

  bool on_worker() const;  // is this its thread?

 private:
  class Job {
   public:
    virtual ~Job() = default;
    virtual void run() = 0;
    virtual void abandon() = 0;  // instead of run()
  };

  template <class F>
  class JobOf final : public Job {
   public:
    using Result = std::invoke_result_t<F&>;
    explicit JobOf(F f) : f_(std::move(f)) {}
    std::future<Result> future() { return promise_.get_future(); }

    void run() override {
      try {
        if constexpr (std::is_void_v<Result>) {
          (*f_)();
          f_.reset();
          promise_.set_value();
        } else {
          Result result = (*f_)();
          f_.reset();
          promise_.set_value(std::move(result));
        }
      } catch (...) {
        f_.reset();
        promise_.set_exception(std::current_exception());
      }
    }
    void abandon() override {
      f_.reset();
      promise_.set_exception(
          std::make_exception_ptr(Error("closed before this work was begun; ask again elsewhere")));
    }

   private:
    std::optional<F> f_;
    std::promise<Result> promise_;
  };

  // Shared with the thread, which may outlive this object.
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<std::unique_ptr<Job>> queue;
    bool closed = false;
    std::function<void()> at_end;
  };

  void submit(std::unique_ptr<Job> job);
  static void loop(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace mlxcpp
