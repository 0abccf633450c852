// llm-tool lora as its users run it, on a tiny model.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden/fixture.h"
#include "lm_common/test_tokenizer.h"
#include "support/temp_folder.h"
#include "tests/support/paths.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;
using test::read_all;
using test::TempFolder;
using ::testing::HasSubstr;

class LoraTool : public ::testing::Test {
 protected:
  LoraTool() {
    write_checkpoint(folder.path(),
                     golden::load_fixture_checkpoint(test::golden_folder() / "llm" / "llama"));
    testing::write_test_tokenizer(folder.path());
    std::string lines;
    for (int i = 0; i < 22; ++i)
      lines += fmt::format("{{\"prompt\": \"{}\", \"completion\": \"{}\"}}\n",
                           std::string(1, static_cast<char>('a' + i)),
                           std::string(1, static_cast<char>('A' + i)));
    for (const char* split : {"train", "valid", "test"})
      folder.write(std::string(split) + ".jsonl", lines);
  }

  struct Outcome {
    int status;  // negative: the signal
    std::string text;
  };

  // Runs it; kills it without warning when it has reported `kill_after` iterations (0: never). No
  // file may grow beyond `room` bytes (0: no limit), which stands in for a full disk.
  Outcome run(const std::vector<std::string>& arguments, int kill_after = 0,
              rlim_t room = 0) const {
    int out[2];
    if (::pipe(out) != 0) throw std::runtime_error("pipe failed");
    std::vector<std::string> words{test::tool("llm-tool"), "lora"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (auto& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::dup2(out[1], 1);
      ::dup2(out[1], 2);
      ::close(out[0]);
      const rlimit limit{room, room};
      if (room > 0 &&
          (::setrlimit(RLIMIT_FSIZE, &limit) != 0 || std::signal(SIGXFSZ, SIG_IGN) == SIG_ERR))
        ::_exit(126);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(out[1]);
    Outcome o{0, {}};
    bool killed = false;
    char piece[4096];
    for (ssize_t n; (n = ::read(out[0], piece, sizeof piece)) > 0;) {
      o.text.append(piece, static_cast<size_t>(n));
      int reported = 0;
      for (size_t at = 0; (at = o.text.find("train loss", at)) != std::string::npos; ++at)
        ++reported;
      if (kill_after > 0 && !killed && reported >= kill_after) {
        ::kill(pid, SIGKILL);
        killed = true;
      }
    }
    ::close(out[0]);
    int status = 0;
    ::waitpid(pid, &status, 0);
    o.status = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    return o;
  }
  std::vector<std::string> train(const std::string& adapter,
                                 const std::vector<std::string>& more = {}) const {
    std::vector<std::string> a{"train",
                               "--model",
                               folder.path().string(),
                               "--data",
                               folder.path().string(),
                               "--adapter",
                               (folder / adapter).string(),
                               "--iterations",
                               "90",
                               "--save-every",
                               "3",
                               "--steps-per-report",
                               "1",
                               "--steps-per-eval",
                               "7",
                               "--learning-rate",
                               "1e-3",
                               "--dropout",
                               "0.1",
                               "--grad-accumulation",
                               "2",
                               "--rank",
                               "4",
                               "--lora-layers",
                               "2",
                               "--threads",
                               "1"};
    a.insert(a.end(), more.begin(), more.end());
    return a;
  }

  TempFolder folder;
};

TEST_F(LoraTool, KilledTenTimesAndResumedIsTheSame) {
  const auto whole = run(train("whole"));
  ASSERT_EQ(whole.status, 0) << whole.text;
  EXPECT_THAT(whole.text, HasSubstr("Memory: about"));
  EXPECT_THAT(whole.text, HasSubstr("Iteration 90 of 90: train loss"));

  std::mt19937 random(11);
  for (int i = 0; i < 10; ++i) {
    const auto o = run(train("killed", {"--resume", "--report", (folder / "r.jsonl").string()}),
                       1 + static_cast<int>(random() % 5));
    ASSERT_EQ(o.status, -SIGKILL) << o.text;
  }
  const auto last = run(train("killed", {"--resume", "--report", (folder / "r.jsonl").string()}));
  ASSERT_EQ(last.status, 0) << last.text;
  EXPECT_EQ(read_all(folder / "killed" / "adapters.safetensors"),
            read_all(folder / "whole" / "adapters.safetensors"));
  EXPECT_EQ(read_all(folder / "killed" / "checkpoint.safetensors"),
            read_all(folder / "whole" / "checkpoint.safetensors"));
  EXPECT_THAT(read_all(folder / "killed" / "loss.png"), HasSubstr("PNG"));
  for (const auto& entry : fs::directory_iterator(folder / "killed"))
    EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
  // Each iteration is reported once.
  std::set<int> seen;
  std::ifstream report(folder / "r.jsonl");
  for (std::string line; std::getline(report, line);) {
    const Json j = Json::parse(line);
    if (!j.contains("train_loss")) continue;
    EXPECT_TRUE(seen.insert(j.at("iteration").get<int>()).second) << line;
  }
  EXPECT_EQ(seen.size(), 90u);
}

TEST_F(LoraTool, FullDiskLeavesTheLastGoodCheckpoint) {
  ASSERT_EQ(run(train("a"), 5).status, -SIGKILL);
  const auto file = folder / "a" / "checkpoint.safetensors";
  const std::string good = read_all(file);
  ASSERT_FALSE(good.empty());
  const auto full = run(train("a", {"--resume"}), 0, good.size() / 2);
  EXPECT_EQ(full.status, 1) << full.text;
  EXPECT_THAT(full.text, HasSubstr("checkpoint.safetensors: cannot be written"));
  EXPECT_EQ(read_all(file), good);
  for (const auto& entry : fs::directory_iterator(folder / "a"))
    EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
  // With room again it goes on.
  const auto rest = run(train("a", {"--resume"}));
  EXPECT_EQ(rest.status, 0) << rest.text;
  EXPECT_THAT(rest.text, HasSubstr("Going on after iteration 3"));
}

TEST_F(LoraTool, TestFuseEvalAndFaults) {
  const auto model = folder.path().string();
  ASSERT_EQ(run(train("a")).status, 0);
  const auto with =
      run({"test", "--model", model, "--data", model, "--adapter", (folder / "a").string()});
  ASSERT_EQ(with.status, 0) << with.text;
  EXPECT_THAT(with.text, HasSubstr("Test loss"));
  const auto fused = (folder / "fused").string();
  const auto fuse =
      run({"fuse", "--model", model, "--adapter", (folder / "a").string(), "--output", fused});
  ASSERT_EQ(fuse.status, 0) << fuse.text;
  const auto after = run({"test", "--model", fused, "--data", model, "--adapter", ""});
  ASSERT_EQ(after.status, 0) << after.text;
  const auto loss = [](const std::string& text) {
    return std::stod(text.substr(text.find("Test loss") + 10));
  };
  EXPECT_NEAR(loss(with.text), loss(after.text), 2e-3);
  EXPECT_EQ(run({"eval", "--model", model, "--adapter", (folder / "a").string(), "--prompt", "a",
                 "-m", "3"})
                .status,
            0);

  const auto fault = [&](const std::vector<std::string>& arguments) {
    const auto o = run(arguments);
    EXPECT_EQ(o.status, 1) << o.text;
    return o.text;
  };
  EXPECT_THAT(
      fault({"fuse", "--model", model, "--adapter", (folder / "a").string(), "--output", fused}),
      HasSubstr("there is a model already"));
  EXPECT_THAT(fault(train("a", {"--resume", "--seed", "9"})), HasSubstr("--seed = 0, not 9"));
  EXPECT_THAT(fault(train("b", {"--lr-schedule", "cosine"})), HasSubstr("unknown schedule"));
  folder.write("train.jsonl", "{\"text\": \"a\"}\n{");
  EXPECT_THAT(fault(train("b")), HasSubstr("train.jsonl:2"));
  EXPECT_FALSE(fs::exists(folder / "b" / "checkpoint.safetensors"));
}

}  // namespace
}  // namespace mlxcpp
