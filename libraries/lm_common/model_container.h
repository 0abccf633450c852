#pragma once

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include "kernels/precision.h"
#include "lm_common/adapter.h"
#include "lm_common/model_context.h"
#include "lm_common/worker.h"

namespace mlxcpp {

struct ContainerOptions {
  kernels::Precision precision = kernels::Precision::high;
  // Where arrays live and are computed; none: the default device of the thread that makes the
  // container.
  std::optional<mx::Device> device = {};
};

// A model that any thread may use. It has one thread of its own on which the model's arrays live
// and all work on them is done, in the order it is asked for:
//   container.perform([](ModelContext& context) { return context.prepare("Hi").tokens; }).get();
// What a function returns or captures must not hold arrays that are not evaluated.
class ModelContainer {
 public:
  // Loads the model with `make`, on the container's thread; throws what that throws.
  explicit ModelContainer(std::function<ModelContext()> make, ContainerOptions options = {});

  // f(context) on the container's thread; the result or exception goes into the future. When the
  // container is destroyed first, the future ends with an Error. Called from work that is itself
  // being performed, it runs at once.
  template <class F>
  auto perform(F f) -> std::future<std::invoke_result_t<F&, ModelContext&>> {
    return worker_->perform([home = home_, f = std::move(f)]() mutable {
      const kernels::PrecisionScope scope(home->options.precision);
      return f(*home->context);
    });
  }
  // The same with an adapter on the model meanwhile, and off again whatever happens.
  template <class F>
  auto perform(std::shared_ptr<const ModelAdapter> adapter, F f)
      -> std::future<std::invoke_result_t<F&, ModelContext&>> {
    return perform([adapter = std::move(adapter), f = std::move(f)](ModelContext& c) mutable {
      const AdapterScope scope(*c.model, *adapter);
      return f(c);
    });
  }
  // Changes the context, and waits until that is done.
  template <class F>
  void update(F f) {
    perform([&f](ModelContext& c) { f(c); }).get();
  }

  // As they were after loading; from any thread.
  const ModelConfiguration& configuration() const { return configuration_; }
  const std::shared_ptr<const Tokenizer>& tokenizer() const { return tokenizer_; }
  bool on_worker() const { return worker_->on_worker(); }

 private:
  // What lives on the thread, which may outlive this object.
  struct Home {
    ContainerOptions options;
    std::optional<ModelContext> context;
  };

  std::shared_ptr<Home> home_;
  std::unique_ptr<Worker> worker_;
  ModelConfiguration configuration_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

// A container with the model that load_model_context gives.
std::shared_ptr<ModelContainer> load_model_container(const ModelConfiguration& configuration,
                                                     const ModelTypes& types,
                                                     const DownloadOptions& download = {},
                                                     const ContainerOptions& options = {});

}  // namespace mlxcpp
