#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lm_common/processor.h"
#include "vlm/contents.h"
#include "vlm/media/image_processor.h"
#include "vlm/processor_files.h"

namespace mlxcpp::vlm {

// What processors of all families do: messages to the template's form, media from files, each mark
// of the rendered prompt replaced by what the family writes there, then token ids. A family says
// what its marks are and what it makes of each medium.
class MediaProcessor : public Processor {
 public:
  LMInput prepare(const UserInput& input, const Tokenizer& tokenizer) const final;

  // The prompt of messages in the template's form (see messages_with_media). Without a template:
  // the marks of the last message's media, then its text.
  std::string render(const OrderedJson& messages, const Tokenizer& tokenizer,
                     const OrderedJson& context = OrderedJson::object()) const;
  // How films are looked at; for families that take them.
  virtual FilmReading film_reading(const MediaOptions& options) const;
  // From such a prompt, which has a mark for each of the media, in order for each kind. Error when
  // it has more or fewer. Frames of films have been through film_reading().
  LMInput assemble(std::string_view prompt, const std::vector<Content>& media,
                   const Tokenizer& tokenizer) const;

 protected:
  // What stands in the prompt in place of a mark, and the medium behind it: values, placeholder and
  // count are the family's to set.
  struct Part {
    std::string text;
    Medium medium;
  };

  // The text that marks a medium's place; "": the family does not take this kind.
  virtual std::string mark(Medium::Kind kind) const = 0;
  // Those of the kinds that have a mark.
  virtual Part of_picture(const media::Picture& picture, const Tokenizer& tokenizer) const;
  virtual Part of_film(const Frames& film, const Tokenizer& tokenizer) const;
  // `longest`: samples of the prompt's longest sound.
  virtual Part of_sound(const media::Sound& sound, size_t longest,
                        const Tokenizer& tokenizer) const;
  virtual int sound_rate() const { return 16000; }
  // Messages for templates that do not know all kinds of media.
  virtual OrderedJson adapt(OrderedJson messages) const { return messages; }
  // What else belongs to a rendered prompt, its marks still in it.
  virtual std::string complete(std::string prompt, const Tokenizer&) const { return prompt; }

 private:
  Content read(Medium::Kind kind, const std::filesystem::path& file,
               const MediaOptions& options) const;
};

// Filter, mean and deviation, for Processor::describe().
Json describe_pictures(const media::PixelConfig& config);

// `text` n times.
std::string repeat(std::string_view text, size_t n);

// The id of a token that a family cannot do without; Error when the tokenizer has not got it.
int token_id(const Tokenizer& tokenizer, std::string_view token);

}  // namespace mlxcpp::vlm
