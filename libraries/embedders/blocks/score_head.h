#pragma once

#include <string>

#include "core/json.h"
#include "nn/activations.h"
#include "nn/linear.h"

namespace mlxcpp::embedders {

// Labels of a classification head: "num_labels", or the entries of "id2label"; 2 without either.
int num_labels(const ConfigReader& v);

// Throws unless there is one label: a score.
void check_one_label(int labels);

}  // namespace mlxcpp::embedders
