#pragma once

#include "kernels/attention_kernel.h"

namespace mlxcpp::kernels {

// Runs the attention kernel of isa() on the thread pool. Few query rows against many keys are split
// over the keys; where, depends on the shapes alone, and parts are joined in order: the result does
// not depend on the number of threads. Sizes and pointers must be right (kernels/attention.h and
// kernels/kv_store.h check them).
void run_attention(const AttentionArgs& args);

}  // namespace mlxcpp::kernels
