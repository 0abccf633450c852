#include "embedders/index/vector_index.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/temp_folder.h"
#include "support/throws.h"

namespace mlxcpp::embedders {
namespace {

using mlxcpp::test::error_of;
using mlxcpp::test::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string joined(const std::vector<Chunk>& chunks) {
  std::string out;
  for (const Chunk& c : chunks) out += fmt::format("[{}-{}:{}]", c.first_line, c.last_line, c.text);
  return out;
}

TEST(SplitText, AtHeadingsAndParagraphsBeforeLines) {
  EXPECT_EQ(joined(split_text("one\ntwo\n\nthree\n")), "[1-4:one\ntwo\n\nthree]");
  EXPECT_EQ(joined(split_text("# A\nbody\n## B\nmore\n")), "[1-2:# A\nbody][3-4:## B\nmore]");
  EXPECT_EQ(joined(split_text("aaaa aaaa\n\nbbbb bbbb\ncccc cccc\n", 24)),
            "[1-1:aaaa aaaa][3-4:bbbb bbbb\ncccc cccc]");
  EXPECT_EQ(joined(split_text("aaaa\nbbbb\ncccc\n", 10)), "[1-2:aaaa\nbbbb][3-3:cccc]");
  EXPECT_EQ(joined(split_text("\n  \n\t\n")), "");
  EXPECT_EQ(joined(split_text("")), "");
  EXPECT_EQ(joined(split_text("a\r\nb\r\n")), "[1-2:a\nb]");
  EXPECT_EQ(joined(split_text("#include <x>\n")), "[1-1:#include <x>]");
}

TEST(SplitText, LongLinesAreCutBetweenCharacters) {
  EXPECT_EQ(joined(split_text("aaaa bbbb cccc", 10)), "[1-1:aaaa bbbb ][1-1:cccc]");
  std::string umlauts;
  for (int i = 0; i < 30; ++i) umlauts += "\xC3\xBC";
  for (const Chunk& c : split_text("x" + umlauts, 9)) {
    EXPECT_TRUE(is_text(c.text));
    EXPECT_LE(c.text.size(), 9u);
  }
}

TEST(IsText, Utf8WithoutNul) {
  EXPECT_TRUE(is_text(""));
  EXPECT_TRUE(is_text("a\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80"));
  for (const std::string_view bad :
       {std::string_view("\0", 1), std::string_view("\xFF"), std::string_view("\xC3"),
        std::string_view("\xC0\x80"), std::string_view("\xED\xA0\x80"),
        std::string_view("\xF5\x80\x80\x80"), std::string_view("\xE2\x82")})
    EXPECT_FALSE(is_text(bad));
}

const VectorMaker kMaker{"tiny", 2};

FileVectors file(const std::string& path, const std::vector<std::pair<float, float>>& vectors,
                 int64_t size = 1) {
  FileVectors f{.file = {path, size, 5}};
  for (const auto& [x, y] : vectors) {
    const int line = static_cast<int>(f.chunks.size()) + 1;
    f.chunks.push_back({fmt::format("{} part {}", path, line), line, line});
    f.vectors.insert(f.vectors.end(), {x, y});
  }
  return f;
}

std::string found(VectorIndex& index, float x, float y, int count = 3) {
  std::string out;
  for (const Hit& hit : index.search(mx::array({x, y}), count))
    out += fmt::format("{}:{} {:.1f};", hit.path, hit.chunk.first_line, hit.score);
  return out;
}

TEST(VectorIndex, FindsTheNearestAndKeepsThemOnDisk) {
  const TempFolder folder;
  {
    VectorIndex index(folder / "index", kMaker);
    index.update({file("a", {{1, 0}, {0, 1}}), file("b", {{0.5f, 0.5f}})});
    EXPECT_EQ(found(index, 1, 0), "a:1 1.0;b:1 0.5;a:2 0.0;");
  }
  VectorIndex index(folder / "index", kMaker);
  EXPECT_EQ(index.files(), 2);
  EXPECT_EQ(index.chunks(), 3);
  EXPECT_EQ(found(index, 0, 1, 1), "a:2 1.0;");
  EXPECT_EQ(index.search(mx::array({0.0f, 1.0f}), 1)[0].chunk.text, "a part 2");
  EXPECT_EQ(found(index, 0, 0), "a:1 0.0;a:2 0.0;b:1 0.0;");  // equal ones in their order
}

TEST(VectorIndex, FilesAreReplacedAndTakenOut) {
  const TempFolder folder;
  VectorIndex index(folder / "index", kMaker);
  index.update({file("a", {{1, 0}, {0, 1}}), file("b", {{0.5f, 0.5f}})});
  index.update({file("a", {{0, 1}}, 9)}, {"b", "nobody"});
  EXPECT_EQ(found(index, 0, 1), "a:1 1.0;");
  const auto list = index.list();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].size, 9);
  EXPECT_EQ(list[0].modified, 5);
}

