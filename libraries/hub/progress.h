#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "hub/model_source.h"

namespace mlxcpp::hub {

// Adds up what the workers of one download report, and passes it on at most ten times a second.
// Thread-safe; the callback runs in the thread that reports, one call at a time.
class ProgressMeter {
 public:
  ProgressMeter(std::function<void(const Progress&)> callback, uint64_t total)
      : callback_(std::move(callback)) {
    progress_.total = total;
  }

  void received(const std::string& file, uint64_t bytes);  // from the network
  void present(const std::string& file, int64_t bytes);    // already here; negative: was useless
  void finish();                                           // the last report

 private:
  using Clock = std::chrono::steady_clock;
  void report(const std::string& file, bool always);

  std::mutex mutex_;
  std::function<void(const Progress&)> callback_;
  Progress progress_;
  uint64_t received_ = 0;
  std::deque<std::pair<Clock::time_point, uint64_t>> window_;  // what was received when
  Clock::time_point reported_{};
};

}  // namespace mlxcpp::hub
