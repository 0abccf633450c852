#include "lm_common/worker.h"

namespace mlxcpp {

Worker::Worker(std::function<void()> at_end) : state_(std::make_shared<State>()) {
  state_->at_end = std::move(at_end);
  thread_ = std::thread([state = state_] { loop(state); });
}

Worker::~Worker() {
  std::deque<std::unique_ptr<Job>> left;
  {
    const std::lock_guard lock(state_->mutex);
    state_->closed = true;
    left.swap(state_->queue);
  }
  state_->changed.notify_one();
  for (const auto& job : left) job->abandon();
  left.clear();
  if (on_worker())
    thread_.detach();
  else
    thread_.join();
}

bool Worker::on_worker() const { return std::this_thread::get_id() == thread_.get_id(); }

void Worker::submit(std::unique_ptr<Job> job) {
  if (on_worker()) return job->run();
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->closed) {
      state_->queue.push_back(std::move(job));
      state_->changed.notify_one();
      return;
    }
  }
  job->abandon();
}

void Worker::loop(const std::shared_ptr<State>& state) {
  while (true) {
    std::unique_ptr<Job> job;
    {
      std::unique_lock lock(state->mutex);
      state->changed.wait(lock, [&] { return state->closed || !state->queue.empty(); });
      if (state->closed) break;
      job = std::move(state->queue.front());
      state->queue.pop_front();
    }
    job->run();
  }
  if (state->at_end) state->at_end();
}

}  // namespace mlxcpp
