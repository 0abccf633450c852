// Ctrl-C while a program downloads: one line, and what has come stays for the next time.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "hub/fake_hub.h"
#include "tests/support/paths.h"
#include "tests/support/shell.h"
#include "tests/support/temp_folder.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using test::read_all;
using test::TempFolder;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class Interrupt : public ::testing::Test {
 protected:
  Interrupt()
      : variables_({{"HF_ENDPOINT", hub.url()},
                    {"HF_HOME", (folder / "home").string()},
                    {"HF_HUB_CACHE", std::nullopt},
                    {"HF_HUB_OFFLINE", std::nullopt},
                    {"MLXCPP_CACHE", (folder / "cache").string()},
                    {"MLXCPP_PYTHON", (folder / "python").string()}}) {
    hub.add("config.json", R"({"model_type": "llama"})", false);
    hub.add("unet/model.safetensors", test::random_bytes(300'000, 1), true);
    // The large file stops in its middle.
    hub.intercept = [this](const test::Request& request) -> std::optional<test::Reply> {
      if (!stall || !request.target.starts_with("/storage/")) return std::nullopt;
      test::Reply reply = test::FakeHub::content(request, test::random_bytes(300'000, 1), "stored");
      reply.stall_after = 100'000;
      return reply;
    };
  }

  // The program, interrupted as soon as `started` says so: one line on standard error.
  std::string interrupted(const std::string& tool, const std::string& arguments,
                          const std::function<bool()>& started) const {
    const auto error = folder / "error";
    const std::string command = fmt::format("exec '{}' {} >'{}' 2>'{}'", test::tool(tool),
                                            arguments, (folder / "out").string(), error.string());
    const pid_t id = ::fork();
    if (id == 0) {
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    int status = 0;
    while (!started() && std::chrono::steady_clock::now() < deadline) {
      if (::waitpid(id, &status, WNOHANG) == id) {
        ADD_FAILURE() << command << " ended by itself: " << read_all(error);
        return "";
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    EXPECT_TRUE(started()) << command;
    ::kill(id, SIGINT);
    ::waitpid(id, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << command << ": " << status;
    EXPECT_THAT(read_all(folder / "out"), IsEmpty()) << command;
    return read_all(error);
  }
  fs::path partial() const {
    return folder / "home/hub/models--org--model/blobs" /
           (hub.etag("unet/model.safetensors") + ".incomplete");
  }

  TempFolder folder;
  std::atomic<bool> stall = true;
  test::FakeHub hub;
  test::Environment variables_;
};

TEST_F(Interrupt, DownloadsFromTheHubAreKeptForTheNextTime) {
  const std::pair<const char*, const char*> programs[] = {
      {"llm-tool", "fetch --quiet org/model"},
      {"llm-tool", "--quiet --model org/model --prompt Hi"},
      {"llm-tool", "--quiet --model org/model --list-config"},
      {"llm-tool", "chat --quiet --model org/model"},
      {"llm-tool", "convert --model org/model --output unwritten"},
      {"llm-tool", "trace --model org/model --prompt Hi -o unwritten"},
      {"llm-tool", "trace --model org/model --tokens 1,2 -o unwritten"},
      {"llm-tool", "lora test --model org/model --adapter none"},
      {"embedder-tool", "embed --quiet --model org/model Hi"},
      {"image-tool", "sd text --quiet --model org/model --prompt Hi --output unwritten.png"},
  };
  for (const auto& [tool, arguments] : programs) {
    fs::remove_all(folder / "home");
    std::error_code error;
    const std::string text = interrupted(tool, arguments, [&] {
      const auto size = fs::file_size(partial(), error);
      return !error && size == 100'000;
    });
    const std::string line = text.substr(text.rfind('\n', text.size() - 2) + 1);
    EXPECT_THAT(line, StartsWith(std::string(tool) + ": ")) << arguments;
    EXPECT_THAT(line, HasSubstr("cancelled")) << arguments;
    if (std::string(arguments).find("--quiet") != std::string::npos) {
      EXPECT_EQ(line, text) << arguments;
    }
    EXPECT_EQ(fs::file_size(partial()), 100'000u) << arguments;
  }
  stall = false;
  EXPECT_EQ(test::shell(fmt::format("'{}' fetch --quiet org/model", test::tool("llm-tool")), folder)
                .status,
            0);
  EXPECT_EQ(hub.requests().back().header("range"), "bytes=100000-");
  EXPECT_EQ(read_all(folder / "home/hub/models--org--model/snapshots" / hub.commit /
                     "unet/model.safetensors"),
            test::random_bytes(300'000, 1));
}

TEST_F(Interrupt, PackagesToo) {
  folder.write("python",
               fmt::format("#!/bin/sh\n: >'{}'\nexec sleep 600\n", (folder / "started").string()));
  fs::permissions(folder / "python", fs::perms::owner_all);
  EXPECT_THAT(interrupted("example-llm", "", [&] { return fs::exists(folder / "started"); }),
              StartsWith("example-llm: "));
}

}  // namespace
}  // namespace mlxcpp
