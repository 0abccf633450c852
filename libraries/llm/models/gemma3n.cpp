// Gemma 3n, text (https://ai.google.dev/gemma/docs/gemma-3n). Reference: transformers
// modeling_gemma3n.py. Four streams of hidden states, of which each layer computes one and predicts
// and corrects the others (AltUp, arXiv 2301.13310); a low-rank branch beside attention (LAuReL,
// arXiv 2411.07501); embeddings of the tokens for every layer; sparse activations in the first
// layers; the last layers read the keys and values of earlier ones.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/activations.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "llm/blocks/causal_lm.h"
#include "llm/blocks/mlp.h"
#include "llm/blocks/step.h"
#include "llm/models.h"

namespace mlxcpp::llm {
namespace {

struct Gemma3nConfig : DecoderConfig {
  std::vector<int> intermediate_sizes;  // "intermediate_size": one for all layers, or a list
  std::vector<double> activation_sparsity_pattern;
  int vocab_size_per_layer_input = 262144, hidden_size_per_layer_input = 256;
  int altup_num_inputs = 4, altup_active_idx = 0;
  bool altup_correct_scale = true;
  int laurel_rank = 64;
  int num_kv_shared_layers = 15;
  RopeByLayerType ropes;

  Gemma3nConfig() {  // the published text configuration may leave these out
    vocab_size = 262400;
    hidden_size = 2048;
    intermediate_size = 16384;
    num_hidden_layers = 35;
    num_attention_heads = 8;
    num_key_value_heads = 2;
    head_dim = 256;
    max_position_embeddings = 32768;
    hidden_act = "gelu_pytorch_tanh";
    tie_word_embeddings = true;
    sliding_window = 512;
    final_logit_softcapping = 30;
  }

  void fields(ConfigReader& v) {
    fields_but_intermediate_size(v);
    if (const auto it = v.json().find("intermediate_size");
        it != v.json().end() && it->is_array()) {
      v.need("intermediate_size", intermediate_sizes);
    } else {
      read_size(v, "intermediate_size", intermediate_size);
      intermediate_sizes.assign(num_hidden_layers, intermediate_size);
    }
    read_activation(v, "hidden_activation", hidden_act);
    v.maybe("activation_sparsity_pattern", activation_sparsity_pattern);
    read_size(v, "vocab_size_per_layer_input", vocab_size_per_layer_input);
    read_size(v, "hidden_size_per_layer_input", hidden_size_per_layer_input);
    read_count(v, "altup_num_inputs", altup_num_inputs);
    v.maybe("altup_active_idx", altup_active_idx);
    v.maybe("altup_correct_scale", altup_correct_scale);
    read_size(v, "laurel_rank", laurel_rank);
    v.maybe("num_kv_shared_layers", num_kv_shared_layers);
    read_softcap(v, "final_logit_softcapping", final_logit_softcapping);
    v.only("tie_word_embeddings", true);
    // The clip is for training; queries have their norm instead of a scale.
    for (const char* key : {"altup_coef_clip", "altup_lr_multiplier", "query_pre_attn_scalar"})
      v.skip(key);
    ropes.read(v, head_size());

    if (layer_types.empty())
      for (int i = 1; i <= num_hidden_layers; ++i)
        layer_types.push_back(i % 5 == 0 ? "full_attention" : "sliding_attention");
    if (activation_sparsity_pattern.empty())
      for (int i = 0; i < num_hidden_layers; ++i)
        activation_sparsity_pattern.push_back(num_hidden_layers > 10 && i < 10 ? 0.95 : 0.0);
    check(v.where());
  }

  // The layer whose keys and values layer i reads: itself, or the last of its type that has some.
  int kv_source(int i) const {
    int source = std::min(i, num_hidden_layers - num_kv_shared_layers - 1);
    while (source >= 0 && layer_types[source] != layer_types[i]) --source;
    return source;
  }

