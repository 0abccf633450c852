#include "lm_common/user_input.h"

#include "core/error.h"
#include "core/log.h"
#include "lm_common/tools/tool.h"

namespace mlxcpp {
namespace {

// What goes with a message besides its content.
void add_calls(const chat::Message& m, OrderedJson& out) {
  if (!m.reasoning.empty()) out["reasoning_content"] = m.reasoning;
  for (const ToolCall& call : m.tool_calls) {
    OrderedJson one = {{"type", "function"},
                       {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
    if (!call.id.empty()) one["id"] = call.id;
    out["tool_calls"].push_back(std::move(one));
  }
  if (!m.tool_name.empty()) out["name"] = m.tool_name;
  if (!m.call_id.empty()) out["tool_call_id"] = m.call_id;
}

OrderedJson message_json(const chat::Message& m) {
  OrderedJson out = {{"role", chat::name(m.role)}, {"content", m.content}};
  add_calls(m, out);
  return out;
}

// The same messages, the arguments of their calls as text; nothing when there are no calls.
std::optional<OrderedJson> with_argument_texts(OrderedJson messages) {
  bool any = false;
  for (OrderedJson& m : messages) {
    if (!m.is_object() || !m.contains("tool_calls") || !m["tool_calls"].is_array()) continue;
    for (OrderedJson& call : m["tool_calls"])
      if (call.is_object() && call.contains("function") && call["function"].is_object() &&
          call["function"].contains("arguments") && call["function"]["arguments"].is_object()) {
        OrderedJson& arguments = call["function"]["arguments"];
        arguments = spaced_json(arguments);
        any = true;
      }
  }
  return any ? std::optional(std::move(messages)) : std::nullopt;
}

// Phi-4-mini's template takes the tools from the system message, as text; its model card has them
// without the "function" around, and the sentence of the system message.
bool tools_in_system_message(const std::string& chat_template) {
  return chat_template.find("message['tools']") != std::string::npos;
}

void put_tools_into_system_message(OrderedJson& messages, const OrderedJson& tools) {
  const bool first = !messages.empty() && messages[0].is_object() &&
                     messages[0].value("role", std::string()) == "system";
  if (!first)
    messages.insert(messages.begin(),
                    OrderedJson{{"role", "system"},
                                {"content", "You are a helpful assistant with some tools."}});
  OrderedJson bare = OrderedJson::array();
  for (const OrderedJson& tool : tools)
    bare.push_back(tool.is_object() && tool.contains("function") ? tool["function"] : tool);
  messages[0]["tools"] = spaced_json(bare);
}

// The text of the last message, in whatever form its content has.
std::string last_text(const OrderedJson& messages) {
  if (!messages.is_array() || messages.empty()) return {};
  const OrderedJson& last = messages.back();
  if (!last.is_object() || !last.contains("content")) return {};
  const OrderedJson& content = last.at("content");
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  if (content.is_array())  // [{"type": "text", "text": ...}, {"type": "image"}]
    for (const OrderedJson& part : content)
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

OrderedJson default_messages(const Chat& chat) {
  OrderedJson out = OrderedJson::array();
  for (const chat::Message& m : chat) out.push_back(message_json(m));
  return out;
}

OrderedJson messages_with_media(const Chat& chat) {
  OrderedJson out = OrderedJson::array();
  for (const chat::Message& m : chat) {
    OrderedJson content = OrderedJson::array();
    const auto add = [&](const char* type, const std::vector<std::filesystem::path>& files) {
      for (const auto& file : files) content.push_back({{"type", type}, {"path", file.string()}});
    };
    add("image", m.images);
    add("video", m.videos);
    add("audio", m.audio);
    if (!m.content.empty() || content.empty())
      content.push_back({{"type", "text"}, {"text", m.content}});
    OrderedJson message = {{"role", chat::name(m.role)}, {"content", std::move(content)}};
    add_calls(m, message);
    out.push_back(std::move(message));
  }
  return out;
}

OrderedJson messages_without_system(const Chat& chat) {
  OrderedJson out = OrderedJson::array();
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

std::string render(const OrderedJson& messages, const OrderedJson& context,
                   const Tokenizer& tokenizer) {
  try {
    return tokenizer.apply_chat_template(messages, context);
  } catch (const Error&) {
    const auto texts = with_argument_texts(messages);
    if (!texts) throw;
    return tokenizer.apply_chat_template(*texts, context);
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
  OrderedJson list;
  if (const auto* text = std::get_if<std::string>(&input.prompt))
    list = messages({chat::user(*text)});
  else if (const auto* conversation = std::get_if<Chat>(&input.prompt))
    list = messages(*conversation);
  else
    list = std::get<Json>(input.prompt);
  if (!list.is_array()) throw Error("messages must be a list, found {}", describe(list));
  const bool tools = !input.tools.is_null() && !input.tools.empty();

  if (!tokenizer.has_chat_template()) {
    const std::string text = last_text(list);
    const auto bos = tokenizer.bos();  // not twice
    const bool begun = bos && text.starts_with(tokenizer.id_to_token(*bos));
    return {tokenizer.encode(text, !begun)};
  }
  OrderedJson context = {{"add_generation_prompt", true}};
  if (tools) {
    context["tools"] = input.tools;
    // SmolLM3's template has two arguments for tools; this one is for JSON calls.
    if (tokenizer.chat_template(true).find("xml_tools") != std::string::npos &&
        !input.additional_context.contains("python_tools"))
      context["xml_tools"] = input.tools;
    if (tools_in_system_message(tokenizer.chat_template(true)))
      put_tools_into_system_message(list, input.tools);
  }
  if (input.additional_context.is_object()) context.update(OrderedJson(input.additional_context));
  const std::string text = render(list, context, tokenizer);
  // transformers' apply_chat_template adds no special tokens: the template has written them.
  return {tokenizer.encode(text, false)};
}

}  // namespace mlxcpp
