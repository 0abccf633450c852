#include "vlm/media_processor.h"

#include <array>

#include "core/error.h"

namespace mlxcpp::vlm {
namespace {

using Kind = Medium::Kind;

struct Word {
  Kind kind;
  const char *type, *one, *many;
};
constexpr std::array kWords = {Word{Kind::image, "image", "picture", "pictures"},
                               Word{Kind::video, "video", "film", "films"},
                               Word{Kind::audio, "audio", "sound", "sounds"}};

const Word& word(Kind kind) { return kWords[static_cast<size_t>(kind)]; }

std::string counted(size_t n, Kind kind) {
  return fmt::format("{} {}", n, n == 1 ? word(kind).one : word(kind).many);
}

// Calls f(kind, part) for every medium in messages of the template's form.
template <class F>
void for_each_medium(const OrderedJson& messages, F f) {
  for (const OrderedJson& message : messages) {
    if (!message.is_object() || !message.contains("content")) continue;
    const OrderedJson& content = message.at("content");
    if (!content.is_array()) continue;
    for (const OrderedJson& part : content) {
      if (!part.is_object() || !part.contains("type")) continue;
      for (const Word& w : kWords)
        if (part.at("type") == w.type) f(w.kind, part);
    }
  }
}

// {"type": "image", "path": FILE}, or "image": FILE as other tools write it.
std::filesystem::path file_of(Kind kind, const OrderedJson& part) {
  for (const char* key : {"path", word(kind).type})
    if (const auto it = part.find(key); it != part.end() && it->is_string())
      return it->get<std::string>();
  throw Error("a message has a part of type '{}' without its file: expected a 'path'",
              word(kind).type);
}

std::string last_text(const OrderedJson& messages) {
  std::string text;
  if (messages.empty() || !messages.back().is_object() || !messages.back().contains("content"))
    return text;
  const OrderedJson& content = messages.back().at("content");
  if (content.is_string()) return content.get<std::string>();
  if (content.is_array())
    for (const OrderedJson& part : content)
      if (part.is_object() && part.contains("text") && part.at("text").is_string())
        text += part.at("text").get<std::string>();
  return text;
}

}  // namespace

MediaProcessor::Part MediaProcessor::of_picture(const media::Picture&, const Tokenizer&) const {
  throw Error("this model does not look at pictures");
}
MediaProcessor::Part MediaProcessor::of_film(const Frames&, const Tokenizer&) const {
  throw Error("this model does not look at films");
}
MediaProcessor::Part MediaProcessor::of_sound(const media::Sound&, size_t, const Tokenizer&) const {
  throw Error("this model does not hear sounds");
}
FilmReading MediaProcessor::film_reading(const MediaOptions&) const {
  throw Error("this model does not look at films");
}

Content MediaProcessor::read(Kind kind, const std::filesystem::path& file,
                             const MediaOptions& options) const {
  if (mark(kind).empty()) throw Error("{}: this model takes no {}", file.string(), word(kind).many);
  switch (kind) {
    case Kind::image:
      return read_picture(file, options);
    case Kind::video:
      return read_film(file, options, film_reading(options));
    case Kind::audio:
      break;
  }
  return read_sound(file, options, sound_rate());
}

LMInput MediaProcessor::prepare(const UserInput& input, const Tokenizer& tokenizer) const {
  OrderedJson messages;
  if (const auto* text = std::get_if<std::string>(&input.prompt))
    messages = messages_with_media({chat::user(*text)});
  else if (const auto* conversation = std::get_if<Chat>(&input.prompt))
    messages = messages_with_media(*conversation);
  else
    messages = std::get<Json>(input.prompt);
  if (!messages.is_array())
    throw Error("messages must be a list, found {}", mlxcpp::describe(messages));

  OrderedJson context = OrderedJson::object();
  if (!input.tools.is_null()) context["tools"] = input.tools;
  if (input.additional_context.is_object()) context.update(OrderedJson(input.additional_context));
  std::vector<Content> media;
  for_each_medium(messages, [&](Kind kind, const OrderedJson& part) {
    media.push_back(read(kind, file_of(kind, part), input.media));
  });
  return assemble(render(messages, tokenizer, context), media, tokenizer);
}

std::string MediaProcessor::render(const OrderedJson& messages, const Tokenizer& tokenizer,
                                   const OrderedJson& context) const {
  if (!tokenizer.has_chat_template()) {
    std::string prompt;
    for_each_medium(messages, [&](Kind kind, const OrderedJson&) { prompt += mark(kind); });
    return prompt + last_text(messages);
  }
  OrderedJson with = {{"add_generation_prompt", true}};
  with.update(context);
  return mlxcpp::render(adapt(messages), with, tokenizer);
}

LMInput MediaProcessor::assemble(std::string_view rendered, const std::vector<Content>& media,
                                 const Tokenizer& tokenizer) const {
  const std::string prompt = complete(std::string(rendered), tokenizer);
  std::array<std::vector<const Content*>, kWords.size()> waiting;
  size_t longest = 0;
  for (const Content& c : media) {
    if (mark(c.kind()).empty()) throw Error("this model takes no {}", word(c.kind()).many);
    waiting[static_cast<size_t>(c.kind())].push_back(&c);
    if (const auto* sound = std::get_if<media::Sound>(&c.data))
      longest = std::max(longest, sound->samples.size());
  }

  LMInput out;
  std::string text;
  std::array<size_t, kWords.size()> found{};
  for (size_t at = 0;;) {
    size_t next = std::string::npos;
    Kind kind = Kind::image;
    for (const Word& w : kWords) {
      const std::string m = mark(w.kind);
      const size_t here = m.empty() ? std::string::npos : prompt.find(m, at);
      if (here >= next) continue;
      next = here;
      kind = w.kind;
    }
    text += prompt.substr(at, next == std::string::npos ? next : next - at);
    if (next == std::string::npos) break;
    at = next + mark(kind).size();
    const auto& queue = waiting[static_cast<size_t>(kind)];
    const size_t n = found[static_cast<size_t>(kind)]++;
    if (n >= queue.size()) continue;  // an Error below, which counts them all
    const auto& data = queue[n]->data;
    Part p = kind == Kind::image   ? of_picture(std::get<media::Picture>(data), tokenizer)
             : kind == Kind::video ? of_film(std::get<Frames>(data), tokenizer)
                                   : of_sound(std::get<media::Sound>(data), longest, tokenizer);
    p.medium.kind = kind;
    // A key of the family's own says what else than the content its values depend on.
    p.medium.key = queue[n]->key.empty() ? "" : queue[n]->key + p.medium.key;
    text += p.text;
    out.media.push_back(std::move(p.medium));
  }
  for (const Word& w : kWords) {
    const size_t places = found[static_cast<size_t>(w.kind)];
    const size_t given = waiting[static_cast<size_t>(w.kind)].size();
    if (places != given)
      throw Error("{} given, but the prompt has places ('{}') for {}", counted(given, w.kind),
                  mark(w.kind), places);
  }
  out.tokens = tokenizer.encode(text, false);
  place_media(out);
  return out;
}

Json describe_pictures(const media::PixelConfig& config) {
  constexpr const char* kFilters[] = {"nearest", "bilinear", "bicubic", "lanczos"};
  return {{"resize", config.do_resize ? kFilters[static_cast<size_t>(config.resample)] : "none"},
          {"backend", "torchvision"},
          {"mean", config.image_mean},
          {"std", config.image_std}};
}

std::string repeat(std::string_view text, size_t n) {
  std::string out;
  out.reserve(text.size() * n);
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

int token_id(const Tokenizer& tokenizer, std::string_view token) {
  if (const auto id = tokenizer.token_to_id(token)) return *id;
  throw Error("the tokenizer has no token '{}', which this model's prompts need", token);
}

}  // namespace mlxcpp::vlm
