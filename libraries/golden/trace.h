#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "golden/comparison.h"
#include "lm_common/language_model.h"

// The intermediates of a forward pass, to find where two implementations part. The file is
// safetensors; "order" in its metadata is a JSON list of the names as they were computed.
// docs/testing-and-debugging.md shows how to use it; docs/trace_transformers.py writes such a file
// from transformers.
namespace mlxcpp::golden {

struct Trace {
  std::vector<std::string> order;  // "input_ids", paths of modules as they answer, "logits"
  std::map<std::string, mx::array> tensors;

  // A module that answers more than once has "#2", "#3", ... after its path.
  void add(const std::string& name, const mx::array& value);
};

// ids int32 [B, L], without caches. On the thread of the model's arrays.
Trace trace(const LanguageModel& model, const mx::array& ids);

void save_trace(const std::filesystem::path& file, const Trace& trace);
// Error, naming the file, if it is no trace.
Trace load_trace(const std::filesystem::path& file);

// Holds what both have against each other, in the order of `want`. Forms that hold the same are
// taken for each other: of four axes the first three in another order (heads and positions), the
// axes before the last in one. Error if less than half of the smaller one has a partner in the
// other, or they start from other ids.
Comparison compare_traces(const Trace& got, const Trace& want, Tolerance tolerance);

}  // namespace mlxcpp::golden
