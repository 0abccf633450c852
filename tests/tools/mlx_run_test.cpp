// mlx-run as its users run it: in a project of its own, on a PATH that holds only what a test puts
// there.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/paths.h"
#include "tests/support/shell.h"
#include "tests/support/temp_folder.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using test::read_all;
using test::TempFolder;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class MlxRun : public ::testing::Test {
 protected:
  MlxRun() {
    for (const char* name : {"project/tools/llm-tool", "project/tools/example-llm",
                             "project/benchmarks", "project/rust"})
      fs::create_directories(folder / name);
    for (const char* name : {"mlx-run", "cmake"})
      fs::create_symlink(test::tests_folder().parent_path() / name, folder / "project" / name);
    for (const char* name : {"llm-tool", "example-llm"})
      folder.write(fmt::format("project/tools/{}/main.cpp", name), "");
    folder.write("project/benchmarks/bench_llm.cpp", "");
    folder.write("project/CMakeLists.txt",
                 "cmake_minimum_required(VERSION 3.25)\n"
                 "project(p LANGUAGES NONE)\n"
                 "list(APPEND CMAKE_MODULE_PATH ${CMAKE_SOURCE_DIR}/cmake)\n"
                 "include(rust)\n"
                 "mlxcpp_rust_library(r MANIFEST_DIR ${CMAKE_SOURCE_DIR}/rust LIBRARY r)\n");
    folder.write("project/CMakePresets.json",
                 R"({"version": 6, "configurePresets": [{"name": "release", "generator": "Ninja",
                     "binaryDir": "${sourceDir}/build/release"}]})");

    // What mlx-run needs of a system, and nothing else of this one.
    for (const char* name : {"bash", "env", "sh", "cat", "cut", "sed", "sort", "head", "tail", "tr",
                             "grep", "basename", "dirname", "mkdir", "touch", "chmod", "id"})
      program("system", name, fmt::format("exec '{}' \"$@\"", where_is(name)));
    program("system", "cmake", fmt::format("exec '{}' \"$@\"", where_is("cmake")));
    program("system", "uname", "echo Linux");
    program("system", "ninja",
            "[ \"$1\" = --version ] && echo 1.11.1 || echo 'ninja: no work to do.'");
    program("system", "dpkg-query", "case \"$*\" in *-web) exit 1 ;; *) printf installed ;; esac");
    program("system", "apt-cache", "exit 0");
    program("system", "sudo", "exec \"$@\"");
    program("system", "apt-get",
            fmt::format("echo \"$*\" >>'{0}/apt.log'\ncase \"$*\" in *cargo-web*) chmod +x "
                        "'{0}'/debian/* ;; esac",
                        folder.path().string()));
    for (const char* tool : {"cargo", "rustc"}) {
      program("rustup", tool,
              "echo 'error: rustup could not choose a version' >&2\necho more >&2\nexit 1");
      program("old", tool, fmt::format("echo '{} 1.63.0'", tool));
      program("new", tool, fmt::format("echo '{} 1.85.0 (of a test)'", tool));
      fs::permissions(program("debian", tool, fmt::format("echo '{} 1.96.0'", tool)),
                      fs::perms::owner_read);
    }
    program("project/build/release/bin", "example-llm", "echo \"ran with: $*\"");
  }

  static std::string where_is(const std::string& name) {
    const TempFolder scratch;
    std::string path = test::shell("command -v " + name, scratch).out;
    std::erase(path, '\n');
    return path;
  }
  fs::path program(const fs::path& in, const std::string& name, const std::string& script) const {
    fs::create_directories(folder / in);
    const auto file = folder.write(in / name, "#!" + std::string(kShell) + "\n" + script + "\n");
    fs::permissions(file, fs::perms::owner_all);
    return file;
  }
  // With `rust`, folders of `folder`, first on PATH.
  test::Outcome run(const std::string& arguments, const std::vector<std::string>& rust = {"new"},
                    const std::string& after = "") const {
    auto folders = rust;
    folders.emplace_back("system");
    return run_on_path(arguments, folders, after);
  }
  test::Outcome run_on_path(const std::string& arguments, const std::vector<std::string>& folders,
                            const std::string& after = "") const {
    std::string path;
    for (const auto& name : folders) path += fmt::format("{}:", (folder / name).string());
    path.pop_back();
    return test::shell(fmt::format("env -i PATH='{}' MLX_ROOT=/nowhere '{}' {} </dev/null", path,
                                   (folder / "project/mlx-run").string(), arguments),
                       folder, after);
  }
  // As run(), with a terminal for the error stream; what came there is the outcome's error.
  test::Outcome run_on_terminal(const std::string& arguments) const {
    const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (terminal < 0 || ::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0)
      throw std::runtime_error("no terminal");
    const std::string name = ::ptsname(terminal);
    const int held = ::open(name.c_str(), O_RDWR | O_NOCTTY);  // what is written stays readable
    auto o = run(arguments, {"new"}, "2>" + name);
    char text[4096];
    for (ssize_t n; (n = ::read(terminal, text, sizeof text)) > 0;)
      o.error.append(text, static_cast<size_t>(n));
    ::close(held);
    ::close(terminal);
    return o;
  }
  std::string built_with(const std::string& name) const {
    return fmt::format("RUSTC={0}/rustc {0}/cargo build", (folder / name).string());
  }
  std::string build_file() const { return read_all(folder / "project/build/release/build.ninja"); }
  std::string apt() const { return read_all(folder / "apt.log"); }

  static constexpr const char* kShell = "/bin/sh";
  TempFolder folder;
};

