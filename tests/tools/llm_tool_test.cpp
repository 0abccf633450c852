// llm-tool as its users run it, with the default model: answers, options, messages, exit states.
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/json.h"
#include "tests/support/paths.h"
#include "tests/support/shell.h"
#include "tests/support/temp_folder.h"
#include "tests/support/throws.h"

namespace mlxcpp {
namespace {

using test::read_all;
using test::TempFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kFrance = "--prompt 'What is the capital of France?' --max-tokens 12";

class LlmTool : public ::testing::Test {
 protected:
  // `llm-tool ARGUMENTS` in a shell, with `environment` before it and `after` behind it.
  test::Outcome run(const std::string& arguments, const std::string& environment = "",
                    const std::string& after = "") const {
    return test::shell(fmt::format("{} HF_HUB_OFFLINE=1 XDG_STATE_HOME='{}' '{}' {}", environment,
                                   folder.path().string(), test::tool("llm-tool"), arguments),
                       folder, after);
  }
  Json json(const std::string& arguments) const {
    const auto outcome = run(arguments + " --json");
    EXPECT_EQ(outcome.status, 0) << outcome.error;
    EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1);
    return parse_json(outcome.out, "--json");
  }
  // One line on stderr, which it gives.
  std::string fault(int status, const std::string& arguments) const {
    const auto outcome = run(arguments + " --quiet");
    EXPECT_EQ(outcome.status, status) << arguments << outcome.error;
    EXPECT_THAT(outcome.out, IsEmpty()) << arguments;
    EXPECT_EQ(std::count(outcome.error.begin(), outcome.error.end(), '\n'), 1) << outcome.error;
    EXPECT_EQ(outcome.error.find("llm-tool: "), 0u) << outcome.error;
    return outcome.error;
  }

