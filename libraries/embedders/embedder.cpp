#include "embedders/embedder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/linear.h"
#include "kernels/norm.h"
#include "lm_common/memory.h"
#include "nn/activations.h"
#include "nn/linear.h"
#include "weights/safetensors.h"

namespace mlxcpp::embedders {
namespace {

constexpr float kLayerNormEps = 1e-5f;  // of torch.nn.functional.layer_norm

mx::array normalized(const mx::array& x) {  // as torch.nn.functional.normalize
  const auto length = mx::sqrt(mx::sum(x * x, -1, true));
  return x / mx::maximum(length, mx::array(1e-12f));
}

}  // namespace

struct Embedder::Dense {
  std::unique_ptr<nn::Linear> linear;
  nn::ActivationFn activation = nullptr;  // null: none

  struct Holder : nn::Module {
    explicit Holder(const DenseConfig& c)
        : linear(this, "linear", c.in_features, c.out_features, c.bias) {}
    nn::Child<nn::Linear> linear;
  };

  explicit Dense(const DenseConfig& c) {
    if (c.activation != "identity") activation = nn::activation_from_name(c.activation);
    Holder holder(c);
    const auto file = c.folder / "model.safetensors";
    try {
      nn::load(holder, load_safetensors(file));
    } catch (const Error& e) {
      const std::string text = e.what();
      if (text.starts_with(file.string())) throw;
      throw Error("{}: {}", file.string(), text);
    }
    linear = holder.linear.take();
  }
};

Embedder::Embedder(const ModelFiles& files, const EmbedderOptions& options)
    : model_(files, Head::none, options) {
  const SentenceConfig& s = model_.sentence;
  if (options.pooling)
    pooling_ = {*options.pooling};
  else if (!s.pooling.empty())
    pooling_ = s.pooling;
  else if (model_.type.is_language_model && !s.has_modules)
    throw Error(
        "{}: a language model, or an embedding model without its modules.json: say how to pool its "
        "tokens ({})",
        model_.where, fmt::join(pooling_names(), ", "));
  else
    pooling_ = {model_.type.pooling};
  int width = model_.encoder->hidden_size() * static_cast<int>(pooling_.size());
  for (const DenseConfig& c : s.dense) {
    if (c.in_features != width)
      throw Error("{}: 'in_features' is {}, but what comes before gives {} numbers",
                  (c.folder / "config.json").string(), c.in_features, width);
    dense_.push_back(std::make_shared<Dense>(c));
    width = c.out_features;
  }
}

int Embedder::dimension() const {
  return dense_.empty() ? model_.encoder->hidden_size() * static_cast<int>(pooling_.size())
                        : dense_.back()->linear->output_dims();
}

const std::string& Embedder::prompt(const EmbedOptions& o) const {
  if (!o.prompt.empty() && !o.prompt_name.empty())
    throw Error("both a prompt and the name of one ('{}') were given; expected one of them",
                o.prompt_name);
  if (!o.prompt.empty()) return o.prompt;
  static const std::string none;
  const std::string& name =
      o.prompt_name.empty() ? model_.sentence.default_prompt_name : o.prompt_name;
  return name.empty() ? none : model_.sentence.prompt(name);
}

Tokens Embedder::tokens(const std::string& text, const std::string& prompt) const {
  Tokens t = model_.tokens(prompt.empty() ? text : prompt + text);
  model_.check(t);
  if (!prompt.empty() && !model_.sentence.include_prompt) {
    // As sentence-transformers counts them: the prompt alone, without the token after it.
    const int alone = static_cast<int>(model_.tokenizer->encode(prompt).size());
    const int around = alone - static_cast<int>(model_.tokenizer->encode(prompt, false).size());
    t.prompt = std::min(alone - (around > 0 ? 1 : 0), static_cast<int>(t.ids.size()));
  }
  return t;
}

std::vector<Tokens> Embedder::tokenize(const std::vector<std::string>& texts,
                                       const EmbedOptions& o) const {
  const std::string& before = prompt(o);
  std::vector<Tokens> all(texts.size());
  for_each_text(texts.size(), [&](size_t i) { all[i] = tokens(texts[i], before); }, o.first_number);
  return all;
}

mx::array Embedder::pooled(const mx::array& hidden, const PackedTokens& packed,
                           const std::vector<int>& prompts) const {
  const auto x = mx::astype(hidden, mx::float32);
  std::vector<mx::array> parts;
  for (const Pooling p : pooling_) parts.push_back(pool(x, packed, p, prompts));
  return parts.size() == 1 ? parts[0] : mx::concatenate(parts, -1);
}

mx::array Embedder::finish(mx::array x, const EmbedOptions& o) const {
  for (const auto& layer : dense_) {
    x = (*layer->linear)(x);
    if (layer->activation) x = layer->activation(x);
  }
  if (o.layer_norm) x = kernels::layer_norm(x, std::nullopt, std::nullopt, kLayerNormEps);
  if (o.dimension) {
    if (*o.dimension < 1 || *o.dimension > x.shape(1))
      throw Error("a dimension of {} was asked for; the model's vectors have {}", *o.dimension,
                  x.shape(1));
    x = mx::slice(x, {0, 0}, {x.shape(0), *o.dimension});
  }
  return o.normalize.value_or(model_.sentence.normalize) ? normalized(x) : x;
}

mx::array Embedder::embed(const std::vector<std::string>& texts, const EmbedOptions& o) const {
  return embed_ids(tokenize(texts, o), o);
}

mx::array Embedder::embed_ids(const std::vector<Tokens>& all, const EmbedOptions& o) const {
  if (std::find(pooling_.begin(), pooling_.end(), Pooling::none) != pooling_.end())
    throw Error("pooling is 'none', so that a text has no single vector; use embed_tokens");
  const int width = o.dimension.value_or(dimension());
  if (width < 1 || width > dimension())
    throw Error("a dimension of {} was asked for; the model's vectors have {}", width, dimension());
  auto out = mx::zeros({static_cast<int>(all.size()), width}, mx::float32);
  out.eval();
  size_t done = 0;
  for (const auto& batch : plan_batches(all, o.batch_size)) {
    if (o.stop.stop_requested()) throw Error("stopped");
    std::vector<const Tokens*> tokens;
    std::vector<int> prompts;
    for (const size_t i : batch) {
      tokens.push_back(&all[i]);
      prompts.push_back(all[i].prompt);
    }
    const PackedTokens packed(tokens);
    auto vectors =
        mx::contiguous(finish(pooled(model_.encoder->hidden(packed), packed, prompts), o));
    vectors.eval();
    check_memory_limit();
    for (size_t row = 0; row < batch.size(); ++row)
      std::memcpy(out.data<float>() + batch[row] * static_cast<size_t>(width),
                  vectors.data<float>() + row * static_cast<size_t>(width),
                  static_cast<size_t>(width) * sizeof(float));
    done += batch.size();
    if (o.on_progress) o.on_progress(done);
  }
  return out;
}

std::vector<mx::array> Embedder::embed_tokens(const std::vector<std::string>& texts,
                                              const EmbedOptions& o) const {
  const std::vector<Tokens> all = tokenize(texts, o);
  std::vector<mx::array> out(texts.size(),
                             mx::zeros({0, model_.encoder->hidden_size()}, mx::float32));
  for (const auto& batch : plan_batches(all, o.batch_size)) {
    if (o.stop.stop_requested()) throw Error("stopped");
    std::vector<const Tokens*> tokens;
    for (const size_t i : batch) tokens.push_back(&all[i]);
    const PackedTokens packed(tokens);
    const auto hidden = mx::astype(model_.encoder->hidden(packed), mx::float32);
    int start = 0;
    for (const size_t i : batch) {
      const int n = static_cast<int>(all[i].ids.size());
      out[i] = mx::contiguous(mx::slice(hidden, {start, 0}, {start + n, hidden.shape(1)}));
      out[i].eval();
      start += n;
    }
    check_memory_limit();
  }
  return out;
}

mx::array similarity(const mx::array& a, const mx::array& b, std::string_view function) {
  const auto f32 = [](const mx::array& x) { return mx::astype(x, mx::float32); };
  if (a.ndim() != 2 || b.ndim() != 2 || a.shape(1) != b.shape(1))
    throw Error("similarity: expected vectors of one dimension, found {} and {}", a.shape(-1),
                b.shape(-1));
  if (function == "dot" || function == "dot_score") return kernels::linear(f32(a), f32(b));
  if (function == "cosine") return kernels::linear(normalized(f32(a)), normalized(f32(b)));
  const auto difference = mx::expand_dims(f32(a), 1) - mx::expand_dims(f32(b), 0);
  if (function == "euclidean") return -mx::sqrt(mx::sum(difference * difference, -1));
  if (function == "manhattan") return -mx::sum(mx::abs(difference), -1);
  throw Error("similarity '{}' is not known; there are cosine, dot, euclidean, manhattan",
              function);
}

}  // namespace mlxcpp::embedders
