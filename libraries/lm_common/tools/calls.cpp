#include "lm_common/tools/calls.h"

#include "core/error.h"

namespace mlxcpp::tool_text {

std::optional<OrderedJson> json(std::string_view text) {
  try {
    return parse_ordered_json(text, "tool call");
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<ToolCall> call_of(const OrderedJson& j) {
  if (!j.is_object()) return std::nullopt;
  if (const auto f = j.find("function"); f != j.end() && f->is_object()) return call_of(*f);
  ToolCall call;
  bool named = false;
  for (const char* key : {"name", "tool_name", "function"})
    if (const auto it = j.find(key); !named && it != j.end() && it->is_string()) {
      call.name = it->get<std::string>();
      named = true;
    }
  if (call.name.empty()) return std::nullopt;
  for (const char* key : {"id", "tool_call_id"})
    if (const auto it = j.find(key); it != j.end() && it->is_string())
      call.id = it->get<std::string>();
  for (const char* key : {"arguments", "parameters"}) {
    const auto it = j.find(key);
    if (it == j.end() || it->is_null()) continue;
    OrderedJson arguments = *it;
    if (arguments.is_string()) {
      auto inner = json(arguments.get<std::string>());
      if (!inner) return std::nullopt;
      arguments = std::move(*inner);
    }
    if (!arguments.is_object()) return std::nullopt;
    call.arguments = std::move(arguments);
    break;
  }
  return call;
}

std::optional<std::vector<ToolCall>> calls_of(const OrderedJson& j) {
  std::vector<ToolCall> calls;
  const auto add = [&](const OrderedJson& one) {
    auto call = call_of(one);
    if (call) calls.push_back(std::move(*call));
    return call.has_value();
  };
  if (!j.is_array()) {
    if (!add(j)) return std::nullopt;
  } else {
    for (const OrderedJson& one : j)
      if (!add(one)) return std::nullopt;
  }
  if (calls.empty()) return std::nullopt;
  return calls;
}

std::optional<std::vector<ToolCall>> calls_of(std::string_view text) {
  const auto j = json(text);
  return j ? calls_of(*j) : std::nullopt;
}

ToolCallMatch json_between(std::string_view text, std::string_view open, std::string_view close,
                           bool end) {
  const size_t begin = skip_space(text, open.size());
  if (begin == text.size()) return {end ? Found::no : Found::more};
  if (text[begin] != '{' && text[begin] != '[') return {Found::no};
  const Scan body = bracketed(text, begin);
  if (body.found != Found::yes) return {end ? Found::no : body.found};
  size_t after = body.end;
  if (!close.empty()) {
    after = skip_space(text, after);
    const Scan mark = literal(text, after, close);
    if (mark.found == Found::more && !end) return {Found::more};
    if (mark.found == Found::no) return {Found::no};
    after = mark.found == Found::yes ? mark.end : text.size();
  }
  auto calls = calls_of(text.substr(begin, body.end - begin));
  if (!calls) return {Found::no};
  return {Found::yes, after, std::move(*calls)};
}

}  // namespace mlxcpp::tool_text
