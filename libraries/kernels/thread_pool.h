#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

namespace mlxcpp::kernels {

// The one thread pool of the process, which all kernels share. It starts with the first parallel
// loop. Its size is MLXCPP_NUM_THREADS, or else the number of CPUs that the process may use (see
// cpu_count.h); affinity is left alone. After fork the child starts a pool of its own.
int num_threads();

// Sets the size from now on (1 to kMaxThreads, otherwise Error); waits for a running loop to end.
// Not from inside a loop.
void set_num_threads(int n);

inline constexpr int kMaxThreads = 1024;

namespace detail {
// Calls call(context, i) for i in [0, count), on the pool where it is free, else on this thread.
void run_chunks(size_t count, void (*call)(void* context, size_t i), void* context);
}  // namespace detail

// f(begin, end) over [0, n) in chunks of `grain` (at least 1; the last may be shorter). The chunks
// depend on n and grain alone, never on the number of threads, so a loop whose chunks are
// independent gives the same bits for any pool. The calling thread takes part and returns when all
// is done. Inside another loop, or while another thread has the pool, it runs serially here.
// An exception in f is rethrown here, after the chunks in progress have ended; the rest is skipped.
// f must not fork. Any thread may call this.
template <class F>
void parallel_for(size_t n, size_t grain, F&& f) {
  if (n == 0) return;
  if (grain == 0) grain = 1;
  if (n <= grain) {
    f(size_t{0}, n);
    return;
  }
  struct Context {
    std::remove_reference_t<F>* f;
    size_t n, grain;
  } context{std::addressof(f), n, grain};
  detail::run_chunks((n - 1) / grain + 1,
                     [](void* p, size_t i) {
                       const auto& c = *static_cast<Context*>(p);
                       const size_t begin = i * c.grain;
                       (*c.f)(begin, c.n - begin > c.grain ? begin + c.grain : c.n);
                     },
                     &context);
}

}  // namespace mlxcpp::kernels
