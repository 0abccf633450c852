#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/json.h"
#include "lm_common/tools/formats.h"
#include "lm_common/tools/reasoning.h"
#include "tests/support/paths.h"

namespace mlxcpp {
namespace {

struct Outcome {
  std::string shown;
  Json calls = Json::array();
  bool operator==(const Outcome&) const = default;
};

// The text given in pieces that end at `cuts`.
Outcome parse(const std::string& format, const std::vector<ToolSpec>& specs, std::string_view text,
              const std::vector<size_t>& cuts) {
  const auto processor = tool_call_processor(format, specs);
  Outcome out;
  std::vector<ToolCall> calls;
  size_t begin = 0;
  for (const size_t cut : cuts) {
    out.shown += processor->add(text.substr(begin, cut - begin), calls);
    begin = cut;
  }
  out.shown += processor->add(text.substr(begin), calls);
  out.shown += processor->finish(calls);
  for (const ToolCall& c : calls)
    out.calls.push_back({{"name", c.name}, {"arguments", c.arguments}});
  return out;
}

std::vector<size_t> every_byte(size_t length) {
  std::vector<size_t> cuts;
  for (size_t i = 1; i < length; ++i) cuts.push_back(i);
  return cuts;
}

const Json& transcripts() {
  static const Json all = read_json(test::tests_folder() / "lm_common/tool_transcripts.json");
  return all;
}

std::vector<ToolSpec> specs_of(const Json& transcript) {
  std::vector<ToolSpec> specs;
  for (const auto& [name, types] : transcript.at("types").items()) {
    ToolSpec& spec = specs.emplace_back(ToolSpec{.name = name});
    for (const auto& [key, type] : types.items())
      spec.parameters.push_back({.name = key, .type = type.get<std::string>()});
  }
  return specs;
}

class ToolCalls : public ::testing::TestWithParam<std::string> {};

TEST_P(ToolCalls, OfEveryTranscriptAreFoundHoweverItIsCut) {
  int count = 0;
  for (const Json& t : transcripts()) {
    if (t.at("format") != GetParam()) continue;
    ++count;
    const auto text = t.at("text").get<std::string>();
    SCOPED_TRACE(t.at("source").get<std::string>() + "\n" + text);
    const auto specs = specs_of(t);
    const Outcome whole = parse(GetParam(), specs, text, {});
    EXPECT_EQ(whole.calls, t.at("calls"));
    EXPECT_EQ(whole.shown, t.at("shown").get<std::string>());
    ASSERT_EQ(parse(GetParam(), specs, text, every_byte(text.size())), whole);
    for (size_t cut = 1; cut < text.size(); ++cut)
      ASSERT_EQ(parse(GetParam(), specs, text, {cut}), whole) << "cut at " << cut;
  }
  EXPECT_GE(count, 20);
}

// A call without its end, or with a byte of its marks or brackets changed, is text or another call;
// where there is no call, nothing of the text is lost.
TEST_P(ToolCalls, ThatAreMalformedLeaveTheText) {
  int count = 0;
  for (const Json& t : transcripts()) {
    if (t.at("format") != GetParam()) continue;
    const auto text = t.at("text").get<std::string>();
    const auto specs = specs_of(t);
    for (size_t k = 1; k <= 10; ++k) {
      std::string bad = text;
      if (k % 2 == 0)
        bad.resize(text.size() * k / 11);
      else
        bad[text.size() * k / 11] = "\x80}<\"("[k / 2];
      ++count;
      const Outcome whole = parse(GetParam(), specs, bad, {});
      if (whole.calls.empty()) {
        EXPECT_EQ(whole.shown, bad);
      }
      EXPECT_EQ(parse(GetParam(), specs, bad, every_byte(bad.size())), whole) << bad;
    }
  }
  EXPECT_GE(count, 200);
}

TEST_P(ToolCalls, AreNotSeenInProse) {
  for (const std::string text :
       {"Hello.", "  leading and trailing  \n", "a < b > c [d] {e} (f) `g` <", "<tool", "", "\n",
        "```python\nprint(1)\n```", "get_time\nis a function", "{not JSON}", "[1, 2]"}) {
    const Outcome whole = parse(GetParam(), {{.name = "get_time"}}, text, {});
    EXPECT_EQ(whole.shown, text);
    EXPECT_TRUE(whole.calls.empty());
  }
}

TEST_P(ToolCalls, ThatNestTooDeepAreText) {
  const std::string deep(5000, '[');
  for (const std::string mark :
       {"<tool_call>", "[TOOL_CALLS]", "<|tool_call|>", "<code>f(x=", "<|START_ACTION|>",
        "<start_function_call>call:f{x:", "<|tool_call_start|>", "{\"name\": "})
    EXPECT_EQ(parse(GetParam(), {}, mark + deep, {}).shown, mark + deep);
}

INSTANTIATE_TEST_SUITE_P(Formats, ToolCalls, ::testing::ValuesIn(tool_call_formats()),
                         [](const auto& format) { return format.param; });

TEST(ToolCallFormats, AreChosenFromTheTemplate) {
  const std::map<std::string, std::string> templates = {
      {"{{- '<tool_call>\\n' }}", "json"},
      {"<tool_call>{% for %}<arg_key>", "glm4"},
      {"'[TOOL_CALLS]' + tool_calls", "mistral"},
      {"'Environment: ipython\\n'", "llama3"},
      {"'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'", "deepseek"},
      {"<|tool_call_start|>", "lfm2"},
      {"<|START_ACTION|>", "cohere"},
      {"<|tool|><|/tool|><|tool_call|>", "phi4"},
      {"<start_function_call>", "gemma"}};
  for (const auto& [text, format] : templates) EXPECT_EQ(tool_call_format_of(text), format) << text;
  EXPECT_EQ(tool_call_format_of("{{ messages }}"), std::nullopt);
  EXPECT_THROW(tool_call_processor("xml"), Error);
}

TEST(Tools, AreDescribedAndReadBack) {
  const ToolSpec spec{.name = "add",
                      .description = "Adds.",
                      .parameters = {{.name = "a", .type = "number", .description = "One"},
                                     {.name = "b", .type = "number", .required = false}}};
  const auto back = tool_specs(tools_json({spec}));
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].json(), spec.json());
  EXPECT_FALSE(back[0].parameter("b")->required);
  EXPECT_THROW(tool_specs(Json::parse(R"([{"description": "no name"}])")), Error);
  EXPECT_THROW(tool_specs(Json::parse(R"({"name": "no list"})")), Error);
}

