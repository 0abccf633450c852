#include "embedders/text_model.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <numeric>

#include "kernels/thread_pool.h"
#include "lm_common/gguf_tokenizer.h"
#include "lm_common/model_context.h"
#include "nn/quantized.h"
#include "weights/gguf.h"

namespace mlxcpp::embedders {
namespace {

constexpr size_t kBatchTokens = 16384;

// "ARCH.pooling_type" of a GGUF file, as llama.cpp numbers them.
std::vector<Pooling> gguf_pooling(const GgufFile& g) {
  const std::string key =
      fmt::format("{}.pooling_type", g.need<std::string_view>("general.architecture"));
  const auto type = g.find<int>(key);
  if (!type || *type == 0) return {};
  switch (*type) {
    case 1:
      return {Pooling::mean};
    case 2:
      return {Pooling::cls};
    case 3:
      return {Pooling::last};
    default:
      throw Error("{}: '{}' is {}, expected 0 (none), 1 (mean), 2 (cls) or 3 (last)", g.where(),
                  key, *type);
  }
}

// Tokens that a text may have: what the model can take, what the folder says, what was asked for.
int bound(const TextEncoder& encoder, const SentenceConfig& sentence,
          const std::filesystem::path& folder, const LoadOptions& options) {
  int n = encoder.max_length();
  if (sentence.max_seq_length) {
    n = std::min(n, *sentence.max_seq_length);
  } else if (const auto file = folder / "tokenizer_config.json"; std::filesystem::exists(file)) {
    const Json config = read_json(file);
    double model_max_length = n;  // may be 1e30 for none
    ConfigReader(config, file.string()).maybe("model_max_length", model_max_length);
    if (model_max_length >= 1) n = static_cast<int>(std::min<double>(n, model_max_length));
  }
  if (options.max_length) n = std::min(n, *options.max_length);
  if (n < 1) throw Error("a text of at most {} tokens was asked for; expected 1 or more", n);
  return n;
}

// Where `part` stands in `whole` from `from` on; -1: nowhere.
ptrdiff_t find(const std::vector<int>& whole, const std::vector<int>& part, size_t from = 0) {
  const auto at = std::search(whole.begin() + static_cast<ptrdiff_t>(from), whole.end(),
                              part.begin(), part.end());
  return at == whole.end() && !part.empty() ? -1 : at - whole.begin();
}

Tokens tokens_of(Encoding encoding) {
  return {.ids = std::move(encoding.ids), .type_ids = std::move(encoding.type_ids)};
}

void erase(Tokens& t, size_t begin, size_t end) {
  for (auto* v : {&t.ids, &t.type_ids})
    if (!v->empty())
      v->erase(v->begin() + static_cast<ptrdiff_t>(begin),
               v->begin() + static_cast<ptrdiff_t>(end));
}

}  // namespace

TextModel::TextModel(const ModelFiles& files, Head head, const LoadOptions& options)
    : TextModel(files, head, options, load_config(files.folder, files.gguf)) {}

TextModel::TextModel(const ModelFiles& files, Head head, const LoadOptions& options, Json config_)
    : type(encoder_type(config_, files.config_file())),
      config(std::move(config_)),
      where((files.gguf.empty() ? files.folder : files.gguf.front()).string()) {
  std::optional<GgufFile> gguf;
  if (!files.gguf.empty()) gguf.emplace(files.gguf);
  auto loading = std::async(std::launch::async, [&] {
    return gguf ? gguf_tokenizer(*gguf) : Tokenizer::from_folder(files.folder);
  });
  try {
    if (gguf) {
      sentence.pooling = gguf_pooling(*gguf);
      sentence.has_modules = !sentence.pooling.empty();
      sentence.normalize = true;
    } else if (head == Head::none) {
      sentence = read_sentence_config(files.folder);
    }
    encoder = type.make(config, head);
    Checkpoint checkpoint = load_checkpoint(files.folder, files.gguf);
    put_weights(encoder->module(), encoder->sanitize(std::move(checkpoint.weights)),
                checkpoint.quantization);
  } catch (const Error& e) {
    loading.wait();
    throw Error("{}", in_file(files.config_file(), e.what()));
  }
  encoder->module().eval();
  if (options.quantize) {
    const auto kept = encoder->kept_in_floats();
    nn::quantize_weights(encoder->module(), [&](const std::string&, const nn::Module& layer) {
      const auto* linear = dynamic_cast<const nn::Linear*>(&layer);
      return linear && std::find(kept.begin(), kept.end(), &layer) == kept.end() &&
                     linear->input_dims() % options.quantize->group_size == 0
                 ? options.quantize
                 : std::nullopt;
    });
  }
  tokenizer = loading.get();
  max_length = bound(*encoder, sentence, files.folder, options);
}

Tokens TextModel::tokens(std::string_view text) const {
  Tokens t{.ids = tokenizer->encode(text)};
  const size_t limit = static_cast<size_t>(max_length);
  if (t.ids.size() <= limit) return t;
  // What stands around the text stays.
  const auto plain = tokenizer->encode(text, false);
  const auto at = find(t.ids, plain);
  const size_t around = t.ids.size() - plain.size();
  if (at < 0 || around >= limit)
    throw Error("{}: a text of {} tokens cannot be cut to {}", where, t.ids.size(), limit);
  erase(t, static_cast<size_t>(at) + limit - around, static_cast<size_t>(at) + plain.size());
  return t;
}

Tokens TextModel::tokens(std::string_view text, std::string_view pair) const {
  Tokens t = tokens_of(tokenizer->encode_with_ranges(text, pair));
  const size_t limit = static_cast<size_t>(max_length);
  if (t.ids.size() <= limit) return t;
  const auto first = tokenizer->encode(text, false), second = tokenizer->encode(pair, false);
  const size_t around = t.ids.size() - first.size() - second.size();
  const auto at = find(t.ids, first);
  const auto next = at < 0 ? -1 : find(t.ids, second, static_cast<size_t>(at) + first.size());
  if (next < 0 || around >= limit)
    throw Error("{}: a pair of {} tokens cannot be cut to {}", where, t.ids.size(), limit);
  // As the crate `tokenizers` does it ("longest first"): the longer loses what it has more; then
  // both share what there is.
  const size_t room = limit - around;
  size_t less = std::min(first.size(), second.size());
  size_t more = less > room ? less : std::max(less, room - less);
  if (less + more > room) {
    less = room / 2;
    more = less + room % 2;
  }
  const bool swapped = first.size() > second.size();
  const size_t keep_first = swapped ? more : less, keep_second = swapped ? less : more;
  erase(t, static_cast<size_t>(next) + keep_second, static_cast<size_t>(next) + second.size());
  erase(t, static_cast<size_t>(at) + keep_first, static_cast<size_t>(at) + first.size());
  return t;
}

void TextModel::check(const Tokens& tokens) const {
  for (const int id : tokens.ids)
    if (id < 0 || id >= encoder->vocab_size())
      throw Error("{}: the tokenizer gives id {}, the model knows {}", where, id,
                  encoder->vocab_size());
}

std::vector<std::vector<size_t>> plan_batches(const std::vector<Tokens>& texts, int batch_size) {
  if (batch_size < 1) throw Error("a batch of {} texts; expected 1 or more", batch_size);
  std::vector<size_t> order(texts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::erase_if(order, [&](size_t i) { return texts[i].ids.empty(); });
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return texts[a].ids.size() > texts[b].ids.size(); });
  std::vector<std::vector<size_t>> batches;
  size_t tokens = 0;
  for (const size_t i : order) {
    const size_t n = texts[i].ids.size();
    if (batches.empty() || batches.back().size() == static_cast<size_t>(batch_size) ||
        tokens + n > kBatchTokens) {
      batches.emplace_back();
      tokens = 0;
    }
    batches.back().push_back(i);
    tokens += n;
  }
  return batches;
}

void for_each_text(size_t n, const std::function<void(size_t)>& f, size_t first_number) {
  kernels::parallel_for(n, 4, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      try {
        f(i);
      } catch (const Error& e) {
        throw Error("text {}: {}", i + first_number, e.what());
      }
    }
  });
}

}  // namespace mlxcpp::embedders