TEST_F(MlxRun, ToolsInAnySpelling) {
  for (const char* name :
       {"example-llm", "ExampleLLM", "EXAMPLE_llm", "examplellm", "--release example-llm"}) {
    const auto o = run(std::string(name) + " --one 'two words'");
    EXPECT_EQ(o.status, 0) << o.error;
    EXPECT_EQ(o.out, "ran with: --one two words\n") << name;
  }
  EXPECT_EQ(run("--list").out, "example-llm\nllm-tool\n");
  const auto unknown = run("no-such-tool");
  EXPECT_EQ(unknown.status, 1);
  EXPECT_EQ(unknown.error, "mlx-run: no tool 'no-such-tool'; there are: example-llm llm-tool\n");
  const auto nothing = run("");
  EXPECT_EQ(nothing.status, 1);
  EXPECT_THAT(nothing.out, HasSubstr("usage: mlx-run"));
}

TEST_F(MlxRun, BenchmarksByName) {
  EXPECT_THAT(run("bench").error, HasSubstr("benchmarks: llm"));
  const auto unknown = run("bench nothing");
  EXPECT_EQ(unknown.status, 1);
  EXPECT_EQ(unknown.error, "mlx-run: no benchmark 'nothing'; there are: llm\n");
  for (const char* name : {"--list", "-x", "-e", "''", "'l.m'", "'llm\nllm'", "'*'"}) {
    const auto o = run("bench " + std::string(name));
    EXPECT_EQ(o.status, 1) << name;
    EXPECT_THAT(o.error,
                AllOf(StartsWith("mlx-run: no benchmark '"), EndsWith("'; there are: llm\n")));
  }
  program("project/build/release/bin", "bench_llm", "echo \"measured: $*\"");
  EXPECT_EQ(run("bench LLM --help").out, "measured: --help\n");
}

TEST_F(MlxRun, HelpBuildsAndChangesNothing) {
  const std::string usage = run("--help").out;
  ASSERT_THAT(usage, StartsWith("usage: mlx-run"));
  for (const char* command : {"bench", "format", "setup", "test", "tidy"})
    for (const char* option : {" -h", " --help"}) {
      const auto o = run(std::string(command) + option);
      EXPECT_EQ(o.status, 0) << command << o.error;
      EXPECT_EQ(o.out, usage) << command;
      EXPECT_THAT(o.error, IsEmpty()) << command;
    }
  EXPECT_FALSE(fs::exists(folder / "project/build/setup.stamp"));
  const auto o = run("format --chek");
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(o.error, "mlx-run: format: expected --check or nothing, found '--chek'\n");
}

TEST_F(MlxRun, SetUpOnceOnly) {
  EXPECT_THAT(run("example-llm").error, HasSubstr("configuring"));
  const auto again = run("example-llm", {});
  EXPECT_EQ(again.status, 0);
  EXPECT_THAT(again.error, IsEmpty());
}

TEST_F(MlxRun, ABuiltToolCostsNoProgramButNinja) {
  ASSERT_EQ(run("example-llm").status, 0);
  for (const char* name : {"bash", "ninja"})
    fs::create_symlink(folder / "system" / name, folder / "new" / name);
  for (const char* spelling : {"example-llm", "ExampleLLM"}) {
    // `env bash` of the script's first line finds bash here.
    const auto o = run_on_path(std::string(spelling) + " --one", {"new"});
    EXPECT_EQ(o.status, 0);
    EXPECT_EQ(o.out, "ran with: --one\n");
    EXPECT_THAT(o.error, IsEmpty());
  }
}

