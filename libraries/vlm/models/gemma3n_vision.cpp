#include "vlm/models/gemma3n_vision.h"

#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>

#include "kernels/attention.h"
#include "kernels/conv.h"
#include "kernels/image.h"
#include "kernels/norm.h"
#include "kernels/norm_fused.h"
#include "llm/blocks/config.h"

namespace mlxcpp::vlm {
namespace {

constexpr float kEps = 1e-6f;  // of the tower's norms

// ---- The notation of blocks

struct Block {
  enum class Kind { edge, inverted, attention } kind;
  int repeats, channels, stride;
  int kernel = 0;        // edge: of the expansion; inverted: depthwise, in the middle; attention:
                         // depthwise, of keys and values
  int start_kernel = 0;  // inverted: depthwise, before the expansion
  double expansion = 1;
  int heads = 0, head_dim = 0, kv_stride = 1;  // attention
};

// Channels in multiples of 8, at most a tenth less than wanted (timm's make_divisible).
int divisible(double wanted) {
  const int n = std::max(8, static_cast<int>(wanted + 4) / 8 * 8);
  return n < 0.9 * wanted ? n + 8 : n;
}

// "uir_r1_a3_k5_s2_e6_c256"
Block parse_block(const std::string& text, const std::string& where) {
  const auto bad = [&](const std::string& why) {
    return Error("{}: 'arch_def' has the block '{}': {}", where, text, why);
  };
  std::vector<std::string> words(1);
  for (const char c : text)
    if (c == '_')
      words.emplace_back();
    else
      words.back() += c;
  static const std::map<std::string, std::pair<Block::Kind, std::string_view>> kKinds = {
      {"er", {Block::Kind::edge, "rksec"}},
      {"uir", {Block::Kind::inverted, "rksec"}},
      {"mqa", {Block::Kind::attention, "rkshdc"}}};
  const auto kind = kKinds.find(words[0]);
  if (kind == kKinds.end())
    throw bad(fmt::format("'{}' is not known; known are er, uir and mqa", words[0]));

  std::map<char, double> numbers = {{'a', 0}, {'v', 1}};
  for (size_t i = 1; i < words.size(); ++i) {
    const std::string& w = words[i];
    constexpr double kMost = 1 << 16;
    double value = -1;
    const auto [end, fault] = w.empty() ? std::from_chars_result{}
                                        : std::from_chars(w.data() + 1, w.data() + w.size(), value);
    const bool known =
        !w.empty() && (kind->second.second.find(w[0]) != std::string_view::npos ||
                       (w[0] == 'a' && words[0] == "uir") || (w[0] == 'v' && words[0] == "mqa"));
    if (!known || fault != std::errc{} || end != w.data() + w.size() || !(value >= 0) ||
        value > kMost || (w[0] != 'e' && value != std::floor(value)))
      throw bad(fmt::format("'{}' is not supported", w));
    numbers[w[0]] = value;
  }
  for (const char letter : kind->second.second)
    if (!numbers.contains(letter)) throw bad(fmt::format("'{}' is missing", letter));
  const auto number = [&](char letter, int least, int most) {
    const double n = numbers.contains(letter) ? numbers[letter] : least;
    if (n < least || n > most)
      throw bad(fmt::format("'{}' must lie between {} and {}", letter, least, most));
    return static_cast<int>(n);
  };
  constexpr int kMostKernel = 31, kMostChannels = 1 << 14, kMostRepeats = 256;
  const bool inverted = kind->second.first == Block::Kind::inverted;
  Block b{.kind = kind->second.first,
          .repeats = number('r', 1, kMostRepeats),
          .channels = divisible(number('c', 1, kMostChannels)),
          .stride = number('s', 1, 2),
          .kernel = number('k', inverted ? 0 : 1, kMostKernel),
          .start_kernel = number('a', 0, kMostKernel)};
  if (b.kind == Block::Kind::attention) {
    b.heads = number('h', 1, 1024);
    b.head_dim = number('d', 1, kMostChannels);
    b.kv_stride = number('v', 1, 8);
    if (b.stride != 1) throw bad("attention has no stride");
  } else {
    b.expansion = numbers['e'];
    if (!(b.expansion > 0 && b.expansion <= 64)) throw bad("'e' must lie between 0 and 64");
  }
  if (inverted && b.stride > 1 && b.kernel == 0 && b.start_kernel == 0)
    throw bad("a stride needs a depthwise convolution");
  return b;
}

// ---- Layers; pictures are [n, H, W, C]

// With TensorFlow's padding "same": ceil(size / stride) places, the odd zero at the end. weight
// [out, kernel, kernel, in / groups].
struct SameConv final : nn::Layer {
  SameConv(int in, int out, int kernel, int stride = 1, bool depthwise = false,
           bool with_bias = false)
      : stride_(stride),
        groups_(depthwise ? in : 1),
        weight(this, "weight", mx::zeros({out, kernel, kernel, in / groups_})),
        bias(this, "bias", nn::absent) {
    if (with_bias) bias.set(mx::zeros({out}));
  }

