#include "kernels/thread_pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"
#include "kernels/cpu_count.h"

namespace mlxcpp::kernels {
namespace {

using Clock = std::chrono::steady_clock;

// How long a worker looks for the next loop before it sleeps: longer than the gap between two
// operations of a model, shorter than what a neighbour would feel.
constexpr auto kWorkerSpin = std::chrono::microseconds(60);
// How long the caller looks for the end of others' last chunks: beyond it the others were most
// likely preempted, and need this CPU.
constexpr auto kCallerSpin = std::chrono::microseconds(30);

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

// Polls until done() or until the time is over. Yields now and then, so that under oversubscription
// a thread with work gets the CPU.
template <class Done>
bool spin_until(std::chrono::microseconds limit, Done done) {
  const auto end = Clock::now() + limit;
  for (int round = 1;; ++round) {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause();
    }
    if (Clock::now() >= end) return false;
    if (round % 8 == 0) sched_yield();
  }
}

thread_local bool in_loop = false;

struct LoopScope {
  LoopScope() { in_loop = true; }
  ~LoopScope() { in_loop = false; }
};

// One loop at a time. `state_` holds the loop's number, whether workers may still join it, and how
// many are in it. The caller closes the loop when no chunk is left and waits only for workers that
// have joined, so a worker that the system has not scheduled yet delays nobody.
class Pool {
 public:
  explicit Pool(int threads) : threads_(threads) {}

  int threads() const { return threads_.load(std::memory_order_relaxed); }

  bool try_acquire() { return !busy_.exchange(true, std::memory_order_acquire); }
  void acquire() {
    while (!try_acquire()) std::this_thread::yield();
  }
  void release() { busy_.store(false, std::memory_order_release); }

  // The caller holds the pool.
  void resize(int threads) {
    stop();
    threads_.store(threads, std::memory_order_relaxed);
  }

