#include "vlm/models/gemma3n_audio.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/conv.h"
#include "kernels/linear.h"
#include "kernels/norm_fused.h"
#include "kernels/softmax.h"
#include "llm/blocks/config.h"
#include "nn/activations.h"

namespace mlxcpp::vlm {
namespace {

constexpr float kEps = 1e-6f;  // of norms that the config does not speak of

// One more axis of zeros before and after axis 1.
mx::array pad_time(const mx::array& x, int before, int after) {
  std::vector<std::pair<int, int>> width(x.ndim(), {0, 0});
  width[1] = {before, after};
  return mx::pad(x, width);
}

// The first of each `step` places in time.
mx::array every(const mx::array& x, int step) {
  const auto& end = x.shape();
  mx::Shape begin(end.size(), 0), strides(end.size(), 1);
  strides[1] = step;
  return mx::slice(x, begin, end, strides);
}

class Clip {
 public:
  explicit Clip(float most) : most_(most) {}
  mx::array operator()(const mx::array& x) const {
    return mx::clip(x, mx::array(-most_, x.dtype()), mx::array(most_, x.dtype()));
  }

 private:
  float most_;
};

// By mean and variance of all frequencies and channels of this and every earlier place in time.
struct CumulativeGroupNorm final : nn::Layer {
  CumulativeGroupNorm(int channels, float eps)
      : eps_(eps), weight(this, "weight", mx::ones({channels})) {}

  mx::array operator()(const mx::array& x) const override {  // [n, T, F, C]
    const int T = x.shape(1);
    const auto so_far = [&](const mx::array& a) {  // [n, T, F, C] -> [n, T, 1, 1]
      return mx::cumsum(mx::sum(a, {2, 3}, true), 1);
    };
    const float each = static_cast<float>(x.shape(2)) * static_cast<float>(x.shape(3));
    const auto count =
        mx::reshape(mx::arange(1, T + 1, mx::float32), {1, T, 1, 1}) * mx::array(each);
    const auto centred = x - so_far(x) / count;
    const auto variance = so_far(mx::square(centred)) / count;
    return centred * mx::rsqrt(variance + mx::array(eps_)) * *weight;
  }

 private:
  const float eps_;

 public:
  nn::Param weight;
};

// Pads behind in time, on both sides in frequency. weight [out, time, frequency, in].
struct TimeFrequencyConv final : nn::Layer {
  TimeFrequencyConv(int in, int out, const std::vector<int>& kernel, const std::vector<int>& stride)
      : options_{.stride = {stride[0], stride[1]},
                 .padding = {0, 1},
                 .padding_end = std::array{kernel[0] - 1, 1}},
        weight(this, "weight", mx::zeros({out, kernel[0], kernel[1], in})) {}

  mx::array operator()(const mx::array& x) const override {
    return kernels::conv2d(x, *weight, options_);
  }

 private:
  const kernels::Conv2dOptions options_;

 public:
  nn::Param weight;
};

struct SubsampleConv final : nn::Layer {
  SubsampleConv(const Gemma3nAudioConfig& c, size_t i)
      : conv(this, "conv", i == 0 ? 1 : c.sscp_conv_channel_size[i - 1],
             c.sscp_conv_channel_size[i], c.sscp_conv_kernel_size[i], c.sscp_conv_stride_size[i]),
        norm(this, "norm", c.sscp_conv_channel_size[i], c.sscp_conv_group_norm_eps) {}

  mx::array operator()(const mx::array& x) const override { return nn::relu(norm(conv(x))); }

  nn::Child<TimeFrequencyConv> conv;
  nn::Child<CumulativeGroupNorm> norm;
};

struct FeedForward final : nn::Layer {
  explicit FeedForward(const Gemma3nAudioConfig& c)
      : clip_(c.gradient_clipping),
        weight_(c.conf_residual_weight),
        pre_layer_norm(this, "pre_layer_norm", c.hidden_size, kEps),
        ffw_layer_1(this, "ffw_layer_1", c.hidden_size, 4 * c.hidden_size),
        ffw_layer_2(this, "ffw_layer_2", 4 * c.hidden_size, c.hidden_size),
        post_layer_norm(this, "post_layer_norm", c.hidden_size, kEps) {}

  mx::array operator()(const mx::array& x) const override {
    const auto y = clip_(ffw_layer_2(nn::silu(ffw_layer_1(pre_layer_norm(clip_(x))))));
    const auto gain =
        *post_layer_norm->weight * mx::array(weight_, post_layer_norm->weight->dtype());
    return kernels::rms_norm_add(y, gain, x, kEps);
  }

