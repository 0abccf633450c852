#include "hub/progress.h"

#include <algorithm>

namespace mlxcpp::hub {
namespace {

constexpr std::chrono::milliseconds kInterval{100};
constexpr std::chrono::seconds kSpeedWindow{5};

}  // namespace

void ProgressMeter::received(const std::string& file, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  received_ += bytes;
  progress_.done += bytes;
  report(file, false);
}

void ProgressMeter::present(const std::string& file, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  progress_.done += static_cast<uint64_t>(bytes);  // wraps to a subtraction when negative
  report(file, false);
}

void ProgressMeter::finish() {
  const std::lock_guard lock(mutex_);
  progress_.finished = true;
  if (!progress_.file.empty()) report(progress_.file, true);
}

void ProgressMeter::report(const std::string& file, bool always) {
  const auto now = Clock::now();
  if (!callback_ || (!always && now - reported_ < kInterval)) return;
  reported_ = now;
  progress_.file = file;
  // Files of unknown size are in no total beforehand.
  if (progress_.total) progress_.total = std::max(progress_.total, progress_.done);
  window_.emplace_back(now, received_);
  while (now - window_.front().first > kSpeedWindow && window_.size() > 2) window_.pop_front();
  const std::chrono::duration<double> time = now - window_.front().first;
  if (time.count() > 0)
    progress_.bytes_per_second =
        static_cast<double>(received_ - window_.front().second) / time.count();
  callback_(progress_);
}

}  // namespace mlxcpp::hub