 private:
  void check(const std::string& where) const {
    const auto one_a_layer = [&](const char* key, size_t found) {
      if (found != static_cast<size_t>(num_hidden_layers))
        throw Error("{}: '{}' has {} entries, expected {}, one a layer", where, key, found,
                    num_hidden_layers);
    };
    one_a_layer("intermediate_size", intermediate_sizes.size());
    one_a_layer("activation_sparsity_pattern", activation_sparsity_pattern.size());
    for (const int n : intermediate_sizes)
      if (n <= 0) throw Error("{}: 'intermediate_size' must be positive, found {}", where, n);
    for (const double p : activation_sparsity_pattern)
      if (!(p >= 0 && p < 1))
        throw Error("{}: 'activation_sparsity_pattern' must be in [0, 1), found {}", where, p);
    if (altup_active_idx < 0 || altup_active_idx >= altup_num_inputs)
      throw Error("{}: 'altup_active_idx' must be one of {} inputs, found {}", where,
                  altup_num_inputs, altup_active_idx);
    if (num_kv_shared_layers < 0 || num_kv_shared_layers >= num_hidden_layers)
      throw Error("{}: 'num_kv_shared_layers' must be below {} layers, found {}", where,
                  num_hidden_layers, num_kv_shared_layers);
    for (int i = 0; i < num_hidden_layers; ++i)
      if (kv_source(i) < 0)
        throw Error("{}: 'num_kv_shared_layers' leaves no layer whose keys layer {} ({}) can read",
                    where, i, layer_types[i]);
  }
};

// One pass through the layers: where its tokens stand (before any cache has moved on), and, when
// there are no caches, the keys and values of the layers that have their own.
struct Pass {
  Caches& caches;
  kernels::Positions at;
  std::vector<std::pair<mx::array, mx::array>> kv;
};

struct SharedAttention final : nn::Module {
  SharedAttention(const Gemma3nConfig& c, int index)
      : heads_(c.num_attention_heads),
        kv_heads_(c.kv_heads()),
        head_dim_(c.head_size()),
        eps_(c.rms_norm_eps),
        index_(index),
        source_(c.kv_source(index)),
        rope_(c.is_sliding(index) ? c.ropes.sliding : c.ropes.full),
        attention_{.scale = 1.0f, .window = c.window(index)},
        q_proj(this, "q_proj", c.hidden_size, c.num_attention_heads * head_dim_, c.attention_bias),
        o_proj(this, "o_proj", c.num_attention_heads * head_dim_, c.hidden_size, c.attention_bias),
        q_norm(this, "q_norm", head_dim_, eps_) {
    if (source_ != index_) return;
    k_proj.emplace(c.hidden_size, c.kv_heads() * head_dim_, c.attention_bias);
    v_proj.emplace(c.hidden_size, c.kv_heads() * head_dim_, c.attention_bias);
    k_norm.emplace(head_dim_, eps_);
  }

  // [B, L, hidden] -> [B, L, hidden]
  mx::array operator()(const mx::array& x, Pass& pass) const {
    const auto y = mx::transpose(attend(x, pass), {0, 2, 1, 3});
    return o_proj(mx::reshape(y, {x.shape(0), x.shape(1), -1}));
  }

  // For a step as one operation (step.h): its cache and, but for the frame, its part; what the
  // kernel takes. None where it must go operation by operation.
  KVCache* cache(Pass& pass) const {
    return pass.caches.empty() ? nullptr : pass.caches[source_].get();
  }
  bool set_step_part(kernels::LayerPart& layer) const {
    kernels::AttentionPart& part = layer.attention.emplace();
    part.heads = heads_;
    part.kv_heads = kv_heads_;
    part.head_dim = head_dim_;
    part.shared = source_ != index_;
    auto out = step_part(*o_proj);
    part.q_norm = step_part(*q_norm);
    if (!out || !part.q_norm) return false;
    part.out = std::move(*out);
    for (const auto* proj : {&q_proj, &k_proj, &v_proj}) {
      if (!*proj) continue;
      auto linear = step_part(**proj);
      if (!linear) return false;
      part.qkv.push_back(std::move(*linear));
    }
    if (part.shared) return true;
    part.v_norm = kernels::NormPart{false, eps_, std::nullopt, std::nullopt};
    return (part.k_norm = step_part(*k_norm)).has_value();
  }
  std::optional<StepAttention::StepCall> step_call(int L, const Pass& pass) const {
    auto rope = step_rope(*rope_, pass.at, L, 0);
    if (!rope) return std::nullopt;
    return StepAttention::StepCall{std::move(rope), attention_};
  }

