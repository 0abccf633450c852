// What `fast` costs: 8-bit weights and activations next to f32, on the real all-MiniLM-L6-v2 and
// 200 sentences of many lengths, from one word on, which suffer most.
#include <gtest/gtest.h>

#include "embedders/embedder.h"
#include "kernels/precision.h"
#include "support/real_model.h"

namespace mlxcpp::embedders {
namespace {

std::vector<std::string> sentences() {
  std::vector<std::string> out{
      "no",
      "yes",
      "Hello",
      "bread",
      "",
      "!!!",
      "3.14",
      "C++",
      "I like pasta.",
      "How tall is Mount Everest?",
      "Ça va ?",
      "東京は日本の首都です",
      "Кошка спит на крыше.",
      "café naïve",
      "https://example.org/a/b?c=d#e",
      "SELECT name FROM users WHERE id = 7;",
      "int main() { return 0; }",
      "WHY ARE YOU SHOUTING?",
      "a a a a a a a a a a a a a a a a",
      "The index is written to a new file, and takes the place of the old one when it is whole.",
  };
  const std::vector<std::string> who{"The quick fox",
                                     "A banker from Oslo",
                                     "My old phone",
                                     "The river",
                                     "Nobody",
                                     "Quantum theory",
                                     "The second chapter",
                                     "An angry crowd",
                                     "Our database server",
                                     "This sentence"};
  const std::vector<std::string> does{
      "jumps over the lazy dog",
      "was sold for twelve dollars",
      "fell silent",
      "lost its signal in the tunnel, so that we had to turn back before it was dark",
      "describes the strong interaction",
      "needs flour, water, salt and yeast"};
  const std::vector<std::string> when{".", " on 3 May 1998.",
                                      ", because the contract that both parties had signed said "
                                      "nothing about what would happen in such a case."};
  for (const auto& a : who)
    for (const auto& b : does)
      for (const auto& c : when) out.push_back(fmt::format("{} {}{}", a, b, c));
  return out;
}

TEST(FastEmbedder, StaysNearF32OnTwoHundredSentences) {
  const ModelFiles files = resolve_model(golden::kMiniLM, {.offline = true});
  const auto texts = sentences();
  ASSERT_EQ(texts.size(), 200u);
  const auto want = Embedder(files).embed(texts);
  const Embedder fast(files,
                      {{.quantize = kernels::quant_type(kernels::QuantMode::affine, 32, 8)}});
  const kernels::PrecisionScope scope(kernels::Precision::fast);
  auto cosines = mx::sum(want * fast.embed(texts), 1);
  cosines.eval();
  float least = 1, sum = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const float c = cosines.data<float>()[i];
    EXPECT_GE(c, 0.9995f) << texts[i];
    least = std::min(least, c);
    sum += c;
  }
  RecordProperty("least", std::to_string(least));
  RecordProperty("mean", std::to_string(sum / 200));
}

}  // namespace
}  // namespace mlxcpp::embedders