  mx::array operator()(const mx::array& x) const override {
    const int kernel = weight->shape(1);
    kernels::Conv2dOptions o{.stride = {stride_, stride_}, .groups = groups_};
    std::array<int, 2> end{};
    for (size_t i = 0; i < 2; ++i) {
      const int size = x.shape(1 + static_cast<int>(i)), places = (size + stride_ - 1) / stride_;
      const int zeros = std::max(0, (places - 1) * stride_ + kernel - size);
      o.padding[i] = zeros / 2;
      end[i] = zeros - zeros / 2;
    }
    o.padding_end = end;
    return kernels::conv2d(x, *weight, o, {.bias = bias.optional()});
  }
  std::string type_name() const override { return "SameConv"; }

 private:
  const int stride_, groups_;

 public:
  nn::Param weight, bias;
};

// Convolution and norm, then gelu or not.
struct ConvNorm final : nn::Layer {
  enum class Then { gelu, nothing };

  ConvNorm(int in, int out, int kernel, int stride, bool depthwise, Then then, bool bias = false)
      : then_(then),
        conv(this, "conv", in, out, kernel, stride, depthwise, bias),
        bn(this, "bn", out, kEps) {}

  mx::array operator()(const mx::array& x) const override {
    return then_ == Then::gelu ? kernels::rms_norm_gelu_approx(conv(x), *bn->weight, kEps)
                               : bn(conv(x));
  }

 private:
  const Then then_;

 public:
  nn::Child<SameConv> conv;
  nn::Child<nn::RMSNorm> bn;
};

struct EdgeResidual final : nn::Layer {
  EdgeResidual(int in, const Block& b, int stride)
      : skip_(stride == 1 && in == b.channels),
        conv_exp(this, "conv_exp", in, divisible(in * b.expansion), b.kernel, stride),
        bn1(this, "bn1", divisible(in * b.expansion), kEps),
        conv_pwl(this, "conv_pwl", divisible(in * b.expansion), b.channels, 1),
        bn2(this, "bn2", b.channels, kEps) {}

  mx::array operator()(const mx::array& x) const override {
    const auto y = conv_pwl(kernels::rms_norm_gelu_approx(conv_exp(x), *bn1->weight, kEps));
    return skip_ ? kernels::rms_norm_add(y, *bn2->weight, x, kEps) : bn2(y);
  }

 private:
  const bool skip_;

 public:
  nn::Child<SameConv> conv_exp;
  nn::Child<nn::RMSNorm> bn1;
  nn::Child<SameConv> conv_pwl;
  nn::Child<nn::RMSNorm> bn2;
};

struct LayerScale final : nn::Module {
  explicit LayerScale(int channels) : gamma(this, "gamma", mx::ones({channels})) {}
  nn::Param gamma;
};

// Universal inverted residual: depthwise, wider, depthwise, narrower. As the adapter's `ffn` it has
// neither scale nor way around.
struct InvertedResidual final : nn::Layer {
  InvertedResidual(int in, const Block& b, int stride, bool plain = false)
      : skip_(!plain && stride == 1 && in == b.channels),
        dw_start(this, "dw_start", nn::absent),
        pw_exp(this, "pw_exp", in, divisible(in * b.expansion), 1, 1, false, ConvNorm::Then::gelu),
        dw_mid(this, "dw_mid", nn::absent),
        pw_proj(this, "pw_proj", divisible(in * b.expansion), b.channels, 1, 1, false,
                ConvNorm::Then::nothing),
        layer_scale(this, "layer_scale", nn::absent) {
    const int mid = divisible(in * b.expansion);
    if (b.start_kernel > 0)
      dw_start.emplace(in, in, b.start_kernel, b.kernel > 0 ? 1 : stride, true,
                       ConvNorm::Then::nothing);
    if (b.kernel > 0) dw_mid.emplace(mid, mid, b.kernel, stride, true, ConvNorm::Then::gelu);
    if (!plain) layer_scale.emplace(b.channels);
  }

