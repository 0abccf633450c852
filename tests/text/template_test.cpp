// Chat templates against transformers (golden/text/templates.json, made by
// tests/scripts/make_text_goldens.py).
#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "tests/support/paths.h"
#include "tests/support/throws.h"
#include "text/chat_template.h"

namespace mlxcpp {
namespace {

OrderedJson read_ordered(const std::string& name) {
  std::ifstream in(test::golden_folder() / "text" / name);
  return OrderedJson::parse(in);
}

TEST(ChatTemplates, AreRenderedAsTransformersDoes) {
  const OrderedJson golden = read_ordered("templates.json");
  std::map<std::string, std::string> special_tokens;
  for (const auto& [name, text] : golden["special_tokens"].items()) special_tokens[name] = text;
  for (const OrderedJson& test : golden["cases"]) {
    const auto source = golden["templates"][test["template"].get<int>()].get<std::string>();
    const OrderedJson& messages = golden["messages"][test["messages"].get<int>()];
    const OrderedJson& kwargs = golden["kwargs"][test["kwargs"].get<int>()];
    std::string text, error;
    try {
      text = ChatTemplate({{"default", source}}, special_tokens).render(messages, kwargs);
    } catch (const Error& e) {
      error = e.what();
      EXPECT_EQ(error.find('\n'), std::string::npos);
    }
    const auto name = test["name"].get<std::string>();
    if (test.contains("rendered"))
      EXPECT_EQ(error + text, test["rendered"].get<std::string>()) << name;
    else
      EXPECT_NE(error, "") << name << "\ngave: " << text << "\nexpected: " << test["error"];
  }
}

// As in transformers: the conversation cannot be given twice, special tokens may be replaced.
TEST(ChatTemplates, ArgumentsWithTheNamesOfOthers) {
  const ChatTemplate t({{"default", "{{ bos_token }}{{ messages | length }}"}},
                       {{"bos_token", "<s>"}}, "a.jinja");
  const OrderedJson messages = {{{"role", "user"}, {"content", "Hi"}}};
  EXPECT_EQ(t.render(messages, {{"bos_token", "B"}}), "B1");
  EXPECT_EQ(test::error_of([&] { t.render(messages, {{"messages", 7}}); }),
            "a.jinja: context: 'messages' is given twice: it names the conversation itself");
}

}  // namespace
}  // namespace mlxcpp