TEST(VectorIndex, AnUpdateIsWholeOrNotAtAll) {
  const TempFolder folder;
  VectorIndex index(folder / "index", kMaker);
  index.update({file("a", {{1, 0}})});
  FileVectors wrong = file("c", {{1, 1}});
  wrong.vectors.pop_back();
  EXPECT_THAT(error_of([&] { index.update({file("b", {{0, 1}}), wrong}, {"a"}); }),
              HasSubstr("1 numbers for 1 vectors of 2"));
  EXPECT_EQ(found(index, 1, 0), "a:1 1.0;");
}

// A process that dies within a transaction, as by kill -9, leaves the old index.
TEST(VectorIndex, AKilledWriterLeavesTheOldOne) {
  const TempFolder folder;
  {
    VectorIndex(folder / "index", kMaker).update({file("a", {{1, 0}})});
  }
  const pid_t child = ::fork();
  if (child == 0) {
    Database db(folder / "index");
    db.run("PRAGMA cache_size = 1");  // so that pages reach the file before the end
    db.run("PRAGMA cache_spill = 1");
    db.run("BEGIN IMMEDIATE");
    db.run("DELETE FROM vectors");
    for (int i = 0; i < 2000; ++i)
      db.run(
          "INSERT INTO chunks(file, first_line, last_line, text) "
          "VALUES(1, 1, 1, hex(randomblob(500)))");
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  VectorIndex index(folder / "index", kMaker);
  EXPECT_EQ(found(index, 1, 0), "a:1 1.0;");
  EXPECT_EQ(index.chunks(), 1);
}

TEST(VectorIndex, AnotherMakersIsRefusedUnlessRebuilt) {
  const TempFolder folder;
  {
    VectorIndex(folder / "index", kMaker).update({file("a", {{1, 0}})});
  }
  EXPECT_THAT(error_of([&] { VectorIndex(folder / "index", {"other", 2}); }),
              AllOf(HasSubstr("made by tiny with 2"), HasSubstr("asked for other")));
  EXPECT_THAT(error_of([&] { VectorIndex(folder / "index", {"tiny", 3}); }),
              HasSubstr("asked for tiny with 3"));
  VectorIndex index(folder / "index", {"other", 3}, true);
  EXPECT_EQ(index.files(), 0);
  EXPECT_EQ(index.chunks(), 0);
  EXPECT_THAT(error_of([&] { found(index, 1, 0); }), HasSubstr("a query of 2 numbers"));
}

TEST(VectorIndex, WhatIsNoIndexIsRefused) {
  const TempFolder folder;
  const auto open = [&](const char* name) {
    return error_of([&] { VectorIndex(folder / name, kMaker); });
  };
  folder.write("text", std::string(5000, 'x'));
  EXPECT_THAT(open("text"), HasSubstr("not a database"));
  {
    Database(folder / "other").run("CREATE TABLE t(x)");
  }
  EXPECT_THAT(open("other"), HasSubstr("of another program"));
  EXPECT_THAT(open("none/index"), HasSubstr("cannot be opened"));

  {
    VectorIndex(folder / "cut", kMaker)
        .update({file("a", std::vector(200, std::pair(1.0f, 0.0f)))});
  }
  std::filesystem::resize_file(folder / "cut", std::filesystem::file_size(folder / "cut") / 2);
  EXPECT_THAT(error_of([&] {
                VectorIndex index(folder / "cut", kMaker);
                found(index, 1, 0, 500);
              }),
              HasSubstr("cut: "));
  {
    VectorIndex(folder / "old", kMaker).update({file("a", {{1, 0}})});
  }
  Database(folder / "old").run("PRAGMA user_version = 7");
  EXPECT_THAT(open("old"), HasSubstr("version 7"));
  {
    VectorIndex(folder / "short", kMaker).update({file("a", {{1, 0}})});
  }
  Database(folder / "short").run("UPDATE vectors SET vector = x'00'");
  EXPECT_THAT(error_of([&] {
                VectorIndex index(folder / "short", kMaker);
                found(index, 1, 0);
              }),
              HasSubstr("a vector of 1 bytes, expected 8"));
}

}  // namespace
}  // namespace mlxcpp::embedders
