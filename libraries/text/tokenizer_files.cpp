#include "text/tokenizer_files.h"

#include <algorithm>
#include <fstream>
#include <set>

#include "core/error.h"

namespace mlxcpp {
namespace {

namespace fs = std::filesystem;

Json read_if_present(const fs::path& file) {
  std::error_code ec;
  if (!fs::exists(file, ec)) return nullptr;
  Json json = parse_json(read_text_file(file), file.string());
  if (!json.is_object())
    throw Error("{}: expected an object, found {}", file.string(), describe(json));
  return json;
}

bool flag(const Json& token, const char* name, bool otherwise) {
  const auto it = token.find(name);
  return it != token.end() && it->is_boolean() ? it->get<bool>() : otherwise;
}

// A token is written as its text, or as an object with "content". Null and others: none.
bool read_token(const Json& json, bool special, AddedToken& out) {
  out = AddedToken{.special = special, .normalized = !special};
  if (json.is_string()) {
    out.content = json.get<std::string>();
  } else if (json.is_object() && json.contains("content") && json["content"].is_string()) {
    out.content = json["content"].get<std::string>();
    out.special = flag(json, "special", special);
    out.normalized = flag(json, "normalized", !out.special);
    out.single_word = flag(json, "single_word", false);
    out.lstrip = flag(json, "lstrip", false);
    out.rstrip = flag(json, "rstrip", false);
  }
  return !out.content.empty();
}

// The named tokens ("bos_token", "image_token", ...) and the lists without names, in the order in
// which transformers numbers those that are new.
void read_special_tokens(const Json& json, TokenizerFiles& files) {
  AddedToken token;
  const auto add = [&](const std::string& name, const Json& value) {
    if (!read_token(value, true, token)) return;
    token.special = true;
    if (!name.empty()) files.special_tokens[name] = token.content;
    files.special.push_back(token);
  };
  const std::vector<std::string> first = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};
  for (const std::string& key : first)
    if (json.contains(key)) add(key, json[key]);
  for (const auto& [key, value] : json.items())
    if (key.ends_with("_token") && std::find(first.begin(), first.end(), key) == first.end())
      add(key, value);
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto it = json.find(key);
    if (it == json.end()) continue;
    if (it->is_array())
      for (const Json& value : *it) add("", value);
    if (it->is_object())
      for (const auto& [name, value] : it->items()) add(name, value);
  }
}

// {"128000": {"content": ...}, ...} in the order of the ids.
void read_added_tokens(const Json& json, const std::string& where, TokenizerFiles& files) {
  std::vector<std::pair<long, AddedToken>> tokens;
  for (const auto& [id, value] : json.items()) {
    AddedToken token;
    char* end = nullptr;
    const long number = std::strtol(id.c_str(), &end, 10);
    if (id.empty() || *end != '\0' || number < 0)
      throw Error("{}: 'added_tokens_decoder' must have ids as keys, found '{}'", where, id);
    if (read_token(value, false, token)) tokens.emplace_back(number, token);
  }
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [id, token] : tokens) files.added_tokens.push_back(std::move(token));
}

void read_templates(const Json& json, const std::string& where, TokenizerFiles& files) {
  files.chat_template_where = where;
  if (json.is_string()) {
    files.chat_templates["default"] = json.get<std::string>();
    return;
  }
  const auto bad = [&] {
    return Error("{}: 'chat_template' must be a template or a list of named ones, found {}", where,
                 describe(json));
  };
  if (json.is_object()) {
    for (const auto& [name, text] : json.items()) {
      if (!text.is_string()) throw bad();
      files.chat_templates[name] = text.get<std::string>();
    }
    return;
  }
  if (!json.is_array()) throw bad();
  for (const Json& item : json) {
    if (!item.is_object() || !item.value("name", Json()).is_string() ||
        !item.value("template", Json()).is_string())
      throw bad();
    files.chat_templates[item["name"].get<std::string>()] = item["template"].get<std::string>();
  }
}

