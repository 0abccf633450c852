#include "lm_common/model_container.h"

#include "core/log.h"
#include "lm_common/memory.h"

namespace mlxcpp {

ModelContainer::ModelContainer(std::function<ModelContext()> make, ContainerOptions options)
    : home_(std::make_shared<Home>()) {
  bound_memory_by_default();
  const mx::Device device = options.device.value_or(mx::default_device());
  home_->options = options;
  worker_ = std::make_unique<Worker>([home = home_] {
    try {
      mx::synchronize();  // an answer that was dropped may have left a token in the making
    } catch (const std::exception& e) {
      log::debug("{}", e.what());  // nobody waits for it any more
    }
    home->context.reset();  // on the thread of its arrays
    mx::clear_streams();
  });
  worker_
      ->perform([this, device, make = std::move(make)] {
        mx::set_default_device(device);  // a setting of each thread
        const kernels::PrecisionScope scope(home_->options.precision);
        home_->context.emplace(make());
        configuration_ = home_->context->configuration;
        tokenizer_ = home_->context->tokenizer;
      })
      .get();
}

std::shared_ptr<ModelContainer> load_model_container(const ModelConfiguration& configuration,
                                                     const ModelTypes& types,
                                                     const DownloadOptions& download,
                                                     const ContainerOptions& options) {
  return std::make_shared<ModelContainer>(
      [&] { return load_model_context(configuration, types, download); }, options);
}

}  // namespace mlxcpp
