// What a person asks, and what a model gets of it.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/json.h"
#include "text/tokenizer.h"

namespace mlxcpp {

namespace chat {

enum class Role { system, user, assistant, tool };
std::string_view name(Role role);

// One turn of a conversation. Pictures, video and sound are references to files, for the models
// that take them.
struct Message {
  Role role = Role::user;
  std::string content;
  std::vector<std::filesystem::path> images = {};
  std::vector<std::filesystem::path> videos = {};
  std::vector<std::filesystem::path> audio = {};

  bool operator==(const Message&) const = default;
};

inline Message system(std::string content) { return {Role::system, std::move(content)}; }
inline Message user(std::string content) { return {Role::user, std::move(content)}; }
inline Message assistant(std::string content) { return {Role::assistant, std::move(content)}; }
inline Message tool(std::string content) { return {Role::tool, std::move(content)}; }

}  // namespace chat

using Chat = std::vector<chat::Message>;

// A prompt: one user's text, a conversation, or messages ready for the template (a JSON list).
struct UserInput {
  std::variant<std::string, Chat, Json> prompt;
  Json tools = nullptr;                      // a list of tool specifications, or null
  Json additional_context = Json::object();  // further arguments of the chat template

  UserInput(std::string text) : prompt(std::move(text)) {}
  UserInput(const char* text) : prompt(std::string(text)) {}
  UserInput(Chat messages) : prompt(std::move(messages)) {}
  UserInput(Json messages) : prompt(std::move(messages)) {}
};

// What the model computes: token ids. Media join here, as arrays, where a model takes them.
struct LMInput {
  std::vector<int> tokens;
};

// A conversation in the form that a model's chat template reads: a list of objects.
using MessageGenerator = std::function<Json(const Chat&)>;

Json default_messages(const Chat& chat);  // {"role", "content"}
// For templates that refuse the role: system messages are left out, with a warning in the log.
Json messages_without_system(const Chat& chat);
// The default, or the one without system messages where the template refuses them (it is tried).
MessageGenerator message_generator_for(const Tokenizer& tokenizer);

// Renders the chat template and encodes the outcome. Without a template: the text of the last
// message as it is, which is what a base model continues.
LMInput prepare(const UserInput& input, const Tokenizer& tokenizer,
                const MessageGenerator& messages = default_messages);

}  // namespace mlxcpp
