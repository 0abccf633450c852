// Templates and tokenizer files that mean harm, and files that are just broken: each ends in an
// Error of one line, soon and in little memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <fstream>

#include "core/error.h"
#include "text/tokenizer.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), Not(HasSubstr("\n")));
    return e.what();
  }
  return "no error";
}

std::string render_error(const std::string& source) {
  return error_of([&] {
    const std::map<std::string, std::string> sources = {{"default", source}};
    ChatTemplate(sources, {}, "model").render(OrderedJson::parse(R"([{"role": "user"}])"));
  });
}

TEST(HostileTemplates, AreStopped) {
  const std::string doubled =
      "{% set ns = namespace(x=['x' * 100]) %}{% for i in range(60) %}"
      "{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
  const std::string nested =
      "{% set ns = namespace(x=[]) %}{% for i in range(50000) %}{% set ns.x = [ns.x] %}{% endfor "
      "%}";
  for (const std::string& source : {
           std::string(
               "{% for i in range(90000) %}{% for j in range(90000) %}x{% endfor %}{% endfor %}"),
           std::string("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
           std::string("{{ 'a' * 100000000000 }}"),
           std::string("{{ [1] * 100000000000 }}"),
           std::string("{{ 'x' | indent(99999999999) }}"),
           std::string("{{ 'x'.center(99999999999) }}"),
           std::string("{{ 'x'.zfill(99999999999) }}"),
           std::string("{{ '\t'.expandtabs(99999999999) }}"),
           std::string("{{ '{:>999999999}'.format(1) }}"),
           std::string("{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}"),
           std::string("{{ (['a'] * 100000) | join('b' * 100000) }}"),
           std::string("{{ strftime_now('%c' * 1000) }}"),
           doubled + "{{ ns.x }}",
           doubled + "{{ ns.x ~ '' }}",
           doubled + "{{ ns.x | tojson }}",
           doubled + "{{ ns.x | upper }}",
           fmt::format("{0}{0}{0}{0}{0}{0}", nested),
           nested + "{{ ns.x | tojson }}",
           std::string(100000, '(') + "{{",
           "{{ " + std::string(100000, '('),
           "{{ " + std::string(100000, '['),
           "{% if x %}" + std::string(1 << 20, '{'),
       })
    EXPECT_THAT(render_error(source), HasSubstr("model: ")) << source.substr(0, 100);
  std::string ifs;
  for (int i = 0; i < 50000; ++i) ifs += "{% if x %}";
  EXPECT_THAT(render_error(ifs), HasSubstr("model: "));
}

TEST(Templates, ErrorsNameFileAndLine) {
  EXPECT_EQ(render_error("a\nb\n{{ raise_exception('no\nway') }}"), "model: default:3: no way");
  EXPECT_THAT(render_error("a\n{% if %}"), HasSubstr("model: default:2: "));
  EXPECT_THAT(render_error("\n\n{{ nosuch.attribute }}"), HasSubstr("model: default:3: "));
}

TEST(Templates, NeedMessagesAndTheRightTypes) {
  const std::map<std::string, std::string> sources = {{"default", "{{ messages }}"}};
  const ChatTemplate t(sources, {}, "model");
  const OrderedJson user = OrderedJson::parse(R"([{"role": "user", "content": "x"}])");
  EXPECT_EQ(error_of([&] { t.render(OrderedJson::array()); }),
            "model: messages: the conversation is empty");
  EXPECT_THAT(error_of([&] { t.render(OrderedJson::parse("[1]")); }), HasSubstr("messages"));
  EXPECT_THAT(error_of([&] { t.render(user, OrderedJson::array()); }), HasSubstr("context"));
  EXPECT_THAT(error_of([&] { t.render(user, {{"tools", "x"}}); }), HasSubstr("tools"));
  const std::map<std::string, std::string> other = {{"other", "x"}};
  EXPECT_THAT(error_of([&] { ChatTemplate(other).render(user); }), HasSubstr("other"));
}

class TokenizerFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ =
        fs::temp_directory_path() / fmt::format("mlxcpp_text_{}_{}", test->name(), ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  std::string load_error() {
    return error_of([&] {
      const auto tokenizer = Tokenizer::from_folder(folder_);
      tokenizer->decode(tokenizer->encode("Hello, world"));
    });
  }
  // tokenizer.json around `parts`, with a model that knows "a", "b" and "ab".
  std::string with_parts(const std::string& parts) {
    write("tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
      "merges": ["a b"]})" + parts +
                                "}");
    return load_error();
  }
  fs::path folder_;
};