  mx::array operator()(const mx::array& x) const override {
    auto y = pw_exp(dw_start ? dw_start(x) : x);
    if (dw_mid) y = dw_mid(y);
    y = pw_proj->conv(y);
    auto gain = *pw_proj->bn->weight;
    if (layer_scale) gain = gain * *layer_scale->gamma;
    return skip_ ? kernels::rms_norm_add(y, gain, x, kEps) : kernels::rms_norm(y, gain, kEps);
  }

 private:
  const bool skip_;

 public:
  nn::Child<ConvNorm> dw_start, pw_exp, dw_mid, pw_proj;
  nn::Child<LayerScale> layer_scale;
};

// Of the queries, or of what all heads share: the keys, the values.
struct Projection final : nn::Layer {
  Projection(int in, int out, int kernel = 0, int stride = 1)
      : down_conv(this, "down_conv", nn::absent),
        norm(this, "norm", nn::absent),
        proj(this, "proj", in, out, 1) {
    if (stride == 1) return;
    down_conv.emplace(in, in, kernel, stride, true);
    norm.emplace(in, kEps);
  }
  mx::array operator()(const mx::array& x) const override {
    return proj(down_conv ? norm(down_conv(x)) : x);
  }

  nn::Child<SameConv> down_conv;
  nn::Child<nn::RMSNorm> norm;
  nn::Child<SameConv> proj;
};

// Every pixel looks at all others, or at a coarser picture of them.
struct MultiQueryAttention final : nn::Layer {
  explicit MultiQueryAttention(int in, const Block& b)
      : heads_(b.heads),
        head_dim_(b.head_dim),
        query(this, "query", in, b.heads * b.head_dim),
        key(this, "key", in, b.head_dim, b.kernel, b.kv_stride),
        value(this, "value", in, b.head_dim, b.kernel, b.kv_stride),
        output(this, "output", b.heads * b.head_dim, b.channels) {}

  mx::array operator()(const mx::array& x) const override {
    const int n = x.shape(0), H = x.shape(1), W = x.shape(2);
    const auto q =
        mx::transpose(mx::reshape(query(x), {n, H * W, heads_, head_dim_}), {0, 2, 1, 3});
    const auto shared = [&](const mx::array& a) {  // [n, h, w, D] -> [n, 1, h w, D]
      return mx::reshape(a, {n, 1, -1, head_dim_});
    };
    const auto y = kernels::attention(
        q, shared(key(x)), shared(value(x)),
        {.scale = 1.0f / std::sqrt(static_cast<float>(head_dim_)), .causal = false});
    return output(mx::reshape(mx::transpose(y, {0, 2, 1, 3}), {n, H, W, heads_ * head_dim_}));
  }

 private:
  const int heads_, head_dim_;

 public:
  nn::Child<Projection> query, key, value, output;
};

struct AttentionBlock final : nn::Layer {
  AttentionBlock(int in, const Block& b)
      : skip_(in == b.channels),
        norm(this, "norm", in, kEps),
        attn(this, "attn", in, b),
        layer_scale(this, "layer_scale", b.channels) {}

  mx::array operator()(const mx::array& x) const override {
    const auto y = attn(norm(x));
    return skip_ ? kernels::scale_add(y, *layer_scale->gamma, x) : y * *layer_scale->gamma;
  }

 private:
  const bool skip_;

