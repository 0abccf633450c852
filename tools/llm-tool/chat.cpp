// llm-tool chat: a conversation at the terminal.
#include "llm-tool/commands.h"

#include <charconv>
#include <utility>

#include <fmt/ranges.h>

#include "llm-tool/answer_printer.h"
#include "llm-tool/line_editor.h"
#include "lm_common/chat_session.h"
#include "lm_common/memory.h"
#include "support/program.h"

namespace mlxcpp::tools {
namespace {

constexpr const char* kHelp = R"(/help                 this text
/quit                 end the chat
/memory               memory in use
/stats                speed after each answer, on or off
/reset                all but the adapter as at the start: no conversation, parameters, media
/again                answer the last question anew
/parameters           how answers are made
/temperature NUMBER   sampling temperature; 0: always the most likely token
/topP NUMBER          keep the most likely tokens that hold this probability together
/maxTokens [NUMBER]   most tokens of an answer; no number: no limit
/image [FILE]         show a picture with the next message; no file: none after all
/video [FILE]         the same with a film
/audio [FILE]         the same with a sound
/adapter [NAME]       put this adapter on; no name: none. Lists those that --adapter named
)";

template <class T>
std::optional<T> number(const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

class ChatLoop {
 public:
  explicit ChatLoop(const CommonOptions& o)
      : options_(o),
        quiet_(o.generate.quiet),
        container_(o.load()),
        adapters_(o.load_adapters(*container_)),
        session_(container_, {.instructions = o.generate.system,
                              .parameters = o.generate.parameters,
                              .tools = tools(o),
                              .additional_context = o.generate.template_context(),
                              .media = o.media.options()}),
        next_(o.media) {}

  void run() {
    if (!quiet_)
      fmt::print(stderr,
                 "/help lists the commands, Ctrl-C stops an answer, Ctrl-D ends the chat.\n");
    while (const auto line = editor_.read("> ")) {
      if (line->empty()) continue;
      if (line->front() != '/') {
        chat::Message message = chat::user(*line);
        std::exchange(next_, {}).attach(message);
        answer([&](const std::stop_token& stop) { return session_.stream(message, stop); });
      } else if (!command(*line)) {
        return;
      }
    }
    print("\n");
  }

 private:
  // What cannot be run here is asked of the person.
  std::vector<Tool> tools(const CommonOptions& o) {
    std::vector<Tool> all = o.tools.tools();
    for (Tool& tool : all)
      if (!tool.run)
        tool.run = [this, name = tool.spec.name](const OrderedJson&) {
          const auto line = editor_.read("result of " + name + "> ");
          if (!line) throw Error("no result was given");
          return *line;
        };
    return all;
  }

  // A fault of one answer does not end the chat.
  template <class Stream>
  void answer(const Stream& stream) {
    const InterruptScope interrupt;
    try {
      std::optional<GenerationInfo> info;
      AnswerPrinter printer(quiet_);
      for (const Generation& g : stream(interrupt.token())) {
        printer.show(g);
        if (g.info()) info = *g.info();
      }
      printer.finish();
      if (interrupt.interrupted()) print("[stopped]\n");
      if (stats_ && info) fmt::print(stderr, "{}\n", info->summary());
    } catch (const Error& e) {
      if (std::ferror(stdout)) throw;  // nobody reads on
      fmt::print(stderr, "{}\n", e.what());
    }
  }

  // False: the chat ends.
  bool command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const size_t begin =
        space == std::string::npos ? std::string::npos : line.find_first_not_of(' ', space);
    const std::string argument = begin == std::string::npos ? "" : line.substr(begin);
    auto& p = session_.parameters();
    if (name == "/quit") return false;
    if (name == "/memory") {
      print(memory_stats().summary() + "\n");
    } else if (name == "/stats") {
      stats_ = !stats_;
      print(fmt::format("speed after each answer: {}\n", stats_ ? "on" : "off"));
    } else if (name == "/reset") {
      session_.reset();
      session_.parameters() = options_.generate.parameters;
      next_ = options_.media;
      stats_ = false;
    } else if (name == "/again") {
      answer([&](const std::stop_token& stop) { return session_.again(stop); });
    } else if (name == "/parameters") {
      print_parameters();
    } else if (name == "/temperature") {
      change(argument, &GenerateParameters::temperature);
    } else if (name == "/topP") {
      change(argument, &GenerateParameters::top_p);
    } else if (name == "/maxTokens") {
      if (argument.empty())
        p.max_tokens.reset();
      else if (const auto n = number<int>(argument); n && *n > 0)
        p.max_tokens = n;
      else
        print(fmt::format("expected a positive number, found '{}'\n", argument));
      print_parameters();
    } else if (name == "/image") {
      attach(argument, &MediaInputOptions::images);
    } else if (name == "/video") {
      attach(argument, &MediaInputOptions::videos);
    } else if (name == "/audio") {
      attach(argument, &MediaInputOptions::audio);
    } else if (name == "/adapter") {
      use_adapter(argument);
    } else {
      print(name == "/help" ? kHelp : fmt::format("no command {}\n{}", name, kHelp));
    }
    return true;
  }

  // A file for the next message.
  void attach(const std::string& file, std::vector<std::string> MediaInputOptions::* list) {
    auto& files = next_.*list;
    if (file.empty())
      files.clear();
    else
      files.push_back(file);
    try {
      next_.check(false);
    } catch (const Error& e) {
      files.pop_back();
      print(fmt::format("{}\n", e.what()));
    }
    print(fmt::format("with the next message: {} pictures, {} films, {} sounds\n",
                      next_.images.size(), next_.videos.size(), next_.audio.size()));
  }

  void change(const std::string& text, float GenerateParameters::* field) {
    auto changed = session_.parameters();
    const auto value = number<float>(text);
    if (!value) {
      print(fmt::format("expected a number, found '{}'\n", text));
      return;
    }
    changed.*field = *value;
    try {
      changed.validate();
      session_.parameters() = changed;
      print_parameters();
    } catch (const Error& e) {
      print(fmt::format("{}\n", e.what()));
    }
  }

  void print_parameters() {
    const auto& p = session_.parameters();
    print(fmt::format("temperature {}, topP {}, maxTokens {}\n", p.temperature, p.top_p,
                      p.max_tokens ? std::to_string(*p.max_tokens) : "no limit"));
  }

  // The model is another from here on, the conversation stays.
  void use_adapter(const std::string& name) {
    try {
      container_->update([&](ModelContext& context) {
        adapters_->use(*context.model, name.empty() ? std::nullopt : std::optional(name));
      });
      session_.drop_caches();
    } catch (const Error& e) {
      print(fmt::format("{}\n", e.what()));
    }
    print(fmt::format("adapter: {} (there are: {})\n", adapters_->active().value_or("none"),
                      adapters_->listing()));
  }

  const CommonOptions& options_;  // how it all began
  LineEditor editor_;
  bool quiet_, stats_ = false;
  std::shared_ptr<ModelContainer> container_;
  std::shared_ptr<adapters::AdapterSet> adapters_;
  ChatSession session_;
  MediaInputOptions next_;  // for the next message
};

}  // namespace

Command add_chat(CLI::App& app) {
  const auto o = std::make_shared<CommonOptions>();
  o->add(app);
  return [o] {
    o->media.check(false);
    ChatLoop(*o).run();
    o->memory.report();
    return 0;
  };
}

}  // namespace mlxcpp::tools
