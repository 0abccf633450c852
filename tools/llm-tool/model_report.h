#pragma once

#include <string>

#include "hub/model_source.h"
#include "lm_common/generate_parameters.h"
#include "lm_common/model_configuration.h"

namespace mlxcpp::tools {

// The effective configuration of a model, for people: type, sizes, quantisation, processor, memory
// forecast. Weights are not loaded.
std::string model_report(const ModelConfiguration& configuration, const DownloadOptions& download,
                         const GenerateParameters& parameters);

}  // namespace mlxcpp::tools