 public:
  nn::Child<nn::RMSNorm> norm;
  nn::Child<MultiQueryAttention> attn;
  nn::Child<LayerScale> layer_scale;
};

std::unique_ptr<nn::Layer> make_block(int in, const Block& b, int stride) {
  switch (b.kind) {
    case Block::Kind::edge:
      return std::make_unique<EdgeResidual>(in, b, stride);
    case Block::Kind::inverted:
      return std::make_unique<InvertedResidual>(in, b, stride);
    case Block::Kind::attention:
      break;
  }
  return std::make_unique<AttentionBlock>(in, b);
}

std::unique_ptr<nn::Layer> fusion_ffn(int in, int out) {
  constexpr double kExpansion = 2;
  const Block b{.kind = Block::Kind::inverted,
                .repeats = 1,
                .channels = out,
                .stride = 1,
                .expansion = kExpansion};
  return std::make_unique<InvertedResidual>(in, b, 1, true);
}

// Whether maps of these sides are made r places by whole pixels: the coarse one enlarged, then
// averaged.
bool in_whole_pixels(int fine, int coarse, int r) { return fine % coarse == 0 && fine % r == 0; }

}  // namespace

Gemma3nVisionConfig::ModelArgs::ModelArgs() {
  arch_def = {{"er_r1_k3_s2_e4_c128", "er_r2_k3_s1_e4_c128"},
              {"uir_r1_a3_k5_s2_e6_c256"},
              {"uir_r1_a5_k5_s2_e6_c640", "uir_r7_a5_k0_s1_e4_c640", "uir_r1_a0_k0_s1_e1_c640"},
              {"uir_r1_a5_k5_s2_e6_c1280"}};
  const auto add = [](std::vector<std::string>& stage, int times, const char* one,
                      const char* two) {
    for (int i = 0; i < times; ++i) stage.insert(stage.end(), {one, two});
  };
  add(arch_def[1], 2, "uir_r1_a5_k0_s1_e4_c256", "uir_r1_a3_k0_s1_e4_c256");
  add(arch_def[2], 14, "mqa_r1_k3_h12_v2_s1_d64_c640", "uir_r1_a0_k0_s1_e2_c640");
  add(arch_def[3], 19, "mqa_r1_k3_h16_s1_d96_c1280", "uir_r1_a0_k0_s1_e2_c1280");
}

void Gemma3nVisionConfig::ModelArgs::fields(ConfigReader& v) {
  v.maybe("arch_def", arch_def);
  llm::read_size(v, "stem_size", stem_size);
  llm::read_size(v, "num_features", num_features);
  llm::read_size(v, "msfa_output_resolution", msfa_output_resolution);
  constexpr int kMost = 1 << 14, kMostResolution = 256;
  if (stem_size > kMost || num_features > kMost || msfa_output_resolution > kMostResolution)
    throw Error("{}: expected at most {} channels and a resolution of at most {}", v.where(), kMost,
                kMostResolution);
}

void Gemma3nVisionConfig::fields(ConfigReader& v) {
  std::string architecture = "mobilenetv5_300m_enc";
  v.maybe("architecture", architecture);
  if (architecture != "mobilenetv5_300m_enc")
    throw Error("{}: 'architecture' is '{}', expected mobilenetv5_300m_enc", v.where(),
                architecture);
  llm::read_size(v, "hidden_size", hidden_size);
  llm::read_size(v, "vocab_size", vocab_size);
  v.maybe("vocab_offset", vocab_offset);
  v.maybe("rms_norm_eps", rms_norm_eps);
  v.maybe("model_args", model_args);
  // Of a classifier, which the tower is not.
  for (const char* key : {"do_pooling", "label_names", "num_classes", "pretrained_cfg"})
    v.skip(key);
  if (hidden_size != model_args.num_features)
    throw Error("{}: 'hidden_size' is {}, but the tower's 'num_features' {}", v.where(),
                hidden_size, model_args.num_features);
}

void Gemma3nVisionConfig::check_size(int height, int width, std::string_view where) const {
  const int halvings = static_cast<int>(model_args.arch_def.size());
  const int r = model_args.msfa_output_resolution;
  const auto fits = [&](int side) {
    for (int i = 0; i < halvings; ++i) side = (side + 1) / 2;
    return in_whole_pixels(side, (side + 1) / 2, r);
  };
  if (!fits(height) || !fits(width))
    throw Error("{}: pictures become {} x {}, but the model's tower takes multiples of {}", where,
                width, height, r << halvings);
}

FusionAdapter::FusionAdapter(int in_channels, int out_channels, int resolution)
    : resolution_(resolution),
      ffn(this, "ffn", fusion_ffn(in_channels, out_channels)),
      norm(this, "norm", out_channels, kEps) {}

mx::array FusionAdapter::operator()(const mx::array& fine, const mx::array& coarse) const {
  const int H = fine.shape(1), W = fine.shape(2), r = resolution_;
  if (!in_whole_pixels(H, coarse.shape(1), r) || !in_whole_pixels(W, coarse.shape(2), r))
    throw Error(
        "the vision tower makes maps of {} x {} and {} x {} of this picture, which do not go into "
        "{} "
        "x {} tokens in whole pixels",
        W, H, coarse.shape(2), coarse.shape(1), r, r);
  const auto y = ffn(kernels::join_channels({fine, kernels::resize_nearest(coarse, H, W)}));
  const int n = y.shape(0), C = y.shape(3);
  if (H == r && W == r) return norm(y);
  return norm(mx::mean(mx::reshape(y, {n, r, H / r, r, W / r, C}), {2, 4}));
}

Stage::Stage(const std::vector<std::string>& arch_def, int& channels, const std::string& where) {
  for (const std::string& text : arch_def) {
    const Block b = parse_block(text, where);
    if (blocks.empty() && b.stride != 2)
      throw Error("{}: 'arch_def' has the block '{}' first in a stage; expected a stride of 2",
                  where, text);
    for (int i = 0; i < b.repeats; ++i) {
      const int stride = blocks.empty() ? b.stride : 1;
      blocks.emplace_back(this, std::to_string(blocks.size()), make_block(channels, b, stride));
      channels = b.channels;
    }
  }
  if (blocks.empty()) throw Error("{}: 'arch_def' has a stage without blocks", where);
}

mx::array Stage::operator()(const mx::array& x) const {
  auto y = x;
  for (const auto& block : blocks) y = block(y);
  return y;
}

MobileNetV5::MobileNetV5(const Gemma3nVisionConfig& config)
    : conv_stem(this, "conv_stem", nn::absent),
      blocks(this, "blocks"),
      msfa(this, "msfa", nn::absent) {
  const auto& args = config.model_args;
  const std::string where = "config.json: vision_config: model_args";
  // The adapter's maps are those of the last two stages. A sixth stride would be dilation.
  constexpr size_t kMostStages = 4;
  if (args.arch_def.size() < 2 || args.arch_def.size() > kMostStages)
    throw Error("{}: 'arch_def' has {} stages, expected 2 to {}", where, args.arch_def.size(),
                kMostStages);
  int channels = divisible(args.stem_size), fine = 0;
  conv_stem.set(std::make_unique<ConvNorm>(3, channels, 3, 2, false, ConvNorm::Then::gelu, true));
  for (const auto& stage : args.arch_def) {
    fine = channels;
    blocks.emplace_back(stage, channels, where);
  }
  msfa.emplace(fine + channels, args.num_features, args.msfa_output_resolution);
}

mx::array MobileNetV5::operator()(const mx::array& pixels) const {
  if (pixels.ndim() != 4 || pixels.shape(1) != 3)
    throw Error("the vision tower takes pictures [n, 3, height, width], found [{}]",
                fmt::join(pixels.shape(), ", "));
  auto x = conv_stem(mx::contiguous(mx::transpose(pixels, {0, 2, 3, 1})));
  auto fine = x;
  for (size_t i = 0; i < blocks.size(); ++i) {
    fine = x;
    x = blocks.call(i, x);
  }
  return msfa(fine, x);
}

nn::Weights convolutions_channels_last(nn::Weights weights) {
  const bool published = std::any_of(weights.begin(), weights.end(), [](const auto& entry) {
    const mx::array& w = entry.second;
    return w.ndim() == 4 && w.shape(1) > 1 && w.shape(2) == 1 && w.shape(3) == 1;
  });
  if (!published) return weights;
  for (auto& [name, w] : weights) {
    if (w.ndim() == 4) w = mx::contiguous(mx::transpose(w, {0, 2, 3, 1}));
    if (w.ndim() == 3) w = mx::contiguous(mx::transpose(w, {0, 2, 1}));
  }
  return weights;
}

}  // namespace mlxcpp::vlm
