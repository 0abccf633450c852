#include "embedders/blocks/score_head.h"

namespace mlxcpp::embedders {

int num_labels(const ConfigReader& v) {
  ConfigReader reader = v;
  int labels = 2;
  if (const auto it = v.json().find("id2label"); it != v.json().end() && it->is_object())
    labels = static_cast<int>(it->size());
  reader.maybe("num_labels", labels);
  return labels;
}

void check_one_label(int labels) {
  if (labels != 1)
    throw Error("a reranker's head has one label, this model's has {}: it classifies", labels);
}

}  // namespace mlxcpp::embedders