 private:
  mx::array attend(const mx::array& x, Pass& pass) const {
    const auto q = (*rope_)(turned(q_norm(split(q_proj(x)))), pass.at);
    if (source_ != index_) {
      if (!pass.caches.empty()) return pass.caches[source_]->attend_shared(q, attention_);
      return kernels::attention(q, pass.kv[source_].first, pass.kv[source_].second, attention_);
    }
    const auto k = (*rope_)(turned(k_norm(split(k_proj(x)))), pass.at);
    const auto v = turned(kernels::rms_norm(split(v_proj(x)), std::nullopt, eps_));
    if (!pass.caches.empty()) return pass.caches[index_]->attend(q, k, v, attention_);
    pass.kv.emplace_back(k, v);
    return kernels::attention(q, k, v, attention_);
  }
  mx::array split(const mx::array& a) const {  // [B, L, heads*D] -> [B, L, heads, D]
    return mx::reshape(a, {a.shape(0), a.shape(1), -1, head_dim_});
  }
  static mx::array turned(const mx::array& a) { return mx::transpose(a, {0, 2, 1, 3}); }

  const int heads_, kv_heads_, head_dim_;
  const float eps_;
  const int index_, source_;
  const std::shared_ptr<const nn::RoPE> rope_;
  const kernels::AttentionOptions attention_;

 public:
  nn::Child<nn::Linear> q_proj, k_proj{this, "k_proj", nn::absent},
      v_proj{this, "v_proj", nn::absent};
  nn::Child<nn::Linear> o_proj;
  nn::Child<nn::RMSNorm> q_norm, k_norm{this, "k_norm", nn::absent};
};

// How many standard deviations above the mean the top (1 - p) of normally distributed numbers lie.
double normal_quantile(double p) {
  double x = 0;
  for (int i = 0; i < 100; ++i) {  // Newton's method, from the mean outwards
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    const double step = (0.5 * std::erfc(-x / std::numbers::sqrt2) - p) / density;
    x -= std::clamp(step, -1.0, 1.0);
    if (std::abs(step) < 1e-15) break;
  }
  return x;
}

// A gated MLP of whose gates only the largest are open.
struct SparseMLP final : nn::Module {
  SparseMLP(const Gemma3nConfig& c, int index)
      : sparsity_(c.activation_sparsity_pattern[index]),
        cutoff_(static_cast<float>(normal_quantile(sparsity_ > 0 ? sparsity_ : 0.5))),
        act_(c.hidden_act),
        gate_proj(this, "gate_proj", c.hidden_size, c.intermediate_sizes[index]),
        up_proj(this, "up_proj", c.hidden_size, c.intermediate_sizes[index]),
        down_proj(this, "down_proj", c.intermediate_sizes[index], c.hidden_size) {}

  mx::array operator()(const mx::array& x) const {
    auto gate = gate_proj(x);
    if (sparsity_ > 0) gate = kernels::keep_largest(gate, cutoff_);
    return down_proj(act_(gate, up_proj(x)));
  }

  bool set_step_part(kernels::LayerPart& layer) const {
    const auto activation = gated_kernel(act_);
    auto gate = step_part(*gate_proj), up = step_part(*up_proj), down = step_part(*down_proj);
    if (!activation || !gate || !up || !down) return false;
    kernels::MlpPart& part = layer.mlp.emplace();
    part.in = {std::move(*gate), std::move(*up)};
    part.activation = *activation;
    if (sparsity_ > 0) part.cutoff = cutoff_;
    part.down = std::move(*down);
    return true;
  }

 private:
  const double sparsity_;
  const float cutoff_;
  const nn::GatedActivation act_;