 private:
  const Clip clip_;
  const float weight_;

 public:
  nn::Child<nn::RMSNorm> pre_layer_norm;
  nn::Child<nn::Linear> ffw_layer_1, ffw_layer_2;
  nn::Child<nn::RMSNorm> post_layer_norm;
};

// What queries say to a key's distance (Transformer-XL, arXiv 1901.02860): sines of the distance,
// projected.
struct RelativePositions final : nn::Module {
  explicit RelativePositions(const Gemma3nAudioConfig& c)
      : table_(sines(c)), pos_proj(this, "pos_proj", c.hidden_size, c.hidden_size) {}

  mx::array operator()() const { return pos_proj(table_); }  // [distances, hidden]

 private:
  // From the oldest place in sight to the newest.
  static mx::array sines(const Gemma3nAudioConfig& c) {
    const int width = c.hidden_size / 2, most = c.past(), least = -c.conf_attention_context_right;
    const double step = std::log(1e4) / std::max(width - 1, 1);
    std::vector<float> out;
    for (int distance = most; distance >= least; --distance) {
      std::vector<float> angles;
      for (int i = 0; i < width; ++i)
        angles.push_back(static_cast<float>(distance) * static_cast<float>(std::exp(-step * i)));
      for (const float a : angles) out.push_back(std::sin(a));
      for (const float a : angles) out.push_back(std::cos(a));
    }
    return mx::array(out.data(), {most - least + 1, 2 * width}, mx::float32);
  }

  const mx::array table_;

 public:
  nn::Child<nn::Linear> pos_proj;
};

// Chunks of places look at themselves and at some before and after. Letters of shapes: n sounds, T
// places, U chunks of W places each, C places that one of them sees, N heads of D numbers.
struct LocalAttention final : nn::Module {
  explicit LocalAttention(const Gemma3nAudioConfig& c)
      : heads_(c.conf_num_attention_heads),
        head_dim_(c.hidden_size / heads_),
        chunk_(c.conf_attention_chunk_size),
        past_(c.past()),
        future_(c.conf_attention_context_right),
        cap_(c.conf_attention_logit_cap),
        relative_position_embedding(this, "relative_position_embedding", c),
        per_dim_scale(this, "per_dim_scale", mx::zeros({head_dim_})),
        q_proj(this, "q_proj", c.hidden_size, c.hidden_size),
        k_proj(this, "k_proj", c.hidden_size, c.hidden_size),
        v_proj(this, "v_proj", c.hidden_size, c.hidden_size) {}

  // x [n, T, hidden], valid bool [n, T] -> [n, T, hidden]
  mx::array operator()(const mx::array& x, const mx::array& valid) const {
    const int n = x.shape(0), T = x.shape(1), W = chunk_, U = (T + W - 1) / W;
    const int C = W + past_ + future_;
    const auto q =
        mx::transpose(mx::reshape(pad_time(queries(x), 0, U * W - T), {n, U, W, heads_, head_dim_}),
                      {0, 3, 1, 2, 4});  // [n, N, U, W, D]
    const auto sight = in_sight(U);
    const auto windows = [&](const mx::array& a) {  // [n, T, hidden] -> [n, N, U, C, D]
      const auto rows = mx::take(pad_time(a, past_, U * W - T + future_), sight, 1);
      return mx::transpose(mx::reshape(rows, {n, U, C, heads_, head_dim_}), {0, 3, 1, 2, 4});
    };

    const auto content = kernels::matmul(q, mx::swapaxes(windows(k_proj(x)), -1, -2));
    auto logits = content + distances(q, C);  // [n, N, U, W, C]
    const mx::array cap(cap_, logits.dtype());
    logits = mx::tanh(logits / cap) * cap;
    const auto heard = mx::reshape(mx::take(pad_time(valid, past_, U * W - T + future_), sight, 1),
                                   {n, 1, U, 1, C});
    // Where nothing is heard all is alike, as in the reference: -inf would leave no number.
    logits = mx::where(mx::logical_and(heard, in_reach(C)), logits,
                       mx::array(std::numeric_limits<float>::lowest(), logits.dtype()));
    const auto y = kernels::matmul(kernels::softmax(logits), windows(v_proj(x)));
    return mx::slice(mx::reshape(mx::transpose(y, {0, 2, 3, 1, 4}), {n, U * W, heads_ * head_dim_}),
                     {0, 0, 0}, {n, T, heads_ * head_dim_});
  }