TEST(Tools, AreExecutedWithCheckedArguments) {
  const Tool add{
      {.name = "add",
       .parameters = {{.name = "a", .type = "integer"}, {.name = "b", .type = "integer"}}},
      [](const Json& j) { return std::to_string(j["a"].get<int>() + j["b"].get<int>()); }};
  EXPECT_EQ(execute({"add", {{"a", 2}, {"b", 3}}}, {add}), "5");
  const auto message = [&](const ToolCall& call) {
    try {
      return execute(call, {add});
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  EXPECT_THAT(message({"add", {{"a", 2}}}), ::testing::HasSubstr("'b' is missing"));
  EXPECT_THAT(message({"add", {{"a", 2}, {"b", "3"}}}), ::testing::HasSubstr("type integer"));
  EXPECT_THAT(message({"add", {{"a", 2}, {"b", 3}, {"c", 4}}}), ::testing::HasSubstr("'c'"));
  EXPECT_THAT(message({"sub", Json::object()}), ::testing::HasSubstr("there are: add"));
}

TEST(Reasoning, IsSplitFromTheAnswerHoweverItIsCut) {
  struct Case {
    bool begun;
    std::string text, reasoning, answer;
  };
  for (const Case& c :
       std::vector<Case>{{false, "<think>a</b</think>\n\nyes", "a</b", "yes"},
                         {true, "a\n</think>yes </think>", "a\n", "yes </think>"},
                         {false, "yes <think>", "", "yes <think>"},
                         {false, " <thin", "", " <thin"},
                         {false, "<think>never closed </thi", "never closed </thi", ""}})
    for (size_t cut = 0; cut <= c.text.size(); ++cut) {
      ReasoningSplitter splitter(c.begun);
      std::string reasoning, answer;
      for (const auto& p : {splitter.add(c.text.substr(0, cut)), splitter.add(c.text.substr(cut)),
                            splitter.finish()}) {
        reasoning += p.reasoning;
        answer += p.answer;
      }
      EXPECT_EQ(reasoning, c.reasoning);
      EXPECT_EQ(answer, c.answer) << c.text << " cut at " << cut;
    }
}

}  // namespace
}  // namespace mlxcpp