// chat_template.jinja and additional_chat_templates/NAME.jinja, else chat_template.json, else
// what tokenizer_config.json has.
void find_templates(const fs::path& folder, TokenizerFiles& files) {
  std::error_code ec;
  const fs::path single = folder / "chat_template.jinja",
                 more = folder / "additional_chat_templates";
  if (fs::exists(single, ec)) {
    files.chat_templates["default"] = read_text_file(single);
    files.chat_template_where = single.string();
  }
  if (fs::is_directory(more, ec)) {
    for (const fs::directory_entry& entry : fs::directory_iterator(more)) {
      if (entry.path().extension() != ".jinja") continue;
      files.chat_templates[entry.path().stem().string()] = read_text_file(entry.path());
      if (files.chat_template_where.empty()) files.chat_template_where = more.string();
    }
  }
  if (!files.chat_templates.empty()) return;
  const fs::path json_file = folder / "chat_template.json";
  const Json json = read_if_present(json_file);
  if (json.is_object() && json.contains("chat_template")) {
    read_templates(json["chat_template"], json_file.string(), files);
  } else if (files.config.contains("chat_template") && !files.config["chat_template"].is_null()) {
    read_templates(files.config["chat_template"], (folder / "tokenizer_config.json").string(),
                   files);
  }
}

}  // namespace

std::vector<int> read_eos_ids(const Json& generation, const std::string& where) {
  std::vector<int> ids;
  if (!generation.is_object()) return ids;
  const auto it = generation.find("eos_token_id");
  if (it == generation.end() || it->is_null()) return ids;
  for (const Json& id : it->is_array() ? *it : Json::array({*it})) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX)
      throw Error("{}: 'eos_token_id' must be an id or a list of ids, found {}", where,
                  describe(*it));
    ids.push_back(id.get<int>());
  }
  return ids;
}

std::string read_text_file(const fs::path& file, size_t limit) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in || fs::is_directory(file)) throw Error("{}: cannot be read", file.string());
  const auto size = static_cast<size_t>(in.tellg());
  if (size > limit) throw Error("{}: larger than {} bytes", file.string(), limit);
  std::string text(size, '\0');
  in.seekg(0);
  if (!in.read(text.data(), static_cast<std::streamsize>(size)))
    throw Error("{}: cannot be read", file.string());
  return text;
}

TokenizerFiles read_tokenizer_files(const fs::path& folder) {
  TokenizerFiles files;
  const fs::path config_file = folder / "tokenizer_config.json";
  if (Json config = read_if_present(config_file); config.is_object()) {
    files.config = std::move(config);
    if (const Json name = files.config.value("tokenizer_class", Json()); name.is_string())
      files.tokenizer_class = name.get<std::string>();
    if (files.config.contains("added_tokens_decoder") &&
        files.config["added_tokens_decoder"].is_object())
      read_added_tokens(files.config["added_tokens_decoder"], config_file.string(), files);
    read_special_tokens(files.config, files);
  }
  // Files of older versions; the configuration has all of it once it lists the added tokens.
  if (!files.config.contains("added_tokens_decoder")) {
    if (const Json map = read_if_present(folder / "special_tokens_map.json"); map.is_object())
      read_special_tokens(map, files);
    const fs::path added_file = folder / "added_tokens.json";
    if (const Json added = read_if_present(added_file); added.is_object()) {
      std::set<std::string> special;
      for (const AddedToken& token : files.special) special.insert(token.content);
      std::vector<std::pair<int64_t, std::string>> tokens;
      for (const auto& [content, id] : added.items()) {
        if (!id.is_number_integer())
          throw Error("{}: '{}' must be an id, found {}", added_file.string(), content,
                      describe(id));
        tokens.emplace_back(id.get<int64_t>(), content);
      }
      std::sort(tokens.begin(), tokens.end());
      for (const auto& [id, content] : tokens)
        files.added_tokens.push_back({.content = content,
                                      .special = special.contains(content),
                                      .normalized = !special.contains(content)});
    }
  }
  find_templates(folder, files);
  const fs::path generation_file = folder / "generation_config.json";
  files.eos_ids = read_eos_ids(read_if_present(generation_file), generation_file.string());
  return files;
}

}  // namespace mlxcpp
