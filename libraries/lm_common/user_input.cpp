#include "lm_common/user_input.h"

#include "core/error.h"
#include "core/log.h"

namespace mlxcpp {
namespace {

Json message_json(const chat::Message& m) {
  return {{"role", chat::name(m.role)}, {"content", m.content}};
}

// The text of the last message, in whatever form its content has.
std::string last_text(const Json& messages) {
  if (!messages.is_array() || messages.empty()) return {};
  const Json& last = messages.back();
  if (!last.is_object() || !last.contains("content")) return {};
  const Json& content = last.at("content");
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  if (content.is_array())  // [{"type": "text", "text": ...}, {"type": "image"}]
    for (const Json& part : content)
      if (part.is_object() && part.contains("text") && part.at("text").is_string())
        text += part.at("text").get<std::string>();
  return text;
}

}  // namespace

std::string_view chat::name(Role role) {
  switch (role) {
    case Role::system:
      return "system";
    case Role::user:
      return "user";
    case Role::assistant:
      return "assistant";
    case Role::tool:
      return "tool";
  }
  return "";
}

Json default_messages(const Chat& chat) {
  Json out = Json::array();
  for (const chat::Message& m : chat) out.push_back(message_json(m));
  return out;
}

Json messages_with_media(const Chat& chat) {
  Json out = Json::array();
  for (const chat::Message& m : chat) {
    Json content = Json::array();
    const auto add = [&](const char* type, const std::vector<std::filesystem::path>& files) {
      for (const auto& file : files) content.push_back({{"type", type}, {"path", file.string()}});
    };
    add("image", m.images);
    add("video", m.videos);
    add("audio", m.audio);
    if (!m.content.empty() || content.empty())
      content.push_back({{"type", "text"}, {"text", m.content}});
    out.push_back({{"role", chat::name(m.role)}, {"content", std::move(content)}});
  }
  return out;
}

Json messages_without_system(const Chat& chat) {
  Json out = Json::array();
  for (const chat::Message& m : chat) {
    if (m.role != chat::Role::system)
      out.push_back(message_json(m));
    else
      log::warning("this model's chat template has no system messages: '{:.40}' is left out",
                   m.content);
  }
  return out;
}

MessageGenerator message_generator_for(const Tokenizer& tokenizer) {
  if (!tokenizer.has_chat_template()) return default_messages;
  try {
    tokenizer.apply_chat_template(default_messages({chat::system("test"), chat::user("test")}),
                                  {{"add_generation_prompt", true}});
    return default_messages;
  } catch (const Error&) {
    return messages_without_system;
  }
}

LMInput prepare(const UserInput& input, const Tokenizer& tokenizer,
                const MessageGenerator& messages) {
  if (const auto* conversation = std::get_if<Chat>(&input.prompt))
    for (const chat::Message& m : *conversation)
      if (!m.images.empty() || !m.videos.empty() || !m.audio.empty())
        throw Error(
            "this model takes text only: it has no way to see pictures or films, or to hear "
            "sounds");
  Json list;
  if (const auto* text = std::get_if<std::string>(&input.prompt))
    list = messages({chat::user(*text)});
  else if (const auto* conversation = std::get_if<Chat>(&input.prompt))
    list = messages(*conversation);
  else
    list = std::get<Json>(input.prompt);
  if (!list.is_array()) throw Error("messages must be a list, found {}", describe(list));

  if (!tokenizer.has_chat_template()) {
    const std::string text = last_text(list);
    const auto bos = tokenizer.bos();  // not twice
    const bool begun = bos && text.starts_with(tokenizer.id_to_token(*bos));
    return {tokenizer.encode(text, !begun)};
  }
  Json context = {{"add_generation_prompt", true}};
  if (!input.tools.is_null()) context["tools"] = input.tools;
  if (input.additional_context.is_object()) context.update(input.additional_context);
  const std::string text = tokenizer.apply_chat_template(list, context);
  // transformers' apply_chat_template adds no special tokens: the template has written them.
  return {tokenizer.encode(text, false)};
}

}  // namespace mlxcpp