 public:
  nn::Child<nn::Linear> gate_proj, up_proj, down_proj;
};

// Streams are [B, L, altup_num_inputs, hidden].
mx::array stream(const mx::array& streams, int i) {
  return mx::squeeze(mx::slice(streams, {0, 0, i, 0},
                               {streams.shape(0), streams.shape(1), i + 1, streams.shape(3)}),
                     2);
}

struct AltUp final : nn::Module {
  explicit AltUp(const Gemma3nConfig& c)
      : inputs_(c.altup_num_inputs),
        active_(c.altup_active_idx),
        scale_(1.0f / static_cast<float>(c.hidden_size)),
        correct_output_scale(this, "correct_output_scale", mx::zeros({c.hidden_size})),
        correction_coefs(this, "correction_coefs", inputs_, inputs_),
        prediction_coefs(this, "prediction_coefs", inputs_, inputs_ * inputs_),
        modality_router(this, "modality_router", c.hidden_size, inputs_),
        router_norm(this, "router_norm", c.hidden_size, c.rms_norm_eps) {}

  // What every stream will be, as a mix of all of them, before the layer.
  mx::array predict(const mx::array& streams) const {
    const auto coefs = prediction_coefs(modalities(stream(streams, active_)));
    const auto mix = mx::reshape(coefs, {coefs.shape(0), coefs.shape(1), inputs_, inputs_});
    return streams + kernels::matmul(mix, streams);
  }

  // All of them moved by what the layer made of the active one.
  mx::array correct(const mx::array& predictions, const mx::array& activated) const {
    const auto coefs = correction_coefs(modalities(activated)) + mx::array(1.0f, activated.dtype());
    const auto innovation = activated - stream(predictions, active_);  // [B, L, hidden]
    return predictions + mx::expand_dims(innovation, 2) * mx::expand_dims(coefs, 3);
  }

  bool set_step_part(kernels::AltUpPart& part) const {
    auto norm = step_part(*router_norm);
    auto router = step_part(*modality_router), prediction = step_part(*prediction_coefs),
         correction = step_part(*correction_coefs);
    if (!norm || !router || !prediction || !correction) return false;
    part.inputs = inputs_;
    part.active = active_;
    part.router_norm = std::move(*norm);
    part.router = std::move(*router);
    part.prediction = std::move(*prediction);
    part.correction = std::move(*correction);
    return true;
  }

 private:
  mx::array modalities(const mx::array& x) const {  // [B, L, hidden] -> [B, L, inputs]
    return mx::tanh(modality_router(router_norm(x) * mx::array(scale_, x.dtype())));
  }

  const int inputs_, active_;
  const float scale_;

 public:
  nn::Param correct_output_scale;
  nn::Child<nn::Linear> correction_coefs, prediction_coefs, modality_router;
  nn::Child<nn::RMSNorm> router_norm;
};

struct Laurel final : nn::Module {
  explicit Laurel(const Gemma3nConfig& c)
      : linear_left(this, "linear_left", c.hidden_size, c.laurel_rank),
        linear_right(this, "linear_right", c.laurel_rank, c.hidden_size),
        post_laurel_norm(this, "post_laurel_norm", c.hidden_size, c.rms_norm_eps) {}

  mx::array operator()(const mx::array& x) const {
    return x + post_laurel_norm(linear_right(linear_left(x)));
  }

  bool set_step_part(kernels::AltUpPart& part) const {
    auto left = step_part(*linear_left), right = step_part(*linear_right);
    auto norm = step_part(*post_laurel_norm);
    if (!left || !right || !norm) return false;
    part.laurel_left = std::move(*left);
    part.laurel_right = std::move(*right);
    part.laurel_norm = std::move(*norm);
    return true;
  }

