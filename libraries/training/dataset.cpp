#include "training/dataset.h"

#include <fstream>

#include "core/ordered_json.h"

namespace mlxcpp::training {
namespace {

namespace fs = std::filesystem;

// In the order of the file, in which templates print tools and arguments.
OrderedJson parse_line(const std::string& line, const std::string& where) {
  OrderedJson json = parse_ordered_json(line, where);
  if (!json.is_object())
    throw Error("{}: expected a JSON object, found {}", where, describe(Json(json)));
  return json;
}

std::string need_text(const OrderedJson& line, const char* key, const std::string& where) {
  const auto& value = line.at(key);
  if (!value.is_string())
    throw Error("{}: '{}' must be a string, found {}", where, key, describe(Json(value)));
  return value.get<std::string>();
}

class Reader {
 public:
  Reader(const Tokenizer& tokenizer, const DataOptions& options)
      : tokenizer_(tokenizer), options_(options) {}

  Example json(const std::string& text, const std::string& where) const {
    const OrderedJson line = parse_line(text, where);
    if (line.contains("prompt") && line.contains("completion"))
      return chat({{{"role", "user"}, {"content", need_text(line, "prompt", where)}},
                   {{"role", "assistant"}, {"content", need_text(line, "completion", where)}}},
                  line, where);
    if (line.contains("messages")) return chat(line.at("messages"), line, where);
    if (line.contains("text")) return plain(need_text(line, "text", where), where);
    throw Error("{}: expected 'text', 'prompt' and 'completion', or 'messages'; found {}", where,
                describe(Json(line)));
  }

  Example plain(const std::string& text, const std::string& where) const {
    if (options_.mask_prompt)
      throw Error(
          "{}: --mask-prompt needs 'messages' or 'prompt' and 'completion': a text has no "
          "prompt",
          where);
    Example e{tokenizer_.encode(text)};
    const auto eos = tokenizer_.eos();
    if (!eos.empty() && (e.tokens.empty() || e.tokens.back() != eos.front()))
      e.tokens.push_back(eos.front());
    return checked(std::move(e), where);
  }

 private:
  Example chat(const OrderedJson& messages, const OrderedJson& line,
               const std::string& where) const {
    if (!messages.is_array() || messages.empty())
      throw Error("{}: 'messages' must be a list with at least one message, found {}", where,
                  describe(Json(messages)));
    OrderedJson context = OrderedJson::object();
    if (const auto tools = line.find("tools"); tools != line.end() && !tools->is_null()) {
      if (!tools->is_array())
        throw Error("{}: 'tools' must be a list, found {}", where, describe(Json(*tools)));
      context["tools"] = *tools;
    }
    Example e{rendered(messages, context, where)};
    if (options_.mask_prompt) {
      OrderedJson prompt(messages.begin(), messages.end() - 1);
      const auto& last = messages.back();
      context["add_generation_prompt"] =
          last.is_object() && last.contains("role") && last.at("role") == "assistant";
      e.prompt = static_cast<int>(rendered(prompt, context, where).size());
    }
    return checked(std::move(e), where);
  }

  std::vector<int> rendered(const OrderedJson& messages, const OrderedJson& context,
                            const std::string& where) const {
    try {
      // The template writes the special tokens itself.
      return tokenizer_.encode(tokenizer_.apply_chat_template(messages, context), false);
    } catch (const Error& e) {
      throw Error("{}: {}", where, e.what());
    }
  }

  Example checked(Example e, const std::string& where) const {
    if (e.tokens.size() < 2)
      throw Error("{}: expected at least two tokens to learn from, found {}", where,
                  e.tokens.size());
    if (e.prompt >= std::ssize(e.tokens))
      throw Error("{}: the prompt is all there is: nothing is left to learn", where);
    if (options_.vocab_size)
      for (const int id : e.tokens)
        if (id < 0 || id >= *options_.vocab_size)
          throw Error(
              "{}: the tokenizer has token {} ('{}'), but the model's vocabulary has {}: "
              "tokenizer and model do not belong together",
              where, id, tokenizer_.id_to_token(id), *options_.vocab_size);
    return e;
  }

  const Tokenizer& tokenizer_;
  const DataOptions& options_;
};

bool is_blank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

}  // namespace

std::optional<std::vector<Example>> load_split(const fs::path& folder, const std::string& name,
                                               const Tokenizer& tokenizer,
                                               const DataOptions& options) {
  if (!fs::is_directory(folder))
    throw Error("{}: expected a folder with train.jsonl (or .txt) and its like", folder.string());
  fs::path file = folder / (name + ".jsonl");
  const bool json = fs::exists(file);
  if (!json) file = folder / (name + ".txt");
  if (!fs::exists(file)) return std::nullopt;
  std::ifstream in(file, std::ios::binary);
  if (!in || fs::is_directory(file)) throw Error("{}: cannot be read", file.string());

  const Reader reader(tokenizer, options);
  std::vector<Example> examples;
  std::string line;
  for (size_t number = 1; std::getline(in, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (is_blank(line)) continue;
    const std::string where = fmt::format("{}:{}", file.string(), number);
    examples.push_back(json ? reader.json(line, where) : reader.plain(line, where));
  }
  if (in.bad()) throw Error("{}: cannot be read to its end", file.string());
  if (examples.empty()) throw Error("{}: there is no example in it", file.string());
  return examples;
}

std::vector<Example> need_split(const fs::path& folder, const std::string& name,
                                const Tokenizer& tokenizer, const DataOptions& options) {
  auto split = load_split(folder, name, tokenizer, options);
  if (!split)
    throw Error("{}: expected {}.jsonl or {}.txt, found neither", folder.string(), name, name);
  return std::move(*split);
}

uint64_t fingerprint(const std::vector<Example>& examples) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  const auto add = [&](uint64_t word) {
    for (int i = 0; i < 8; ++i) hash = (hash ^ (word >> 8 * i & 0xff)) * 0x100000001b3u;
  };
  for (const Example& e : examples) {
    add(e.tokens.size());
    add(static_cast<uint64_t>(e.prompt));
    for (const int id : e.tokens) add(static_cast<uint64_t>(id));
  }
  return hash;
}

}  // namespace mlxcpp::training