 private:
  mx::array queries(const mx::array& x) const {
    const auto q = q_proj(x);
    const auto scale = nn::softplus(mx::astype(*per_dim_scale, q.dtype())) *
                       mx::array(static_cast<float>(1 / (std::sqrt(head_dim_) * M_LN2)), q.dtype());
    return mx::reshape(mx::reshape(q, {q.shape(0), q.shape(1), heads_, head_dim_}) * scale,
                       q.shape());
  }

  // Places (counted from `past_` before the first) that the chunks see, one after the other.
  mx::array in_sight(int chunks) const {
    std::vector<int> at;
    for (int u = 0; u < chunks; ++u)
      for (int c = 0; c < chunk_ + past_ + future_; ++c) at.push_back(u * chunk_ + c);
    return mx::array(at.data(), {static_cast<int>(at.size())}, mx::int32);
  }

  // bool [W, C]: place c of the window is neither too old nor too new for place w of the chunk.
  mx::array in_reach(int C) const {
    const auto w = mx::reshape(mx::arange(chunk_), {chunk_, 1}), c = mx::arange(C);
    return mx::logical_and(mx::greater_equal(c, w),
                           mx::less_equal(c, w + mx::array(past_ + future_)));
  }

  // q [n, N, U, W, D] with the embedding of each distance: [n, N, U, W, C].
  mx::array distances(const mx::array& q, int C) const {
    const int n = q.shape(0), U = q.shape(2), W = chunk_, F = past_ + future_ + 1;
    const auto embedding = mx::reshape((*relative_position_embedding)(), {F, heads_, head_dim_});
    const auto each = mx::reshape(kernels::matmul(mx::reshape(q, {n, heads_, U * W, head_dim_}),
                                                  mx::transpose(embedding, {1, 2, 0})),
                                  {n, heads_, U, W, F});
    // Row w is moved w to the right: rows of C + 1 numbers, read as rows of C.
    const auto wide = mx::pad(each, {{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, C + 1 - F}});
    const auto flat = mx::reshape(wide, {n, heads_, U, W * (C + 1)});
    return mx::reshape(mx::slice(flat, {0, 0, 0, 0}, {n, heads_, U, W * C}), {n, heads_, U, W, C});
  }

  const int heads_, head_dim_, chunk_, past_, future_;
  const float cap_;

 public:
  nn::Child<RelativePositions> relative_position_embedding;
  nn::Param per_dim_scale;
  nn::Child<nn::Linear> q_proj, k_proj, v_proj;
};

struct ConformerAttention final : nn::Module {
  explicit ConformerAttention(const Gemma3nAudioConfig& c)
      : clip_(c.gradient_clipping),
        pre_attn_norm(this, "pre_attn_norm", c.hidden_size, kEps),
        attn(this, "attn", c),
        post(this, "post", c.hidden_size, c.hidden_size),
        post_norm(this, "post_norm", c.hidden_size, kEps) {}

  mx::array operator()(const mx::array& x, const mx::array& valid) const {
    const auto y = clip_(post(attn(pre_attn_norm(clip_(x)), valid)));
    return kernels::rms_norm_add(y, *post_norm->weight, x, kEps);
  }

 private:
  const Clip clip_;

 public:
  nn::Child<nn::RMSNorm> pre_attn_norm;
  nn::Child<LocalAttention> attn;
  nn::Child<nn::Linear> post;
  nn::Child<nn::RMSNorm> post_norm;
};

// Each channel with itself at earlier places. weight [channels, kernel, 1].
struct CausalConv final : nn::Layer {
  CausalConv(int channels, int kernel) : weight(this, "weight", mx::zeros({channels, kernel, 1})) {}

  mx::array operator()(const mx::array& x) const override {  // [n, T, channels]
    const int channels = weight->shape(0), kernel = weight->shape(1);
    const auto y = kernels::conv2d(
        mx::expand_dims(x, 2), mx::reshape(*weight, {channels, kernel, 1, 1}),
        {.padding = {kernel - 1, 0}, .groups = channels, .padding_end = std::array{0, 0}});
    return mx::squeeze(y, 2);
  }

