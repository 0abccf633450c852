#pragma once

#include <functional>
#include <future>
#include <memory>
#include <type_traits>

#include "lm_common/worker.h"
#include "stable_diffusion/pipeline.h"

namespace mlxcpp::sd {

// A model that any thread may use: it lives on a thread of its own, which does what it is asked in
// order. What a function returns must not hold arrays that are not evaluated.
class ModelContainer {
 public:
  // Makes the model on the container's thread; throws what that throws.
  explicit ModelContainer(std::function<std::unique_ptr<StableDiffusion>()> make)
      : home_(std::make_shared<Home>()),
        worker_(std::make_unique<Worker>([home = home_] { home->model.reset(); })) {
    worker_->perform([home = home_, make = std::move(make)] { home->model = make(); }).get();
  }

  // perform_two_stage gives the model up between its stages. From any thread.
  void set_conserve_memory(bool on) {
    worker_->perform([home = home_, on] { home->conserve_memory = on; }).get();
  }

  // f(model) on the container's thread; result or exception go into the future.
  template <class F>
  auto perform(F f) -> std::future<std::invoke_result_t<F&, StableDiffusion&>> {
    return worker_->perform([home = home_, f = std::move(f)]() mutable { return f(home->get()); });
  }

  // second(first(model)), such as denoising, then decoding with a detached decoder. Where memory is
  // conserved the model is gone before `second`, and for good: further calls end with an Error.
  template <class F, class G>
  auto perform_two_stage(F first, G second)
      -> std::future<std::invoke_result_t<G&, std::invoke_result_t<F&, StableDiffusion&>>> {
    return worker_->perform(
        [home = home_, first = std::move(first), second = std::move(second)]() mutable {
          auto between = first(home->get());
          if (home->conserve_memory) home->model.reset();
          return second(std::move(between));
        });
  }

 private:
  struct Home {
    std::unique_ptr<StableDiffusion> model;
    bool conserve_memory = false;
    StableDiffusion& get() const {
      if (!model) throw Error("the model was given up to conserve memory; make another container");
      return *model;
    }
  };

  std::shared_ptr<Home> home_;
  std::unique_ptr<Worker> worker_;
};

}  // namespace mlxcpp::sd
