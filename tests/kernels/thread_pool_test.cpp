#include "kernels/thread_pool.h"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <mlx/backend/cpu/encoder.h>
#include <mlx/mlx.h>
#include <mlx/primitives.h>

#include "core/error.h"
#include "kernels/cpu_count.h"

namespace mlxcpp::kernels {
namespace {

namespace fs = std::filesystem;

// The pool's size for the time of a test.
class ThreadPool : public ::testing::Test {
 protected:
  ThreadPool() : before_(num_threads()) { set_num_threads(4); }
  ~ThreadPool() override { set_num_threads(before_); }

 private:
  int before_;
};

TEST_F(ThreadPool, VisitsEveryIndexOnceInChunksOfTheGrain) {
  for (const int threads : {1, 2, 7}) {
    set_num_threads(threads);
    EXPECT_EQ(num_threads(), threads);
    for (const size_t n : {0, 1, 2, 5, 64, 1000})
      for (const size_t grain : {0, 1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> seen(n);
        const size_t step = std::max<size_t>(grain, 1);
        parallel_for(n, grain, [&](size_t b, size_t e) {
          EXPECT_EQ(b % step, 0u);
          EXPECT_EQ(e, std::min(n, b + step));
          for (size_t i = b; i < e; ++i) ++seen[i];
        });
        for (const auto& s : seen) EXPECT_EQ(s, 1);
      }
  }
}

TEST_F(ThreadPool, ManySmallLoopsLoseNothing) {
  std::vector<uint64_t> cells(16, 0);
  for (int round = 0; round < 20000; ++round)
    parallel_for(cells.size(), 1, [&](size_t b, size_t e) {
      for (size_t i = b; i < e; ++i) cells[i] += i;
    });
  for (size_t i = 0; i < cells.size(); ++i) EXPECT_EQ(cells[i], 20000 * i);
}

TEST_F(ThreadPool, WakesAfterSleep) {
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int> sum{0};
    parallel_for(100, 1, [&](size_t b, size_t) { sum += static_cast<int>(b); });
    EXPECT_EQ(sum, 4950);
  }
}

TEST_F(ThreadPool, RethrowsAndSurvives) {
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> ran{0};
    EXPECT_THROW(parallel_for(64, 1,
                              [&](size_t b, size_t) {
                                ++ran;
                                if (b % 2 == 1) throw std::runtime_error("chunk");
                              }),
                 std::runtime_error);
    EXPECT_GE(ran, 1);
    std::atomic<int> after{0};
    parallel_for(64, 1, [&](size_t, size_t) { ++after; });
    EXPECT_EQ(after, 64);
  }
}

// As our kernels are: a task on MLX's thread that spreads over the pool.
class OutOfMemory : public mlx::core::UnaryPrimitive {
 public:
  using UnaryPrimitive::UnaryPrimitive;
  void eval_cpu(const std::vector<mlx::core::array>&, mlx::core::array& out) override {
    out.set_data(mlx::core::allocator::malloc(out.nbytes()));
    mlx::core::cpu::get_command_encoder(stream()).dispatch([] {
      parallel_for(64, 1, [](size_t b, size_t) {
        if (b == 40) throw std::bad_alloc();
      });
    });
  }
  void eval_gpu(const std::vector<mlx::core::array>&, mlx::core::array&) override {}
  const char* name() const override { return "OutOfMemory"; }
};

TEST_F(ThreadPool, OutOfMemoryInsideATaskSurfacesAtEval) {
  namespace mx = mlx::core;
  for (int round = 0; round < 3; ++round) {
    mx::array x({4}, mx::float32,
                std::make_shared<OutOfMemory>(mx::default_stream(mx::Device::cpu)), {});
    EXPECT_THROW(
        {
          x.eval();
          mx::synchronize(mx::default_stream(mx::Device::cpu));
        },
        std::exception);  // MLX hands its text on
    std::atomic<int> after{0};
    parallel_for(64, 1, [&](size_t, size_t) { ++after; });
    EXPECT_EQ(after, 64);
    EXPECT_EQ(mx::sum(mx::ones({3}, mx::float32)).item<float>(), 3);
  }
}

TEST_F(ThreadPool, NestedLoopsRunInPlace) {
  std::atomic<int> inner{0};
  parallel_for(8, 1, [&](size_t, size_t) {
    const auto self = std::this_thread::get_id();
    parallel_for(8, 1, [&](size_t, size_t) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      ++inner;
    });
    EXPECT_THROW(set_num_threads(2), Error);
  });
  EXPECT_EQ(inner, 64);
}

