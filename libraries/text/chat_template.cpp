#include "text/chat_template.h"

#include <utility>

#include "text/abi.h"

namespace mlxcpp {
namespace {

using text_abi::slice;

std::string dump(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace

struct ChatTemplate::Impl {
  MlxcppTemplate* handle = nullptr;
  std::string where;
  ~Impl() {
    if (handle) mlxcpp_template_delete(handle);
  }
};

ChatTemplate::ChatTemplate(const std::map<std::string, std::string>& sources,
                           const std::map<std::string, std::string>& special_tokens,
                           std::string where)
    : impl_(std::make_unique<Impl>()) {
  impl_->where = std::move(where);
  const std::string texts = dump(sources), tokens = dump(special_tokens);
  text_abi::call(impl_->where, [&](MlxcppBuffer* error) {
    return mlxcpp_template_new(slice(texts), slice(tokens), &impl_->handle, error);
  });
}

ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const OrderedJson& messages, const OrderedJson& context) const {
  const std::string message_text = dump(messages), context_text = dump(context);
  text_abi::Buffer text;
  text_abi::call(impl_->where, [&](MlxcppBuffer* error) {
    return mlxcpp_template_render(impl_->handle, slice(message_text), slice(context_text),
                                  text.out(), error);
  });
  return text.text();
}

}  // namespace mlxcpp
