#pragma once

#include <map>
#include <memory>
#include <string>

#include "core/ordered_json.h"

namespace mlxcpp {

// Jinja chat templates with the results of transformers' apply_chat_template
// (transformers/utils/chat_template_utils.py, version 5). Immutable and safe to use from any
// thread. A template is hostile input: what it may cost in time, memory and depth is bounded.
class ChatTemplate {
 public:
  // The text of each named template ("default", "tool_use", ...), and what templates know as
  // bos_token, eos_token, ... Throws an Error that names `where` and the line.
  ChatTemplate(const std::map<std::string, std::string>& sources,
               const std::map<std::string, std::string>& special_tokens = {},
               std::string where = "chat template");
  ~ChatTemplate();

  // `context`: tools, documents, add_generation_prompt, continue_final_message (true, or the
  // message's field), and the template's own arguments such as enable_thinking; a special token's
  // name takes its place, "messages" is refused. With tools, the template "tool_use" is taken where
  // there is one.
  std::string render(const OrderedJson& messages,
                     const OrderedJson& context = OrderedJson::object()) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mlxcpp