TEST_F(ThreadPool, ManyCallersAtOnce) {
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int c = 0; c < 8; ++c)
    callers.emplace_back([&, c] {
      for (int round = 0; round < 300; ++round) {
        std::vector<int> cells(33, 0);
        bool thrown = false;
        try {
          parallel_for(cells.size(), 2, [&](size_t b, size_t e) {
            for (size_t i = b; i < e; ++i) cells[i] = c;
            if (c == 3 && b == 32) throw std::runtime_error("caller 3");
          });
        } catch (const std::runtime_error&) {
          thrown = true;
        }
        if (thrown != (c == 3)) ++wrong;
        if (!thrown)
          for (const int cell : cells) wrong += cell != c;
      }
    });
  for (int round = 0; round < 20; ++round) set_num_threads(1 + round % 5);
  for (auto& t : callers) t.join();
  EXPECT_EQ(wrong, 0);
}

// TSan stops a child of a threaded process that starts threads.
#if !defined(__SANITIZE_THREAD__)
TEST_F(ThreadPool, RestartsInAForkedChild) {
  std::atomic<int> sum{0};
  parallel_for(100, 1, [&](size_t, size_t) { ++sum; });
  for (int round = 0; round < 5; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      std::atomic<int> counted{0};
      bool threaded = num_threads() == 4;
      for (int i = 0; i < 50; ++i) parallel_for(100, 1, [&](size_t, size_t) { ++counted; });
      _exit(counted == 5000 && threaded ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  parallel_for(100, 1, [&](size_t, size_t) { ++sum; });
  EXPECT_EQ(sum, 200);
}
#endif

TEST_F(ThreadPool, RefusesWrongSizes) {
  EXPECT_THROW(set_num_threads(0), Error);
  EXPECT_THROW(set_num_threads(kMaxThreads + 1), Error);
  EXPECT_EQ(num_threads(), 4);
}

// More threads than CPUs, and as many busy neighbours: each loop still ends.
TEST_F(ThreadPool, WorksOversubscribed) {
  set_num_threads(3 * static_cast<int>(std::thread::hardware_concurrency()));
  std::atomic<bool> stop{false};
  std::vector<std::thread> neighbours;
  for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i)
    neighbours.emplace_back([&] {
      while (!stop) {
      }
    });
  std::atomic<int> sum{0};
  for (int round = 0; round < 300; ++round) parallel_for(64, 1, [&](size_t, size_t) { ++sum; });
  stop = true;
  for (auto& t : neighbours) t.join();
  EXPECT_EQ(sum, 300 * 64);
}

// A tree of control groups in a folder of its own.
class ControlGroups : public ::testing::Test {
 protected:
  ControlGroups() {
    std::string pattern = (fs::temp_directory_path() / "cgroup-XXXXXX").string();
    root_ = mkdtemp(pattern.data());
  }
  ~ControlGroups() override { fs::remove_all(root_); }

  void write(const fs::path& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  std::optional<double> limit() { return cgroup_cpu_limit(root_ / "membership", root_ / "mount"); }

  fs::path root_;
};

TEST_F(ControlGroups, NoneMeansNoLimit) {
  EXPECT_EQ(limit(), std::nullopt);
  write("membership", "0::/a/b\n");
  EXPECT_EQ(limit(), std::nullopt);
  write("mount/a/b/cpu.max", "max 100000\n");
  EXPECT_EQ(limit(), std::nullopt);
}

TEST_F(ControlGroups, Version2TakesTheTightestParent) {
  write("membership", "0::/a/b\n");
  write("mount/a/b/cpu.max", "400000 100000\n");
  EXPECT_EQ(limit(), 4.0);
  write("mount/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(limit(), 1.5);
}

TEST_F(ControlGroups, Version1) {
  write("membership", "4:memory:/x\n3:cpu,cpuacct:/docker/1\n");
  write("mount/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");  // the container's own root
  write("mount/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(limit(), 2.5);
  write("mount/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(limit(), std::nullopt);
}

TEST(CpuCount, IsWithinTheMachine) {
  EXPECT_GE(available_cpus(), 1);
  EXPECT_LE(available_cpus(), 1 << 16);
}

}  // namespace
}  // namespace mlxcpp::kernels
