#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "lm_common/generate.h"
#include "lm_common/model_container.h"
#include "lm_common/tools/tool.h"

namespace mlxcpp {

struct ChatOptions {
  std::string instructions = {};  // the system message; empty: none
  GenerateParameters parameters = {};
  std::vector<Tool> tools = {};  // that the model may call
  int max_tool_rounds = 10;  // times that it may go on after results, in one turn; then a warning
  Json additional_context = Json::object();  // further arguments of the template
  Chat history = {};                         // to go on from
  MediaOptions media = {};
};

// A conversation with a model:
//   ChatSession session(container, {.instructions = "Be brief."});
//   for (const Generation& g : session.stream("Hello!"))
//     if (const std::string* text = g.chunk()) std::cout << *text << std::flush;
// It remembers what was said, and keeps the model's caches, so that each turn computes only what is
// new. Any number of sessions may share a container, each used by one thread at a time: their steps
// take turns, and each answers as it would alone. Weights changed by ModelContainer::update between
// turns want a reset() or drop_caches().
// Tools that the model calls are run on the thread that reads the stream, and the answer goes on
// from their results, all in one stream; what fails is told to the model. Calls of tools that have
// no `run` end the stream: the caller answers them by stream({chat::tool(ToolResult), ...}).
class ChatSession {
 public:
  explicit ChatSession(std::shared_ptr<ModelContainer> container);
  ChatSession(std::shared_ptr<ModelContainer> container, ChatOptions options);
  ~ChatSession();
  ChatSession(ChatSession&&) noexcept;
  ChatSession& operator=(ChatSession&&) = delete;

  // The answer as it is made. It joins the history when the stream ends, as far as it got when the
  // stream is cancelled or dropped. Throws an Error while another answer is being made. After an
  // exception from the stream the history is as before the turn.
  GenerationStream stream(std::string text, std::stop_token stop = {});
  // The same with pictures, films and sounds, which stand before the text.
  GenerationStream stream(chat::Message message, std::stop_token stop = {});
  // The same with several messages at once: the results of calls, for instance.
  GenerationStream stream(Chat messages, std::stop_token stop = {});
  std::string respond(std::string text, std::stop_token stop = {});  // the whole answer
  // The last answer made anew, with other random numbers.
  GenerationStream again(std::stop_token stop = {});

  // Forgets all but the instructions.
  void reset();
  // Keeps what was said, but computes all of it anew at the next turn: for when the model has
  // changed, by an adapter put on or taken off.
  void drop_caches();

  const Chat& history() const;       // without the instructions
  GenerateParameters& parameters();  // for the next answers
  std::string& instructions();

 private:
  struct Conversation;  // shared with the stream of the answer in progress
  class Answer;

  GenerationStream begin(Chat before, std::stop_token stop);
  void expect_silence() const;  // Error while an answer is being made

  std::shared_ptr<Conversation> conversation_;
};

}  // namespace mlxcpp
