#include "core/error.h"
#include "text/chat_template.h"

using namespace mlxcpp;

// A chat template, over a conversation with everything that templates look at.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const OrderedJson messages = OrderedJson::parse(R"([
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What's this?"}]},
    {"role": "assistant", "content": "<think>\n?\n</think>\n\nA cat", "tool_calls": [
      {"id": "a1", "function": {"name": "f", "arguments": {"x": 1.5, "y": [null, true]}}}]},
    {"role": "tool", "content": "{\"z\": 1e-7}"}])");
  static const OrderedJson context = OrderedJson::parse(R"({"add_generation_prompt": true,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object",
      "properties": {"x": {"type": "number"}, "items": {"type": "array"}}}}}],
    "documents": [{"title": "T", "text": "D"}], "enable_thinking": false})");
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const ChatTemplate chat_template({{"default", text}}, {{"bos_token", "<s>"}});
    chat_template.render(messages, context);
  } catch (const Error&) {
  }
  return 0;
}