  TempFolder folder;
};

TEST_F(LlmTool, AnswersTheSameOnEveryRun) {
  const auto greedy = run(std::string("--temperature 0 ") + kFrance);
  EXPECT_EQ(greedy.status, 0) << greedy.error;
  EXPECT_THAT(greedy.out, HasSubstr("Paris"));
  EXPECT_THAT(greedy.error, AllOf(HasSubstr("Loading"), HasSubstr("tokens/s")));
  const auto sampled = run(std::string("--quiet ") + kFrance);
  EXPECT_THAT(sampled.error, IsEmpty());
  EXPECT_EQ(run(std::string("eval --seed 0 --quiet ") + kFrance).out, sampled.out);
  EXPECT_EQ(run(std::string("--threads 1 --quiet ") + kFrance).out, sampled.out);
}

TEST_F(LlmTool, OptionsReachTheAnswer) {
  const std::string story = "--prompt 'Tell me a story' --max-tokens 24 ";
  const Json plain = json(story);
  EXPECT_EQ(plain.at("generation_tokens"), 24);
  EXPECT_EQ(plain.at("tokens").size(), 24u);
  EXPECT_EQ(plain.at("stop_reason"), "length");
  for (const char* key : {"model", "prompt", "text", "prompt_tokens", "first_token_seconds",
                          "prompt_tokens_per_second", "generation_tokens_per_second", "peak_memory",
                          "peak_array_memory"})
    EXPECT_TRUE(plain.contains(key)) << key;
  const Json greedy = json(story + "--temperature 0");
  for (const char* option :
       {"--seed 1", "--temperature 1.5", "--top-p 0.1", "--top-k 1", "--min-p 1",
        "--repetition-penalty 1.8", "--system 'Answer in French.'", "--raw", "--kv-bits 4",
        "--max-kv-size 8"})
    EXPECT_NE(json(story + option).at("tokens"), plain.at("tokens")) << option;
  for (const char* option : {"--top-k 1", "--min-p 1"})
    EXPECT_EQ(json(story + option).at("tokens"), greedy.at("tokens")) << option;
  // Nothing is quantised before the start, nothing dropped below the size.
  for (const char* option :
       {"--kv-bits 4 --quantized-kv-start 1000", "--max-kv-size 1000", "--threads 1",
        "--cache-size 0", "--memory-size 4000", "--device cpu", "--top-p 1", "--min-p 0",
        "--template-arg nobody=asks", "--kv-group-size 32"})
    EXPECT_EQ(json(story + option).at("tokens"), plain.at("tokens")) << option;
  EXPECT_NE(json(story + "--kv-bits 4 --kv-group-size 32").at("tokens"),
            json(story + "--kv-bits 4 --kv-group-size 64").at("tokens"));

  // Only what lies within the context counts as repeated.
  const std::string penalty = story + "--temperature 0 --repetition-penalty 1.8 ";
  EXPECT_NE(json(penalty + "--repetition-context-size 2").at("tokens"),
            json(penalty + "--repetition-context-size 64").at("tokens"));

  const std::string text = greedy.at("text");
  ASSERT_THAT(text, HasSubstr(" a "));
  const Json ended = json(story + "--temperature 0 --extra-eos-token \u0120a");
  EXPECT_EQ(ended.at("stop_reason"), "stop");
  EXPECT_EQ(ended.at("text"), text.substr(0, text.find(" a ")));
  EXPECT_EQ(json(story + "--temperature 0 --extra-eos-token ' '").at("tokens"), greedy.at("tokens"))
      << "no token of that text occurs";
}

TEST_F(LlmTool, TemplateArgumentsReachTheTemplate) {
  const Json plain = json("--prompt Hi --max-tokens 1");
  const Json longer = json("--prompt Hi --max-tokens 1 --template-arg add_generation_prompt=false");
  EXPECT_LT(longer.at("prompt_tokens"), plain.at("prompt_tokens"));
}

TEST_F(LlmTool, PromptsFromFiles) {
  folder.write("a.txt", "What is the capital");
  folder.write("b.txt", "of France?");
  const std::string files =
      fmt::format("'@{},@{}'", (folder / "a.txt").string(), (folder / "b.txt").string());
  EXPECT_EQ(json("--max-tokens 1 --prompt " + files).at("prompt"),
            "What is the capital\nof France?");
}

TEST_F(LlmTool, PeakMemoryIsThatOfTheProcess) {
  // The weights are mapped: of the process, but not MLX's.
  const Json j = json("--prompt Hi --max-tokens 1");
  EXPECT_GT(j.at("peak_memory").get<double>(), j.at("peak_array_memory").get<double>());
  EXPECT_GT(j.at("peak_array_memory").get<double>(), 0);
}

TEST_F(LlmTool, MemoryIsReported) {
  const auto outcome = run("--prompt Hi --max-tokens 1 --memory-stats");
  EXPECT_THAT(outcome.error, HasSubstr("MLX arrays"));
  EXPECT_TRUE(outcome.error.ends_with(" MiB\n")) << outcome.error;
}

TEST_F(LlmTool, TellsNoSpeedOfWhatWasNotComputed) {
  const auto outcome = run("--prompt Hi --max-tokens 0");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.error, AllOf(HasSubstr("Generation: 0 tokens, ended by length"),
                                   Not(HasSubstr("tokens/s"))));
}

TEST_F(LlmTool, ListsWhatThereIs) {
  const auto outcome = run("list llms");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("mlx-community/Qwen3-0.6B-4bit\n"),
                    HasSubstr("mlx-community/exaone-4.0-1.2b-4bit\n"), HasSubstr("model types: ")));
}

TEST_F(LlmTool, TheConfigurationWithoutTheWeights) {
  const auto outcome = run("--list-config");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("type             llama\n"), HasSubstr("q4_1 in "),
                    HasSubstr("chat template"), HasSubstr("weights 96.6 MB"),
                    HasSubstr("with the context of 8192 tokens full"), HasSubstr("hidden_size")));
  const auto bytes = [&](const std::string& options) {
    const std::string text = run("--list-config " + options).out;
    return std::stod(text.substr(text.find("KV cache ") + 9));
  };
  EXPECT_LT(bytes("--kv-bits 4"), bytes("--kv-bits 8"));
  EXPECT_LT(bytes("--kv-bits 8"), bytes(""));
}

