#include "text/gguf_vocabulary.h"

namespace mlxcpp {

GgufVocabulary read_gguf_vocabulary(const GgufFile& file) {
  const auto key = [](const std::string& name) { return "tokenizer.ggml." + name; };
  using Texts = std::vector<std::string_view>;
  GgufVocabulary v;
  v.where = file.where();
  v.model = file.need<std::string_view>(key("model"));
  v.pre = file.get<std::string_view>(key("pre"), "");
  v.tokens = file.need<Texts>(key("tokens"));
  v.merges = file.get(key("merges"), Texts{});
  v.scores = file.get(key("scores"), std::vector<float>{});
  v.types = file.get(key("token_type"), std::vector<int>{});
  for (const int byte : file.get(key("precompiled_charsmap"), std::vector<int>{}))
    v.precompiled_charsmap.push_back(static_cast<char>(byte));
  for (const char* name :
       {"bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask"})
    if (const auto id = file.find<int>(key(std::string(name) + "_token_id"))) v.ids[name] = *id;
  for (const char* name :
       {"add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix",
        "remove_extra_whitespaces", "normalizer.lowercase", "normalizer.strip_accents"})
    if (const auto on = file.find<bool>(key(name))) v.flags[name] = *on;

  const std::string chat = "tokenizer.chat_template";
  if (const auto text = file.find<std::string_view>(chat)) v.chat_templates["default"] = *text;
  for (const std::string_view name : file.get("tokenizer.chat_templates", Texts{}))
    v.chat_templates[std::string(name)] =
        file.need<std::string_view>(chat + "." + std::string(name));
  return v;
}

}  // namespace mlxcpp