TEST_F(MlxRun, OnATerminalProgressOfWorkAlone) {
  program("system", "ninja", fmt::format("exec '{}' \"$@\"", where_is("ninja")));
  for (const char* name : {"rm", "ls"})
    program("system", name, fmt::format("exec '{}' \"$@\"", where_is(name)));
  // A cargo that makes a library of src/*.rs, and says so as cargo does.
  program("new", "cargo", R"sh(
[ "$1" = --version ] && echo 'cargo 1.85.0 (of a test)' && exit
while [ $# -gt 0 ]; do
  case "$1" in --target-dir) out=$2/release ;; --manifest-path) src=${2%/*}/src ;; esac
  shift
done
mkdir -p "$out"
cat "$src"/*.rs >"$out/libr.a"
echo "$out/libr.a: $(echo "$src"/*.rs)" >"$out/libr.d")sh");
  fs::create_directories(folder / "project/rust/src");
  for (const char* name : {"Cargo.toml", "Cargo.lock", "src/lib.rs"})
    folder.write(fs::path("project/rust") / name, "1");
  folder.write("project/CMakeLists.txt", read_all(folder / "project/CMakeLists.txt") +
                                             "add_custom_target(example-llm)\n"
                                             "add_dependencies(example-llm r)\n");
  const auto library = [&] { return read_all(folder / "project/build/rust/release/libr.a"); };
  const auto expect_work_once = [&](const std::string& made) {
    const auto work = run_on_terminal("example-llm");
    EXPECT_EQ(work.status, 0);
    EXPECT_EQ(work.out, "ran with: \n");
    EXPECT_THAT(work.error, HasSubstr("Building Rust crate r")) << made;
    EXPECT_EQ(library(), made);
    const auto none = run_on_terminal("example-llm");
    EXPECT_EQ(none.status, 0);
    EXPECT_EQ(none.out, "ran with: \n");
    EXPECT_THAT(none.error, IsEmpty());
  };
  expect_work_once("1");
  // A new source is of interest once another names it; from then on, each change.
  folder.write("project/rust/src/more.rs", "2");
  folder.write("project/rust/src/lib.rs", "3");
  expect_work_once("32");
  folder.write("project/rust/src/more.rs", "4");
  expect_work_once("34");
}

TEST_F(MlxRun, ClangFromHomebrew) {
  program("system", "uname", "echo Darwin");
  program("system", "git", "echo a.cpp");
  program("system", "xargs", fmt::format("exec '{}' \"$@\"", where_is("xargs")));
  program("system", "clang++", "echo 'Apple clang version 17.0.0'");
  for (const char* tool : {"clang++", "clang-tidy", "clang-format"}) {
    const auto file = program("cellar/bin", tool,
                              fmt::format("[ \"$1\" = --version ] && echo 'clang version 19.1.7' "
                                          "|| echo \"{} $*\"",
                                          tool));
    fs::permissions(file, fs::perms::owner_read);  // not there yet
  }
  program("system", "brew",
          fmt::format("case \"$*\" in\n"
                      "--prefix*) echo '{0}/cellar' ;;\n"
                      "'list --versions llvm@19') [ -x '{0}/cellar/bin/clang++' ] ;;\n"
                      "install*) echo \"$*\" >>'{0}/brew.log'; chmod +x '{0}'/cellar/bin/* ;;\n"
                      "esac",
                      folder.path().string()));
  for (int i = 0; i < 2; ++i) {
    const auto o = run("setup");
    EXPECT_EQ(o.status, 0) << o.error;
    EXPECT_EQ(read_all(folder / "brew.log"), "install -q llvm@19\n");
  }
  EXPECT_EQ(run("format").out, "clang-format -i " + (folder / "project/a.cpp").string() + "\n");
}

TEST_F(MlxRun, ACargoThatWorksIsTakenFromPath) {
  ASSERT_EQ(run("example-llm", {"rustup", "old", "new"}).status, 0);
  EXPECT_THAT(build_file(), HasSubstr(built_with("new")));
  EXPECT_THAT(apt(), Not(HasSubstr("-web")));
}

TEST_F(MlxRun, InstallsCargoWhenRustupHasNone) {
  const auto o = run("example-llm", {"rustup", "debian"});
  EXPECT_EQ(o.status, 0) << o.error;
  EXPECT_THAT(apt(), HasSubstr(" cargo-web rustc-web\n"));
  EXPECT_THAT(build_file(), HasSubstr(built_with("debian")));
}

TEST_F(MlxRun, WithoutAnyCargoOneLine) {
  program("system", "apt-cache", "exit 100");
  auto o = run("example-llm", {"rustup", "old"});
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.error,
              AllOf(HasSubstr("mlx-run: cargo >= 1.85 is needed, found on PATH: "),
                    HasSubstr("/rustup/cargo says 'error: rustup could not choose a version'; "),
                    HasSubstr("/old/cargo says 'cargo 1.63.0'"),
                    EndsWith("install Rust, then try again\n")));
  // Installed, and it does not work either.
  program("system", "apt-cache", "exit 0");
  o = run("example-llm", {"rustup"});
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.error, EndsWith("says 'error: rustup could not choose a version'\n"));
  // A cargo without its compiler.
  fs::remove(folder / "new/rustc");
  o = run("example-llm", {"rustup", "new"});
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.error, HasSubstr("mlx-run: rustc >= 1.85 is needed, found on PATH: "));
}

}  // namespace
}  // namespace mlxcpp