  nn::Param weight;
};

struct LightConv final : nn::Layer {
  explicit LightConv(const Gemma3nAudioConfig& c)
      : clip_(c.gradient_clipping),
        pre_layer_norm(this, "pre_layer_norm", c.hidden_size, c.rms_norm_eps),
        linear_start(this, "linear_start", c.hidden_size, 2 * c.hidden_size),
        depthwise_conv1d(this, "depthwise_conv1d", c.hidden_size, c.conf_conv_kernel_size),
        conv_norm(this, "conv_norm", c.hidden_size, c.rms_norm_eps),
        linear_end(this, "linear_end", c.hidden_size, c.hidden_size) {}

  mx::array operator()(const mx::array& x) const override {
    const auto y = nn::glu(linear_start(pre_layer_norm(x)));
    return x + linear_end(nn::silu(conv_norm(clip_(depthwise_conv1d(y)))));
  }

 private:
  const Clip clip_;

 public:
  nn::Child<nn::RMSNorm> pre_layer_norm;
  nn::Child<nn::Linear> linear_start;
  nn::Child<CausalConv> depthwise_conv1d;
  nn::Child<nn::RMSNorm> conv_norm;
  nn::Child<nn::Linear> linear_end;
};

void check_pairs(const ConfigReader& v, const char* key,
                 const std::vector<std::vector<int>>& pairs) {
  constexpr int kMost = 64;
  const bool fits = pairs.size() == 2 && std::all_of(pairs.begin(), pairs.end(), [](const auto& p) {
                      return p.size() == 2 && std::all_of(p.begin(), p.end(), [](int n) {
                               return n > 0 && n <= kMost;
                             });
                    });
  if (!fits)
    throw Error("{}: '{}' must be two pairs of numbers from 1 to {}", v.where(), key, kMost);
}

}  // namespace

class SubsampleConvProjection final : public nn::Layer {
 public:
  explicit SubsampleConvProjection(const Gemma3nAudioConfig& c)
      : conv_0(this, "conv_0", c, 0),
        conv_1(this, "conv_1", c, 1),
        input_proj_linear(this, "input_proj_linear", c.bands(2) * c.sscp_conv_channel_size[1],
                          c.hidden_size) {}

  // [n, T, F] -> [n, about T/4, hidden]
  mx::array operator()(const mx::array& x) const override {
    const auto y = conv_1(conv_0(mx::expand_dims(x, 3)));
    return input_proj_linear(mx::reshape(y, {y.shape(0), y.shape(1), -1}));
  }

  nn::Child<SubsampleConv> conv_0, conv_1;
  nn::Child<nn::Linear> input_proj_linear;
};

class ConformerBlock final : public nn::Module {
 public:
  explicit ConformerBlock(const Gemma3nAudioConfig& c)
      : clip_(c.gradient_clipping),
        ffw_layer_start(this, "ffw_layer_start", c),
        attention(this, "attention", c),
        lconv1d(this, "lconv1d", c),
        ffw_layer_end(this, "ffw_layer_end", c),
        norm(this, "norm", c.hidden_size, kEps) {}

  mx::array operator()(const mx::array& x, const mx::array& valid) const {
    auto y = attention(ffw_layer_start(x), valid);
    y = lconv1d(y * mx::astype(mx::expand_dims(valid, 2), y.dtype()));
    return norm(clip_(ffw_layer_end(y)));
  }

 private:
  const Clip clip_;