  // The caller holds the pool.
  void run(size_t count, void (*call)(void*, size_t), void* context) {
    start();
    call_ = call;
    context_ = context;
    count_ = count;
    failed_.store(false, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
    const uint32_t number = (state_.load(std::memory_order_relaxed) & kNumberMask) + kNumberStep;
    state_.store(number | kOpen, std::memory_order_release);
    wake(count - 1);
    work();
    state_.fetch_and(~kOpen, std::memory_order_relaxed);
    wait_for_workers();
    if (failed_.load(std::memory_order_relaxed)) std::rethrow_exception(std::move(error_));
  }

 private:
  static constexpr uint32_t kActiveMask = 0xfff;  // workers inside; kMaxThreads fits
  static constexpr uint32_t kOpen = 0x1000;
  static constexpr uint32_t kNumberStep = 0x2000;
  static constexpr uint32_t kNumberMask = ~(kNumberStep - 1);

  void start() {
    if (started_) return;
    started_ = true;
    // Signals are for the program's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      const int workers = threads() - 1;
      workers_.reserve(workers);
      const uint32_t seen = state_.load(std::memory_order_relaxed) & kNumberMask;
      for (int i = 0; i < workers; ++i) workers_.emplace_back([this, seen] { loop(seen); });
    } catch (const std::system_error&) {  // NOLINT(bugprone-empty-catch)
      // The system gives no more threads: those that there are do the work.
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void stop() {
    stopping_.store(true, std::memory_order_relaxed);
    wake(workers_.size());
    for (std::thread& t : workers_) t.join();
    workers_.clear();
    stopping_.store(false, std::memory_order_relaxed);
    started_ = false;
  }

  void wake(size_t wanted) {
    ticket_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    if (wanted >= workers_.size())
      ticket_.notify_all();
    else
      for (size_t i = 0; i < wanted; ++i) ticket_.notify_one();
  }

  void loop(uint32_t seen) {
    for (;;) {
      const uint32_t ticket = ticket_.load(std::memory_order_seq_cst);
      if (stopping_.load(std::memory_order_relaxed)) return;
      if (join(seen)) {
        work();
        leave();
        continue;
      }
      const auto woken = [&] { return ticket_.load(std::memory_order_acquire) != ticket; };
      if (spin_until(kWorkerSpin, woken)) continue;
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      ticket_.wait(ticket, std::memory_order_seq_cst);
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  bool join(uint32_t& seen) {
    uint32_t s = state_.load(std::memory_order_acquire);
    while ((s & kOpen) != 0 && (s & kNumberMask) != seen)
      if (state_.compare_exchange_weak(s, s + 1, std::memory_order_acquire)) {
        seen = s & kNumberMask;
        return true;
      }
    return false;
  }

  void leave() {
    // The last one out of a closed loop tells the caller, who may be asleep.
    const uint32_t s = state_.fetch_sub(1, std::memory_order_acq_rel) - 1;
    if ((s & (kActiveMask | kOpen)) == 0) state_.notify_all();
  }

  void work() {
    LoopScope scope;
    for (;;) {
      const size_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count_) return;
      try {
        call_(context_, i);
      } catch (...) {
        next_.store(count_, std::memory_order_relaxed);
        // error_ is read by the caller once all have left.
        if (!failed_.exchange(true, std::memory_order_relaxed)) error_ = std::current_exception();
      }
    }
  }

  void wait_for_workers() {
    const auto idle = [&] { return (state_.load(std::memory_order_acquire) & kActiveMask) == 0; };
    if (idle() || spin_until(kCallerSpin, idle)) return;
    for (;;) {
      const uint32_t s = state_.load(std::memory_order_acquire);
      if ((s & kActiveMask) == 0) return;
      state_.wait(s, std::memory_order_acquire);
    }
  }

  // What the caller writes for each loop, and what all threads write, on lines of their own.
  alignas(64) std::atomic<uint32_t> state_{0};
  alignas(64) std::atomic<size_t> next_{0};
  alignas(64) std::atomic<uint32_t> ticket_{0};
  std::atomic<uint32_t> sleepers_{0};
  alignas(64) void (*call_)(void*, size_t) = nullptr;
  void* context_ = nullptr;
  size_t count_ = 0;
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
  alignas(64) std::atomic<bool> busy_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<int> threads_;
  bool started_ = false;
  std::vector<std::thread> workers_;
};

// Never destroyed: streams may still run loops while the program's statics end. No lock guards it,
// since a lock could be held by a thread that a fork leaves behind.
std::atomic<Pool*> the_pool{nullptr};
std::atomic<int> wanted_threads{0};  // 0: not read from the environment yet

int initial_threads() {
  const char* text = std::getenv("MLXCPP_NUM_THREADS");
  if (text == nullptr || *text == '\0') return std::min(available_cpus(), kMaxThreads);
  int n = 0;
  const char* end = text + std::strlen(text);
  const auto [last, fault] = std::from_chars(text, end, n);
  if (fault != std::errc() || last != end || n < 1 || n > kMaxThreads)
    throw Error("MLXCPP_NUM_THREADS: expected a number from 1 to {}, found '{}'", kMaxThreads,
                text);
  return n;
}

Pool& pool() {
  if (Pool* p = the_pool.load(std::memory_order_acquire)) return *p;
  static const int kOnce = pthread_atfork(nullptr, nullptr, [] {
    // The parent's workers do not exist here. What the old pool owns stays as it is.
    static std::atomic<Pool*> inherited;
    inherited.store(the_pool.exchange(nullptr, std::memory_order_relaxed),
                    std::memory_order_relaxed);
  });
  (void)kOnce;
  if (wanted_threads.load(std::memory_order_relaxed) == 0) {
    int unset = 0;
    wanted_threads.compare_exchange_strong(unset, initial_threads());
  }
  auto made = std::make_unique<Pool>(wanted_threads.load(std::memory_order_relaxed));
  Pool* there = nullptr;
  if (the_pool.compare_exchange_strong(there, made.get(), std::memory_order_acq_rel))
    return *made.release();
  return *there;
}

}  // namespace

int num_threads() { return pool().threads(); }

void set_num_threads(int n) {
  if (n < 1 || n > kMaxThreads)
    throw Error("number of threads: expected 1 to {}, found {}", kMaxThreads, n);
  if (in_loop) throw Error("number of threads: cannot change inside a parallel loop");
  Pool& p = pool();
  p.acquire();
  wanted_threads.store(n, std::memory_order_relaxed);
  if (n != p.threads()) p.resize(n);
  p.release();
}

void detail::run_chunks(size_t count, void (*call)(void*, size_t), void* context) {
  if (!in_loop) {
    Pool& p = pool();
    if (p.threads() > 1 && p.try_acquire()) {
      struct Release {
        Pool& p;
        ~Release() { p.release(); }
      } release{p};
      p.run(count, call, context);
      return;
    }
  }
  for (size_t i = 0; i < count; ++i) call(context, i);
}

}  // namespace mlxcpp::kernels