  nn::Child<nn::Linear> linear_left, linear_right;
  nn::Child<nn::RMSNorm> post_laurel_norm;
};

struct Layer final : nn::Module {
  Layer(const Gemma3nConfig& c, int index)
      : active_(c.altup_active_idx),
        scaled_(c.altup_correct_scale),
        act_(c.hidden_act),
        self_attn(this, "self_attn", c, index),
        mlp(this, "mlp", c, index),
        input_layernorm(this, "input_layernorm", c.hidden_size, c.rms_norm_eps),
        post_attention_layernorm(this, "post_attention_layernorm", c.hidden_size, c.rms_norm_eps),
        pre_feedforward_layernorm(this, "pre_feedforward_layernorm", c.hidden_size, c.rms_norm_eps),
        post_feedforward_layernorm(this, "post_feedforward_layernorm", c.hidden_size,
                                   c.rms_norm_eps),
        altup(this, "altup", c),
        laurel(this, "laurel", c),
        per_layer_input_gate(this, "per_layer_input_gate", c.hidden_size,
                             c.hidden_size_per_layer_input),
        per_layer_projection(this, "per_layer_projection", c.hidden_size_per_layer_input,
                             c.hidden_size),
        post_per_layer_input_norm(this, "post_per_layer_input_norm", c.hidden_size,
                                  c.rms_norm_eps) {}

  // streams [B, L, inputs, hidden], this layer's embedding of the tokens [B, L, P] -> streams
  mx::array operator()(const mx::array& streams, const mx::array& per_layer_input,
                       Pass& pass) const {
    if (auto y = step(streams, per_layer_input, pass)) return *y;
    const auto predictions = altup->predict(streams);
    const auto x = stream(predictions, active_);
    const auto normed = input_layernorm(x);
    const auto attended = x + post_attention_layernorm(self_attn(normed, pass));
    const auto h =
        (attended + laurel(normed)) * mx::array(static_cast<float>(M_SQRT1_2), x.dtype());
    const auto activated = h + post_feedforward_layernorm(mlp(pre_feedforward_layernorm(h)));
    const auto corrected = altup->correct(predictions, activated);

    auto first = stream(corrected, active_);
    if (scaled_) first = first * mx::astype(*altup->correct_output_scale, first.dtype());
    const auto own = per_layer_projection(act_(per_layer_input_gate(first), per_layer_input));
    const auto added = mx::expand_dims(post_per_layer_input_norm(own), 2);
    const auto parts = mx::split(corrected, mx::Shape{1}, 2);  // the first stream stays as it is
    return mx::concatenate({parts[0], parts[1] + added}, 2);
  }

 private:
  // The layer as one operation (step.h); none where it must go operation by operation.
  std::optional<mx::array> step(const mx::array& streams, const mx::array& per_layer_input,
                                Pass& pass) const {
    KVCache* cache = self_attn->cache(pass);
    const auto call = self_attn->step_call(streams.shape(1), pass);
    kernels::LayerPart part;
    if (!cache || !call || !set_step_part(part)) return std::nullopt;
    auto y = step_.whole(mx::flatten(streams, 2, 3), per_layer_input, cache, part, *call);
    if (y) y = mx::reshape(*y, streams.shape());
    return y;
  }
  bool set_step_part(kernels::LayerPart& part) const {
    kernels::AltUpPart& a = part.altup.emplace();
    auto gate = step_part(*per_layer_input_gate), projection = step_part(*per_layer_projection);
    auto norm = step_part(*post_per_layer_input_norm);
    const auto activation = gated_kernel(act_);
    if (!gate || !projection || !norm || !activation) return false;
    a.gate = std::move(*gate);
    a.projection = std::move(*projection);
    a.projection_norm = std::move(*norm);
    a.activation = *activation;
    if (scaled_) a.output_scale = *altup->correct_output_scale;
    return altup->set_step_part(a) && laurel->set_step_part(a) && self_attn->set_step_part(part) &&
           mlp->set_step_part(part) &&
           set_step_frame(part.attention->frame, {&*input_layernorm, &*post_attention_layernorm}) &&
           set_step_frame(part.mlp->frame,
                          {&*pre_feedforward_layernorm, &*post_feedforward_layernorm});
  }

  const int active_;
  const bool scaled_;
  const nn::GatedActivation act_;
  const LayerStep step_;