 public:
  nn::Child<FeedForward> ffw_layer_start;
  nn::Child<ConformerAttention> attention;
  nn::Child<LightConv> lconv1d;
  nn::Child<FeedForward> ffw_layer_end;
  nn::Child<nn::RMSNorm> norm;
};

void Gemma3nAudioConfig::fields(ConfigReader& v) {
  constexpr int kMost = 1 << 14;
  const auto size = [&](const char* key, int& out) {
    llm::read_size(v, key, out);
    if (out > kMost) throw Error("{}: '{}' is {}, more than {}", v.where(), key, out, kMost);
  };
  size("hidden_size", hidden_size);
  size("input_feat_size", input_feat_size);
  size("vocab_size", vocab_size);
  v.maybe("vocab_offset", vocab_offset);
  v.maybe("rms_norm_eps", rms_norm_eps);
  v.maybe("gradient_clipping", gradient_clipping);
  size("conf_attention_chunk_size", conf_attention_chunk_size);
  size("conf_attention_context_left", conf_attention_context_left);
  v.maybe("conf_attention_context_right", conf_attention_context_right);
  v.maybe("conf_attention_logit_cap", conf_attention_logit_cap);
  size("conf_num_attention_heads", conf_num_attention_heads);
  llm::read_count(v, "conf_num_hidden_layers", conf_num_hidden_layers);
  size("conf_conv_kernel_size", conf_conv_kernel_size);
  size("conf_reduction_factor", conf_reduction_factor);
  v.maybe("conf_residual_weight", conf_residual_weight);
  v.maybe("sscp_conv_channel_size", sscp_conv_channel_size);
  v.maybe("sscp_conv_kernel_size", sscp_conv_kernel_size);
  v.maybe("sscp_conv_stride_size", sscp_conv_stride_size);
  v.maybe("sscp_conv_group_norm_eps", sscp_conv_group_norm_eps);
  v.skip("sscp_conv_eps");  // of a norm that the published network has not got

  if (hidden_size % conf_num_attention_heads != 0 || hidden_size % 2 != 0)
    throw Error(
        "{}: 'hidden_size' is {}, expected a multiple of 2 and of conf_num_attention_heads ({})",
        v.where(), hidden_size, conf_num_attention_heads);
  if (conf_attention_context_right < 0 || conf_attention_context_right > kMost)
    throw Error("{}: 'conf_attention_context_right' is {}, expected 0 to {}", v.where(),
                conf_attention_context_right, kMost);
  if (!(conf_attention_logit_cap > 0) || !(gradient_clipping > 0))
    throw Error("{}: 'conf_attention_logit_cap' and 'gradient_clipping' must be positive",
                v.where());
  check_pairs(v, "sscp_conv_kernel_size", sscp_conv_kernel_size);
  check_pairs(v, "sscp_conv_stride_size", sscp_conv_stride_size);
  if (sscp_conv_channel_size.size() != 2 ||
      std::any_of(sscp_conv_channel_size.begin(), sscp_conv_channel_size.end(),
                  [](int n) { return n <= 0 || n > kMost; }))
    throw Error("{}: 'sscp_conv_channel_size' must be two numbers from 1 to {}", v.where(), kMost);
  for (const size_t i : {1, 2})
    if (bands(i) <= 0)
      throw Error("{}: 'input_feat_size' is {}, too few for the convolutions in front", v.where(),
                  input_feat_size);
}

int Gemma3nAudioConfig::bands(size_t i) const {
  int n = input_feat_size;
  for (size_t k = 0; k < i; ++k) {
    const int room = n + 2 - sscp_conv_kernel_size[k][1];
    n = room < 0 ? 0 : room / sscp_conv_stride_size[k][1] + 1;
  }
  return n;
}

int Gemma3nAudioConfig::soft_tokens(int frames) const {
  const auto shares = [](int n, int of) { return (n + of - 1) / of; };
  for (const auto& stride : sscp_conv_stride_size) frames = shares(frames, stride[0]);
  return shares(frames, conf_reduction_factor);
}

Conformer::Conformer(const Gemma3nAudioConfig& config)
    : config_(config),
      subsample_conv_projection(this, "subsample_conv_projection", config_),
      conformer(this, "conformer") {
  for (int i = 0; i < config_.conf_num_hidden_layers; ++i) conformer.emplace_back(config_);
}

Conformer::~Conformer() = default;

mx::array Conformer::operator()(const mx::array& features, const mx::array& valid) const {
  if (features.ndim() != 3 || features.shape(2) != config_.input_feat_size ||
      features.shape(1) == 0 || valid.shape() != mx::Shape{features.shape(0), features.shape(1)})
    throw Error(
        "the audio tower takes features [n, frames, {}] and a mask [n, frames], found [{}] and "
        "[{}]",
        config_.input_feat_size, fmt::join(features.shape(), ", "), fmt::join(valid.shape(), ", "));
  const auto places = subsampled(valid);
  auto x = subsample_conv_projection(features);
  for (size_t i = 0; i < conformer.size(); ++i) x = conformer.call(i, x, places);
  x = every(x, config_.conf_reduction_factor);
  return mx::where(mx::expand_dims(heard(valid), 2), x, mx::zeros_like(x));
}

// A place is heard if the first frame that it comes from is.
mx::array Conformer::subsampled(const mx::array& valid) const {
  auto places = valid;
  for (const auto& stride : config_.sscp_conv_stride_size) places = every(places, stride[0]);
  return places;
}

mx::array Conformer::heard(const mx::array& valid) const {
  return every(subsampled(valid), config_.conf_reduction_factor);
}

}  // namespace mlxcpp::vlm
