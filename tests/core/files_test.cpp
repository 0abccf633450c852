#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "core/atomic_file.h"
#include "core/mapped_file.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::read_all;
using test::TempFolder;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

size_t files_in(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), {}));
}

TEST(MappedFile, HoldsTheFile) {
  const TempFolder folder;
  const auto file = MappedFile::open(folder.write("a", "hello"));
  EXPECT_EQ(file->size(), 5u);
  EXPECT_EQ(std::to_integer<char>(file->bytes()[1]), 'e');
  file->advise(MappedFile::Advice::will_need);
  file->advise(MappedFile::Advice::sequential, 3, 100);
  file->advise(MappedFile::Advice::dont_need, 100);
  EXPECT_EQ(std::to_integer<char>(file->bytes()[4]), 'o');
}

TEST(MappedFile, OutlivesTheName) {
  const TempFolder folder;
  const auto path = folder.write("a", "hello");
  const auto file = MappedFile::open(path);
  fs::remove(path);
  EXPECT_EQ(std::to_integer<char>(file->bytes()[0]), 'h');
}

TEST(MappedFile, AStrayWriteNeverReachesTheFile) {
  const TempFolder folder;
  const auto path = folder.write("a", "hello");
  const auto file = MappedFile::open(path);
  const_cast<std::byte&>(file->bytes()[0]) = std::byte{'j'};
  EXPECT_EQ(read_all(path), "hello");
}

TEST(MappedFile, Empty) {
  const TempFolder folder;
  const auto file = MappedFile::open(folder.write("a", ""));
  EXPECT_TRUE(file->bytes().empty());
  file->advise(MappedFile::Advice::will_need);
}

TEST(MappedFile, NamesFileAndReason) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { MappedFile::open(folder / "no"); }),
              AllOf(HasSubstr((folder / "no").string()), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { MappedFile::open(folder.path()); }), HasSubstr("regular file"));
}

TEST(AtomicFile, ReplacesOnCommitOnly) {
  const TempFolder folder;
  const auto path = folder.write("a", "old");
  {
    AtomicFile file(path);
    file.write("new ");
    file.write("text");
    EXPECT_EQ(read_all(path), "old");
    file.commit();
  }
  EXPECT_EQ(read_all(path), "new text");
  {
    AtomicFile(path).write("dropped");
  }
  EXPECT_EQ(read_all(path), "new text");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, RemovesWhatKilledProcessesLeft) {
  const TempFolder folder;
  const auto path = folder.write("a", "old");
  folder.write("a.12-1.tmp", "part");
  folder.write("a.4000000000-27.tmp", "part");
  folder.write("a.b-1.tmp", "no name of ours");
  folder.write("b.12-1.tmp", "of another file");
  {
    AtomicFile other(path);  // at work: its temporary file stays
    write_file(path, "new");
    EXPECT_EQ(files_in(folder.path()), 4u);
    other.write("newer");
    other.commit();
  }
  EXPECT_EQ(read_all(path), "newer");
  EXPECT_EQ(files_in(folder.path()), 3u);
  EXPECT_TRUE(fs::exists(folder / "a.b-1.tmp"));
  EXPECT_TRUE(fs::exists(folder / "b.12-1.tmp"));
}

TEST(AtomicFile, IsReadableAsAnyNewFile) {
  const TempFolder folder;
  const mode_t mask = ::umask(0022);
  write_file(folder / "a", "x");
  ::umask(mask);
  EXPECT_EQ(static_cast<int>(fs::status(folder / "a").permissions()), 0644);
}

TEST(AtomicFile, NamesTheFile) {
  EXPECT_THAT(error_of([] { write_file("/no/such/folder/a", "x"); }),
              AllOf(HasSubstr("/no/such/folder/a: cannot be written"), HasSubstr("No such file")));
  const TempFolder folder;
  fs::create_directory(folder / "d");
  EXPECT_THAT(error_of([&] { write_file(folder / "d", "x"); }), HasSubstr("cannot be written"));
  EXPECT_EQ(files_in(folder.path()), 1u);
}

// What --output /dev/null names must not become a regular file for the whole system.
TEST(AtomicFile, LeavesWhatIsNoRegularFileAlone) {
  const TempFolder folder;
  const auto pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  fs::create_symlink(pipe, folder / "link");
  for (const auto& name : {pipe, folder / "link"})
    EXPECT_THAT(error_of([&] { write_file(name, "x"); }),
                AllOf(HasSubstr(name.string()), HasSubstr("expected a regular file")));
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(files_in(folder.path()), 2u);
}

// A full disk: the size limit of this process stands in for it.
TEST(AtomicFile, FullDiskLeavesTheOldFile) {
  const TempFolder folder;
  const auto path = folder.write("a", "old");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string error = error_of([&] { write_file(path, std::string(100000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(error, AllOf(HasSubstr(path.string()), EndsWith("File too large")));
  EXPECT_EQ(read_all(path), "old");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

}  // namespace
}  // namespace mlxcpp