 public:
  nn::Child<SharedAttention> self_attn;
  nn::Child<SparseMLP> mlp;
  nn::Child<nn::RMSNorm> input_layernorm, post_attention_layernorm, pre_feedforward_layernorm,
      post_feedforward_layernorm;
  nn::Child<AltUp> altup;
  nn::Child<Laurel> laurel;
  nn::Child<nn::Linear> per_layer_input_gate, per_layer_projection;
  nn::Child<nn::RMSNorm> post_per_layer_input_norm;
};

mx::array mean_square(const mx::array& x) { return mx::mean(mx::square(x), -1, true); }

// x with the magnitude of `like`.
mx::array as_large_as(const mx::array& x, const mx::array& like) {
  const auto own = mx::maximum(mean_square(x), mx::array(1e-5f, x.dtype()));
  return x * mx::sqrt(mean_square(like) / own);
}

struct Gemma3nDecoder final : nn::Module {
  explicit Gemma3nDecoder(const Gemma3nConfig& c)
      : c_(c),
        embed_tokens(this, "embed_tokens", c.vocab_size, c.hidden_size),
        layers(this, "layers"),
        norm(this, "norm", c.hidden_size, c.rms_norm_eps),
        embed_tokens_per_layer(this, "embed_tokens_per_layer", c.vocab_size_per_layer_input,
                               c.num_hidden_layers * c.hidden_size_per_layer_input),
        per_layer_model_projection(this, "per_layer_model_projection", c.hidden_size,
                                   c.num_hidden_layers * c.hidden_size_per_layer_input),
        per_layer_projection_norm(this, "per_layer_projection_norm", c.hidden_size_per_layer_input,
                                  c.rms_norm_eps),
        altup_projections(this, "altup_projections"),
        altup_unembed_projections(this, "altup_unembed_projections") {
    for (int i = 0; i < c.num_hidden_layers; ++i) layers.emplace_back(c, i);
    for (int i = 1; i < c.altup_num_inputs; ++i) {
      altup_projections.emplace_back(c.hidden_size, c.hidden_size);
      altup_unembed_projections.emplace_back(c.hidden_size, c.hidden_size);
    }
  }

  // int32 [B, L] -> [B, L, hidden]
  mx::array embed(const mx::array& ids) const { return scaled(*embed_tokens, ids, c_.hidden_size); }

  // Embeddings [B, L, hidden], of the ids [B, L] or of what stands in their places.
  mx::array operator()(const mx::array& h, const mx::array& ids, Caches& caches) const {
    const auto inputs = per_layer_inputs(h, ids);  // [B, L, layers, P]
    std::vector<mx::array> first = {h};
    for (size_t i = 0; i < altup_projections.size(); ++i)
      first.push_back(as_large_as(altup_projections.call(i, h), h));
    auto streams = mx::stack(first, 2);

    Pass pass{caches, caches.empty() ? kernels::Positions(0) : caches[0]->positions(), {}};
    for (size_t i = 0; i < layers.size(); ++i)
      streams = layers.call(i, streams, stream(inputs, static_cast<int>(i)), pass);

    const auto active = stream(streams, 0);
    auto sum = active;
    for (int i = 1; i < c_.altup_num_inputs; ++i)
      sum = sum + as_large_as(altup_unembed_projections.call(i - 1, stream(streams, i)), active);
    return norm(sum * mx::array(1.0f / static_cast<float>(c_.altup_num_inputs), sum.dtype()));
  }

 private:
  // In the reference the modules scale themselves: an observer sees what they give there.
  static mx::array scaled(const nn::Embedding& embedding, const mx::array& ids, int dims) {
    const auto h = to_compute_dtype(embedding(ids));
    return nn::detail::observed(embedding,
                                h * mx::array(std::sqrt(static_cast<float>(dims)), h.dtype()));
  }