TEST_F(TokenizerFolder, BrokenFilesAreErrors) {
  EXPECT_THAT(load_error(), HasSubstr("no tokenizer"));
  for (const char* json :
       {"", "{", "[]", "{}", R"({"model": 1})", R"({"model": {"type": "BPE"}})",
        R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 4000000000}, "merges": []}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 9000000}, "merges": []}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})",
        R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b", "c"]]}})",
        R"({"model": {"type": "Unigram", "vocab": [["a", 0]], "unk_id": 7}})",
        R"({"model": {"type": "Unigram", "vocab": [], "unk_id": 0}})",
        R"({"model": {"type": "Nothing", "vocab": {}}})"}) {
    write("tokenizer.json", json);
    EXPECT_THAT(load_error(), HasSubstr("tokenizer.json: ")) << json;
  }
  fs::remove(folder_ / "tokenizer.json");
  for (const std::string& model :
       {std::string(), std::string("\x0a"), std::string("\x0a\xff\xff\xff\xff\x0f"),
        std::string("\x12\x02\x18\x03"), std::string(20, '\xff'), std::string("\x0b")}) {
    write("tokenizer.model", model);
    EXPECT_THAT(load_error(), HasSubstr("tokenizer.model: "));
  }
  fs::remove(folder_ / "tokenizer.model");
  write("vocab.json", R"({"a": 0})");
  EXPECT_THAT(load_error(), HasSubstr("merges.txt"));
  write("merges.txt", "#version\na b\n");
  EXPECT_THAT(load_error(), HasSubstr("'b' is not in the vocabulary"));
  fs::remove(folder_ / "vocab.json");
  write("vocab.txt", "a\nb\n");
  EXPECT_THAT(load_error(), HasSubstr("not in the vocabulary"));
  write("tokenizer_config.json", "[");
  EXPECT_THAT(load_error(), HasSubstr("tokenizer_config.json"));
}

TEST_F(TokenizerFolder, HostilePartsAreStopped) {
  EXPECT_EQ(with_parts(""), "no error");
  EXPECT_THAT(with_parts(R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("},
    "behavior": "Isolated", "invert": false})"),
              HasSubstr("pre_tokenizer"));
  EXPECT_THAT(with_parts(R"(, "normalizer": {"type": "Nothing"})"), HasSubstr("normalizer"));
  // Each step doubles the text.
  std::string steps;
  for (int i = 0; i < 60; ++i)
    steps += std::string(i ? "," : "") +
             R"({"type": "Replace", "pattern": {"Regex": "."}, "content": "xx"})";
  EXPECT_THAT(with_parts(R"(, "normalizer": {"type": "Sequence", "normalizers": [)" + steps + "]}"),
              HasSubstr("normalizer"));
  std::string nested;
  for (int i = 0; i < 50; ++i) nested += R"({"type": "Sequence", "pretokenizers": [)";
  EXPECT_NE(with_parts(R"(, "pre_tokenizer": )" + nested + "1"), "no error");
  EXPECT_NE(with_parts(", \"padding\": " + std::string(100000, '[')), "no error");
  // A regular expression that backtracks exponentially.
  write("tokenizer.json", R"({"model": {"type": "WordLevel", "vocab": {"x": 0}, "unk_token": "x"},
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a|a|aa)+$"}, "behavior": "Isolated",
    "invert": false}})");
  EXPECT_THAT(
      error_of([&] { Tokenizer::from_folder(folder_)->encode(std::string(60, 'a') + "b"); }),
      AllOf(HasSubstr("tokenizer.json: "), HasSubstr("retry")));
}

TEST_F(TokenizerFolder, TextMustBeUtf8) {
  with_parts("");
  const auto tokenizer = Tokenizer::from_folder(folder_);
  EXPECT_THAT(error_of([&] { tokenizer->encode("ab\xff"); }), HasSubstr("UTF-8 at byte 2"));
  EXPECT_EQ(tokenizer->decode(std::vector<int>{-1, 2, 1000000, INT32_MAX}), "ab");
  EXPECT_EQ(tokenizer->id_to_token(-1), "");
  EXPECT_EQ(tokenizer->token_to_id("nothing"), std::nullopt);
  EXPECT_FALSE(tokenizer->has_chat_template());
  EXPECT_THAT(error_of([&] {
                tokenizer->apply_chat_template(OrderedJson::parse(R"([{"role": "user"}])"));
              }),
              HasSubstr("no chat template"));
}

