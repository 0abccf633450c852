#pragma once

#include <string>

namespace mlxcpp::vlm {

inline constexpr int kMostNumberInWords = 999;

// 0 to 999 in English, as num2words writes them: "twenty-one", "one hundred and five". Others in
// digits.
std::string number_words(int n);

}  // namespace mlxcpp::vlm
