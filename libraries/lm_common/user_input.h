// What a person asks, and what a model gets of it.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/json.h"
#include "lm_common/lm_input.h"
#include "lm_common/tool_calls.h"
#include "text/tokenizer.h"

namespace mlxcpp {

namespace chat {

enum class Role { system, user, assistant, tool };
std::string_view name(Role role);

// One turn of a conversation. Pictures, video and sound are files ("-": standard input), for the
// models that take them; they stand before the text, in this order.
struct Message {
  Role role = Role::user;
  std::string content;
  std::vector<std::filesystem::path> images = {};
  std::vector<std::filesystem::path> videos = {};
  std::vector<std::filesystem::path> audio = {};
  std::string reasoning = {};                // of an assistant: what it thought before the answer
  std::vector<ToolCall> tool_calls = {};     // of an assistant
  std::string tool_name = {}, call_id = {};  // of a tool: which call its content is the result of

  bool operator==(const Message&) const = default;
};

inline Message system(std::string content) { return {Role::system, std::move(content)}; }
inline Message user(std::string content) { return {Role::user, std::move(content)}; }
inline Message assistant(std::string content) { return {Role::assistant, std::move(content)}; }
inline Message tool(std::string content) { return {Role::tool, std::move(content)}; }
inline Message tool(ToolResult result) {
  return {.role = Role::tool,
          .content = std::move(result.content),
          .tool_name = std::move(result.call.name),
          .call_id = std::move(result.call.id)};
}

}  // namespace chat

using Chat = std::vector<chat::Message>;

// How pictures, films and sounds are read.
struct MediaOptions {
  std::optional<std::pair<int, int>> resize = {};  // pictures to width x height, before all else
  bool icc = false;                                // colour profiles of pictures are applied
  std::optional<double> fps = {};                  // frames of films to look at, each second
  std::optional<int> max_frames = {};              // and at most
  // Larger ones are refused before they take memory. None: the limits of vlm/media/.
  std::optional<size_t> max_pixels = {};  // of a picture, and of a film's frame
  std::optional<int> max_film_frames = {};
  std::optional<double> max_sound_seconds = {};
};

// A prompt: one user's text, a conversation, or messages ready for the template (a JSON list).
struct UserInput {
  std::variant<std::string, Chat, Json> prompt;
  OrderedJson tools = nullptr;               // a list of tool specifications, or null
  Json additional_context = Json::object();  // further arguments of the chat template
  MediaOptions media = {};

  UserInput(std::string text) : prompt(std::move(text)) {}
  UserInput(const char* text) : prompt(std::string(text)) {}
  UserInput(Chat messages) : prompt(std::move(messages)) {}
  UserInput(Json messages) : prompt(std::move(messages)) {}
};

// A conversation in the form that a model's chat template reads: a list of objects.
using MessageGenerator = std::function<OrderedJson(const Chat&)>;

// {"role", "content"}; with "reasoning_content", "tool_calls", "name" and "tool_call_id" where
// there are such, as in transformers' guide to chat templates.
OrderedJson default_messages(const Chat& chat);
// For templates that refuse the role: system messages are left out, with a warning in the log.
OrderedJson messages_without_system(const Chat& chat);
// The default, or the one without system messages where the template refuses them (it is tried).
MessageGenerator message_generator_for(const Tokenizer& tokenizer);

// The content of a message as a list, as the templates of models with media want it: an object with
// "type" "image", "video" or "audio" for each, then the text.
OrderedJson messages_with_media(const Chat& chat);

// Renders a conversation. Some templates want the arguments of tool calls as an object, others as
// text: both are tried.
std::string render(const OrderedJson& messages, const OrderedJson& context,
                   const Tokenizer& tokenizer);

// Renders the chat template and encodes the outcome. Without a template: the text of the last
// message as it is, which is what a base model continues.
LMInput prepare(const UserInput& input, const Tokenizer& tokenizer,
                const MessageGenerator& messages = default_messages);

}  // namespace mlxcpp
