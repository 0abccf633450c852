#include "vlm/number_words.h"

#include <array>

namespace mlxcpp::vlm {

std::string number_words(int n) {
  constexpr std::array kSmall = {"zero",    "one",     "two",       "three",    "four",
                                 "five",    "six",     "seven",     "eight",    "nine",
                                 "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                                 "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
  constexpr std::array kTens = {"twenty", "thirty",  "forty",  "fifty",
                                "sixty",  "seventy", "eighty", "ninety"};
  if (n < 0 || n > kMostNumberInWords) return std::to_string(n);
  if (n < 20) return kSmall[static_cast<size_t>(n)];
  if (n < 100) {
    const std::string ten = kTens[static_cast<size_t>(n / 10 - 2)];
    return n % 10 == 0 ? ten : ten + "-" + kSmall[static_cast<size_t>(n % 10)];
  }
  const std::string hundred = number_words(n / 100) + " hundred";
  return n % 100 == 0 ? hundred : hundred + " and " + number_words(n % 100);
}

}  // namespace mlxcpp::vlm