TEST_F(TokenizerFolder, TemplatesAreChosenAsTransformersDoes) {
  with_parts("");
  const auto messages = OrderedJson::parse(R"([{"role": "user", "content": "x"}])");
  const auto rendered = [&](const OrderedJson& context = OrderedJson::object()) {
    return Tokenizer::from_folder(folder_)->apply_chat_template(messages, context);
  };
  write("tokenizer_config.json",
        R"({"chat_template": "config {{ bos_token }}", "bos_token": "a"})");
  EXPECT_EQ(rendered(), "config a");
  write("chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(rendered(), "json");
  write("chat_template.jinja", "jinja");
  EXPECT_EQ(rendered(), "jinja");
  EXPECT_EQ(rendered({{"tools", OrderedJson::array()}}), "jinja");
  fs::create_directory(folder_ / "additional_chat_templates");
  write("additional_chat_templates/tool_use.jinja", "tools");
  EXPECT_EQ(rendered(), "jinja");
  EXPECT_EQ(rendered({{"tools", OrderedJson::array()}}), "tools");
}

TEST(GgufVocabularies, AreChecked) {
  GgufVocabulary v;
  v.where = "x.gguf";
  const auto error = [&] { return error_of([&] { Tokenizer::from_gguf(v); }); };
  v.model = "gpt2";
  EXPECT_THAT(error(), HasSubstr("x.gguf: tokenizer.ggml.tokens"));
  v.tokens = {"a", "b", "ab"};
  v.merges = {"a b"};
  EXPECT_EQ(error(), "no error");
  v.pre = "nothing";
  EXPECT_THAT(error(), HasSubstr("'nothing' is not a known pre-tokenizer"));
  v.pre = "qwen2";
  v.ids["bos"] = 3;
  EXPECT_THAT(error(), HasSubstr("tokenizer.ggml.bos_token_id is 3"));
  v.ids["bos"] = 2;
  v.merges = {"a c"};
  EXPECT_THAT(error(), HasSubstr("tokenizer.ggml.merges"));
  v.merges = {"ab"};
  EXPECT_THAT(error(), HasSubstr("tokenizer.ggml.merges[0]"));
  v.model = "llama";
  EXPECT_THAT(error(), HasSubstr("tokenizer.ggml.scores"));
  v.scores = {1, 2};
  EXPECT_THAT(error(), HasSubstr("expected 3 entries, found 2"));
  v.model = "none";
  v.scores.clear();
  EXPECT_THAT(error(), HasSubstr("tokenizer.ggml.model"));
}

// Every name that llama.cpp knows makes a tokenizer, and all of them keep the text.
TEST(GgufVocabularies, EveryPreTokenizer) {
  std::vector<std::string> bytes;
  for (int byte = 0, next = 256; byte < 256; ++byte) {
    const bool shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    const int c = shown ? byte : next++;
    if (c < 128)
      bytes.push_back(std::string(1, static_cast<char>(c)));
    else
      bytes.push_back({static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))});
  }
  GgufVocabulary v;
  v.model = "gpt2";
  v.tokens.assign(bytes.begin(), bytes.end());
  const std::string text =
      "Hello  World's naïve 12345678 x+=1;\n\n\tЖизнь 你好 かな 한국어 e\u0301 \U0001F642 "
      "IMGIMGABZ ";
  for (const char* pre : {"default",
                          "llama-bpe",
                          "llama3",
                          "llama-v3",
                          "falcon3",
                          "falcon-h1",
                          "pixtral",
                          "midm-2.0",
                          "lfm2",
                          "jina-v5-nano",
                          "minicpm5",
                          "deepseek-llm",
                          "deepseek-coder",
                          "deepseek-v3",
                          "spark2_5",
                          "youtu",
                          "falcon",
                          "mpt",
                          "starcoder",
                          "gpt-2",
                          "phi-2",
                          "jina-es",
                          "jina-de",
                          "gigachat",
                          "jina-v2-es",
                          "jina-v2-de",
                          "a.x-4.0",
                          "mellum",
                          "modern-bert",
                          "jais-2",
                          "jina-v1-en",
                          "jina-v2-code",
                          "roberta-bpe",
                          "refact",
                          "command-r",
                          "qwen2",
                          "deepseek-r1-qwen",
                          "kormo",
                          "f2llmv2",
                          "qwen35",
                          "stablelm2",
                          "olmo",
                          "dbrx",
                          "smaug-bpe",
                          "poro-chat",
                          "glm4",
                          "chatglm-bpe",
                          "viking",
                          "jais",
                          "tekken",
                          "smollm",
                          "codeshell",
                          "bloom",
                          "gpt3-finnish",
                          "exaone",
                          "exaone4",
                          "exaone-moe",
                          "chameleon",
                          "minerva-7b",
                          "megrez",
                          "gpt-4o",
                          "llama4",
                          "kanana2",
                          "talkie",
                          "granite-embed-multi-97m",
                          "tiny_aya",
                          "cohere2moe",
                          "superbpe",
                          "trillion",
                          "granite-docling",
                          "bailingmoe",
                          "bailingmoe2",
                          "llada-moe",
                          "seed-coder",
                          "hunyuan",
                          "hunyuan-dense",
                          "hy_v4",
                          "joyai-llm",
                          "kimi-k2",
                          "ufakzeka",
                          "grok-2",
                          "afmoe",
                          "laguna",
                          "minimax-m2",
                          "solar-open",
                          "mellum2"}) {
    v.pre = pre;
    const auto tokenizer = Tokenizer::from_gguf(v);
    const auto decoded = tokenizer->decode(tokenizer->encode(text, false));
    // Some compose characters first.
    if (decoded.find("e\u0301") != std::string::npos) {
      EXPECT_EQ(decoded, text) << pre;
    } else {
      EXPECT_THAT(decoded, HasSubstr("\u00e9 \U0001F642")) << pre;
    }
  }
}

}  // namespace
}  // namespace mlxcpp