TEST_F(LlmTool, TheDebugLogTellsConfigurationTensorsAndSteps) {
  std::string prompt = "--prompt '";
  for (int i = 0; i < 600; ++i) prompt += "dog ";
  const auto outcome = run(prompt + "' --max-tokens 3 --raw", "MLXCPP_LOG=debug");
  EXPECT_THAT(
      outcome.error,
      AllOf(HasSubstr("hidden_size: 576"), HasSubstr("model.layers.0.self_attn.q_proj.weight: "),
            HasSubstr("debug: prefill: tokens 0 to 512, "),
            HasSubstr("debug: prefill and first token: tokens 512 to "),
            HasSubstr("debug: decode: tokens "), HasSubstr("debug: answer: ")));
  EXPECT_THAT(run("--prompt Hi --max-tokens 1").error, Not(HasSubstr("debug:")));
  EXPECT_THAT(run("--prompt Hi --max-tokens 1", "MLXCPP_LOG=loud").error,
              HasSubstr("MLXCPP_LOG: expected error, warning, info or debug, found 'loud'"));
}

TEST_F(LlmTool, Faults) {
  EXPECT_THAT(fault(1, "--prompt @/no/such/file"), HasSubstr("/no/such/file"));
  EXPECT_THAT(fault(1, "--prompt @/tmp"), HasSubstr("/tmp: cannot be read"));
  EXPECT_THAT(fault(1, "--model no-such-model"), HasSubstr("no-such-model"));
  EXPECT_THAT(fault(1, "--model /no/such/folder"), HasSubstr("/no/such/folder"));
  EXPECT_THAT(fault(1, "--model nosuch.gguf"), HasSubstr("nosuch.gguf: no such file"));
  EXPECT_THAT(fault(1, "--prompt Hi --memory-size 1"), HasSubstr("the memory limit of 1.0 MiB"));
  EXPECT_THAT(fault(1, "--model " + folder.path().string()), HasSubstr("config.json"));
  EXPECT_THAT(fault(1, "--adapter /no/such/adapter --prompt Hi"), HasSubstr("/no/such/adapter"));
  EXPECT_THAT(fault(1, "--list-config --model /no/such/folder"), HasSubstr("/no/such/folder"));
  folder.write("long.txt", std::string(100'000, 'x') + " y");
  EXPECT_THAT(fault(1, "--raw --prompt @" + (folder / "long.txt").string()),
              HasSubstr("context holds 8192"));
  for (const char* arguments :
       {"--temperature hot", "--threads 0", "--device tpu", "--precision best", "--no-such-option",
        "--template-arg nothing", "--max-tokens 1.5", "chat --json", "list", "list vlms",
        "--cache-size -1", "fetch", "compare one", "--seed -1"})
    EXPECT_THAT(fault(2, arguments), Not(IsEmpty())) << arguments;
  EXPECT_THAT(fault(2, "--template-arg messages=7"), HasSubstr("'messages' is the conversation"));
  EXPECT_THAT(fault(2, "--template-arg tools=[]"), HasSubstr("'tools' is set by --tool"));
  EXPECT_THAT(fault(2, "--template-arg a=1 --template-arg b=1 --template-arg a=2"),
              HasSubstr("'a' is there twice"));
  EXPECT_THAT(fault(1, "--model org/name@"), HasSubstr("org/name@: a revision is expected"));
  EXPECT_THAT(fault(1, "--model Qwen3-0.6B-4bit@"), HasSubstr("a revision is expected"));
  EXPECT_THAT(fault(1, "--model 'org/name@a b'"), HasSubstr("cannot be a revision"));
  EXPECT_THAT(fault(2, "--max-kv-size many"),
              HasSubstr("--max-kv-size: expected a whole number of 32 bits, found 'many'"));
  EXPECT_THAT(fault(2, "--top-k 99999999999"), HasSubstr("found '99999999999'"));
  EXPECT_THAT(fault(2, "--top-p many"), HasSubstr("--top-p: expected a number, found 'many'"));
  EXPECT_THAT(fault(2, "list"), HasSubstr("expected one of llms"));
  EXPECT_THAT(fault(2, "list nothing"), HasSubstr("expected one of llms, vlms, found 'nothing'"));
  EXPECT_THAT(fault(2, "evl --prompt Hi"),
              AllOf(HasSubstr("expected one of eval, chat"), HasSubstr("found 'evl'")));
  EXPECT_THAT(fault(2, "--prompt a --prompt b"), HasSubstr("--prompt: expected once, found 2"));
  // Options that would be passed over.
  for (const char* option : {"--system Hi", "--template-arg a=1", "--tool calculate"})
    EXPECT_THAT(fault(2, std::string("--raw --prompt Hi ") + option), HasSubstr("excludes"));
  EXPECT_THAT(fault(2, "--list-config --json"), HasSubstr("--json"));
  // The file at fault, not the one that met it.
  EXPECT_THAT(fault(1, "--prompt @"), HasSubstr("the name of a file after '@'"));
  const std::string bytes = folder.write("bytes", "ab\xff").string();
  EXPECT_THAT(fault(1, "--prompt @" + bytes),
              HasSubstr("--prompt: " + bytes + ": expected text in UTF-8"));
  EXPECT_THAT(fault(1, "--prompt Hi --system 'ab\xff'"), HasSubstr("--system: expected text in"));
  std::filesystem::create_directories(folder / "odd");
  folder.write("odd/config.json", R"({"model_type": "llama", "hidden_size": "x"})");
  std::filesystem::copy(test::golden_folder() / "embedders/bert/model.safetensors",
                        folder / "odd/model.safetensors");
  EXPECT_THAT(fault(1, "--list-config --model " + (folder / "odd").string()),
              HasSubstr("odd/config.json: 'hidden_size' must be an integer"));
}

// Faults of usage, whatever the command, found before a model is looked for.
TEST_F(LlmTool, ParametersOutOfRange) {
  for (const char* command : {"eval", "chat", "lora eval", "eval --list-config"})
    for (const char* option :
         {"--max-tokens -1", "--temperature -1", "--temperature nan", "--top-p 2", "--top-k -3",
          "--min-p 7", "--kv-bits 3", "--kv-group-size 48", "--repetition-penalty 0",
          "--repetition-context-size -1", "--quantized-kv-start -1", "--max-kv-size 0",
          "--reasoning-budget -1"}) {
      const std::string text = option, name = text.substr(0, text.find(' '));
      EXPECT_THAT(fault(2, fmt::format("{} --model no-such-model {}", command, option)),
                  AllOf(HasSubstr("llm-tool: " + name + " must be "),
                        HasSubstr(", found " + text.substr(name.size() + 1)),
                        Not(HasSubstr("no-such-model"))));
    }
  EXPECT_THAT(fault(2, "--kv-bits 3"), HasSubstr("--kv-bits must be 4 or 8, found 3"));
}

TEST_F(LlmTool, StandardOutputThatIsClosed) {
  EXPECT_THAT(run(std::string("--quiet ") + kFrance, "", ">&-").error,
              HasSubstr("standard output"));
  EXPECT_EQ(run(std::string("--quiet ") + kFrance, "", ">&-").status, 1);
  EXPECT_EQ(run(std::string("--quiet ") + kFrance, "", ">/dev/full").status, 1);
  EXPECT_EQ(run("--help", "", ">/dev/full").status, 1);
  const auto script = folder.write("script", "Hello\n");
  const auto chat = run("chat --quiet --max-tokens 2 <" + script.string(), "", ">/dev/full");
  EXPECT_EQ(chat.status, 1);
  EXPECT_EQ(std::count(chat.error.begin(), chat.error.end(), '\n'), 1) << chat.error;
  EXPECT_EQ(run("--help").status, 0);
  // A reader that goes away: an error, not a signal.
  const std::string command =
      fmt::format("{{ HF_HUB_OFFLINE=1 '{}' --quiet {}; echo $? >'{}'; }} | true",
                  test::tool("llm-tool"), kFrance, (folder / "status").string());
  EXPECT_EQ(std::system((command + " 2>/dev/null").c_str()), 0);
  EXPECT_EQ(read_all(folder / "status"), "1\n");
}

// What is printed must not land in a file that took the number of a closed stream.
TEST_F(LlmTool, FilesDoNotTakeThePlaceOfClosedStreams) {
  const std::string trace = "trace --prompt Hi -o '" + (folder / "t.safetensors").string() + "'";
  ASSERT_EQ(run(trace).status, 0);
  const std::string whole = read_all(folder / "t.safetensors");
  for (const char* closed : {"<&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"}) {
    std::filesystem::remove(folder / "t.safetensors");
    run(trace, "", closed);
    if (std::filesystem::exists(folder / "t.safetensors")) {
      EXPECT_EQ(read_all(folder / "t.safetensors"), whole) << closed;
    }
    EXPECT_EQ(run("--prompt Hi --max-tokens 2", "", std::string(">&- ") + closed).status, 1);
    EXPECT_EQ(run("--model no-such-model", "", closed).status, 1) << closed;
  }
  EXPECT_EQ(run("--model no-such-model", "", "2>/dev/full").status, 1);
}

// --- At a terminal ---

// llm-tool on a terminal of its own.
class Terminal {
 public:
  Terminal(const std::string& arguments, const TempFolder& folder) {
    pid_ = ::forkpty(&fd_, nullptr, nullptr, nullptr);
    if (pid_ < 0) throw std::runtime_error("forkpty failed");
    if (pid_ == 0) {
      ::setenv("HF_HUB_OFFLINE", "1", 1);
      ::setenv("TERM", "xterm", 1);
      ::setenv("XDG_STATE_HOME", folder.path().c_str(), 1);
      const std::string command = "exec '" + test::tool("llm-tool") + "' " + arguments;
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
  }
  ~Terminal() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(fd_);
  }

  void type(const std::string& text) const {
    ASSERT_EQ(::write(fd_, text.data(), text.size()), std::ssize(text));
  }
  // Reads until `text` comes; everything read up to its end. Fails after two minutes.
  std::string until(const std::string& text) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    size_t at;
    while ((at = unread_.find(text)) == std::string::npos) {
      if (!read_some(deadline)) {
        ADD_FAILURE() << "'" << text << "' did not come; found: " << unread_;
        return std::exchange(unread_, "");
      }
    }
    std::string out = unread_.substr(0, at + text.size());
    unread_.erase(0, at + text.size());
    return out;
  }
  // Waits for the prompt and for the keys to be the line editor's: libedit shows the prompt first,
  // and what comes in between would still be edited by the kernel.
  void prompt() {
    until("> ");
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    termios mode{};
    while (::tcgetattr(fd_, &mode) == 0 && (mode.c_lflag & ICANON)) {
      if (std::chrono::steady_clock::now() > deadline) {
        ADD_FAILURE() << "the line editor did not take over the terminal";
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  // The exit status, after reading what is left; -1 for a signal.
  int end() {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (read_some(deadline)) {
    }
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  bool read_some(std::chrono::steady_clock::time_point deadline) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd ready{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, static_cast<int>(std::max<int64_t>(0, left.count()))) <= 0) return false;
    std::array<char, 4096> piece{};
    const ssize_t n = ::read(fd_, piece.data(), piece.size());
    if (n <= 0) return false;  // its program has gone
    unread_.append(piece.data(), static_cast<size_t>(n));
    return true;
  }

  int fd_ = -1;
  pid_t pid_ = -1;
  std::string unread_;
};

constexpr const char* kCtrlC = "\x03";
constexpr const char* kCtrlD = "\x04";

TEST_F(LlmTool, CtrlCStopsAnAnswerAndKeepsTheChat) {
  Terminal terminal("chat --max-tokens 3000", folder);
  terminal.prompt();
  terminal.type("Count from one to a thousand.\n");
  terminal.until("\n");
  terminal.until(" ");  // of the answer
  terminal.type(kCtrlC);
  terminal.until("[stopped]");
  terminal.prompt();
  terminal.type("not sent");
  terminal.type(kCtrlC);
  terminal.prompt();
  terminal.type("/parameters\n");
  terminal.until("temperature 0.6, topP 1, maxTokens 3000");
  terminal.prompt();
  terminal.type(kCtrlD);
  EXPECT_EQ(terminal.end(), 0);
}

TEST_F(LlmTool, LinesAreEditedAndRemembered) {
  {
    Terminal terminal("chat --quiet --max-tokens 4", folder);
    terminal.prompt();
    terminal.type(
        "/maxTokens 42\x01\x06\x06\x04\x04mx\b\n");  // Ctrl-A, forward twice, delete two...
    terminal.until("no command /mmTokens");
    terminal.prompt();
    terminal.type("/maxTokens 42\n");
    terminal.until("maxTokens 42\r\n");
    terminal.prompt();
    terminal.type("\x1b[A\x1b[A\n");  // the line before the last
    terminal.until("no command /mmTokens");
    terminal.prompt();
    terminal.type("/quit\n");
    EXPECT_EQ(terminal.end(), 0);
  }
  Terminal terminal("chat --quiet", folder);
  terminal.prompt();
  terminal.type("\x1b[A\x1b[A\x1b[A\n");  // over /quit and the misspelt line, of the last chat
  terminal.until("maxTokens 42\r\n");
  terminal.prompt();
  terminal.type(kCtrlD);
  EXPECT_EQ(terminal.end(), 0);
}

TEST_F(LlmTool, InterruptedAnswersEndWithAMessage) {
  Terminal terminal("--prompt 'Count from one to a thousand.' --max-tokens 3000", folder);
  terminal.until("Loading");
  terminal.until("\n");
  terminal.until(" ");
  terminal.type(kCtrlC);
  terminal.until("interrupted");
  EXPECT_EQ(terminal.end(), 1);
}

TEST_F(LlmTool, ChatCommands) {
  const auto script = folder.write("script",
                                   "Hello\n/stats\n/again\n/memory\n/temperature 0\n/topP 0.5\n"
                                   "/maxTokens 3\n/maxTokens\n/maxTokens -1\n/topP many\n"
                                   "/temperature -2\n/adapter none\n/help\n/nonsense\n/quit\n"
                                   "never read\n");
  const auto outcome = run("chat --max-tokens 4 <" + script.string());
  EXPECT_EQ(outcome.status, 0) << outcome.error;
  EXPECT_THAT(
      outcome.out,
      AllOf(HasSubstr("speed after each answer: on"), HasSubstr("MLX arrays"),
            HasSubstr(" MiB\ntemperature 0, "), HasSubstr("temperature 0, topP 1, maxTokens 4"),
            HasSubstr("temperature 0, topP 0.5, maxTokens 3"), HasSubstr("maxTokens no limit"),
            HasSubstr("expected a positive number, found '-1'"),
            HasSubstr("expected a number, found 'many'"),
            HasSubstr("temperature must be 0 or more"), HasSubstr("there are: none"),
            HasSubstr("/maxTokens [NUMBER]"), HasSubstr("no command /nonsense"),
            Not(HasSubstr("never"))));
  EXPECT_THAT(outcome.error, HasSubstr("tokens/s")) << "of /again";
}

// As the original's: the chat as it was at its start.
TEST_F(LlmTool, ResetForgetsConversationAndChanges) {
  const auto script = folder.write(
      "script",
      "What is the capital of France?\n/stats\n/temperature 1.5\n/topP 0.25\n"
      "/maxTokens 3\nAnd now?\n/reset\n/temperature 0\nWhat is the capital of France?\n");
  const auto outcome = run("chat --temperature 0 --max-tokens 12 <" + script.string());
  EXPECT_EQ(outcome.status, 0) << outcome.error;
  EXPECT_THAT(outcome.out, HasSubstr("temperature 1.5, topP 0.25, maxTokens 3"));
  EXPECT_THAT(outcome.out, HasSubstr("temperature 0, topP 1, maxTokens 12"));
  const std::string answer = run(std::string("--quiet --temperature 0 ") + kFrance).out;
  EXPECT_EQ(outcome.out.find(answer), 0u) << outcome.out;
  EXPECT_TRUE(outcome.out.ends_with(answer + "\n")) << outcome.out;
  EXPECT_EQ(outcome.error.find("Generation:"), outcome.error.rfind("Generation:"))
      << "/stats is off";
}

}  // namespace
}  // namespace mlxcpp