  // For every layer, the token's own embedding and a projection of h. Tokens beyond that table
  // (pictures, sound) have the embedding of token 0.
  mx::array per_layer_inputs(const mx::array& h, const mx::array& ids) const {
    const int P = c_.hidden_size_per_layer_input;
    const mx::Shape shape = {h.shape(0), h.shape(1), c_.num_hidden_layers, P};
    const auto known = mx::logical_and(mx::greater_equal(ids, mx::array(0)),
                                       mx::less(ids, mx::array(c_.vocab_size_per_layer_input)));
    const auto tokens = mx::where(known, ids, mx::zeros_like(ids));
    const auto own = mx::reshape(scaled(*embed_tokens_per_layer, tokens, P), shape);
    const auto root = mx::array(1.0f / std::sqrt(static_cast<float>(c_.hidden_size)), h.dtype());
    const auto projected = mx::reshape(per_layer_model_projection(h) * root, shape);
    return (per_layer_projection_norm(projected) + own) *
           mx::array(static_cast<float>(M_SQRT1_2), h.dtype());
  }

  const Gemma3nConfig& c_;

 public:
  nn::Child<nn::Embedding> embed_tokens;
  nn::Children<Layer> layers;
  nn::Child<nn::RMSNorm> norm;
  nn::Child<nn::Embedding> embed_tokens_per_layer;
  nn::Child<nn::Linear> per_layer_model_projection;
  nn::Child<nn::RMSNorm> per_layer_projection_norm;
  nn::Children<nn::Linear> altup_projections, altup_unembed_projections;
};

struct Gemma3n final : LanguageModel {
  explicit Gemma3n(const Gemma3nConfig& config) : c(config), model(this, "model", c) {}

  mx::array embed(const mx::array& ids) const override { return model->embed(ids); }
  mx::array hidden(const mx::array& ids, Caches& caches) const override {
    return hidden_from(embed(ids), ids, caches);
  }
  mx::array hidden_from(const mx::array& embeddings, const mx::array& ids,
                        Caches& caches) const override {
    return model(embeddings, ids, caches);
  }
  mx::array logits(const mx::array& hidden) const override {
    return softcap(model->embed_tokens->as_linear(hidden), c.final_logit_softcapping);
  }

  // One for each layer that has keys and values of its own.
  Caches make_caches(const CacheOptions& options) const override {
    Caches caches;
    for (int i = 0; i < c.num_hidden_layers - c.num_kv_shared_layers; ++i)
      caches.push_back(make_cache(options, c.window(i)));
    return caches;
  }

  // Checkpoints hold projections of keys and values for the sharing layers, too; GGUF files the
  // projections of the further streams in one array.
  nn::Weights sanitize(nn::Weights weights) const override {
    weights = language_model_weights(std::move(weights));
    weights.erase("lm_head.weight");
    for (const char* name : {"model.altup_projections", "model.altup_unembed_projections"}) {
      const auto stack = weights.find(fmt::format("{}.weight", name));
      if (stack == weights.end() || stack->second.ndim() != 3) continue;
      const auto parts = mx::split(stack->second, stack->second.shape(0), 0);
      for (size_t i = 0; i < parts.size(); ++i)
        weights.emplace(fmt::format("{}.{}.weight", name, i), mx::squeeze(parts[i], 0));
      weights.erase(stack);
    }
    for (int i = 0; i < c.num_hidden_layers; ++i)
      if (c.kv_source(i) != i)
        for (const char* part : {"k_proj.", "v_proj.", "k_norm."})
          std::erase_if(weights, [prefix = fmt::format("model.layers.{}.self_attn.{}", i, part)](
                                     const auto& w) { return w.first.starts_with(prefix); });
    return weights;
  }

  const Gemma3nConfig c;
  nn::Child<Gemma3nDecoder> model;
};

std::unique_ptr<LanguageModel> make(const Gemma3nConfig& c) { return std::make_unique<Gemma3n>(c); }
std::unique_ptr<LanguageModel> make_text_part(const TextPart<Gemma3nConfig>& c) {
  return make(c.text);
}

}  // namespace

Creator gemma3n_text() { return creator(make); }

// The multimodal checkpoint's language model alone.
Creator gemma3n() { return creator(make_text_part); }

}  // namespace mlxcpp::llm
