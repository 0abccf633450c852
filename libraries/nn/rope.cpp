#include "nn/rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <string_view>

#include <fmt/ranges.h>

namespace mlxcpp::nn {
namespace {

struct NamedType {
  std::string_view name;
  RopeType type;
};
constexpr std::array kTypes = {
    NamedType{"default", RopeType::standard},    NamedType{"linear", RopeType::linear},
    NamedType{"dynamic", RopeType::dynamic},     NamedType{"llama3", RopeType::llama3},
    NamedType{"yarn", RopeType::yarn},           NamedType{"deepseek_yarn", RopeType::yarn},
    NamedType{"telechat3-yarn", RopeType::yarn}, NamedType{"longrope", RopeType::longrope},
    NamedType{"su", RopeType::longrope},         NamedType{"proportional", RopeType::proportional},
    NamedType{"mrope", RopeType::standard},  // Qwen2-VL's old name; mrope_section says the rest
};

// Keys of the object that mean something here, and two that are others' business: a note of how a
// checkpoint was made, and the attention temperature of Mistral 3.
constexpr std::array<std::string_view, 22> kKeys = {"rope_type",
                                                    "type",
                                                    "rope_theta",
                                                    "partial_rotary_factor",
                                                    "factor",
                                                    "alpha",
                                                    "attention_factor",
                                                    "original_max_position_embeddings",
                                                    "low_freq_factor",
                                                    "high_freq_factor",
                                                    "beta_fast",
                                                    "beta_slow",
                                                    "mscale",
                                                    "mscale_all_dim",
                                                    "truncate",
                                                    "short_factor",
                                                    "long_factor",
                                                    "short_mscale",
                                                    "long_mscale",
                                                    "mrope_section",
                                                    "mrope_interleaved",
                                                    "max_position_embeddings"};
constexpr std::array<std::string_view, 2> kSkipped = {"finetuned", "llama_4_scaling_beta"};

RopeType type_from_name(const std::string& text, const std::string& where) {
  std::vector<std::string_view> known;
  for (const NamedType& t : kTypes) {
    if (t.name == text) return t.type;
    known.push_back(t.name);
  }
  throw Error("{}: 'rope_type' must be one of {}; found '{}'", where, fmt::join(known, ", "), text);
}

std::string_view name(RopeType type) {
  return std::find_if(kTypes.begin(), kTypes.end(),
                      [&](const NamedType& t) { return t.type == type; })
      ->name;
}

// Wavelengths over 2 pi grow geometrically from 1 to theta.
std::vector<double> plain(double theta, int dims) {
  std::vector<double> inv_freq;
  for (int i = 0; i < dims; i += 2)
    inv_freq.push_back(std::pow(theta, -static_cast<double>(i) / dims));
  return inv_freq;
}

std::vector<double> dynamic(const RopeConfig& c, int dims, double length) {
  const double exponent = static_cast<double>(dims) / (dims - 2);
  if (c.alpha) return plain(c.theta * std::pow(*c.alpha, exponent), dims);
  const double max = c.max_position_embeddings, factor = *c.factor;
  const double stretch = factor * std::max(length, max) / max - (factor - 1);
  return plain(c.theta * std::pow(stretch, exponent), dims);
}

std::vector<double> llama3(const RopeConfig& c, int dims) {
  auto inv_freq = plain(c.theta, dims);
  for (double& f : inv_freq) {
    const double turns = c.original_max_position_embeddings * f / (2 * std::numbers::pi);
    const double keep = std::clamp(
        (turns - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor), 0.0, 1.0);
    f = (1 - keep) * f / *c.factor + keep * f;
  }
  return inv_freq;
}

// By how much the text grew. DeepSeek-V3 and Phi-3 leave it to the ratio of the two lengths.
double growth(const RopeConfig& c) {
  return c.factor.value_or(static_cast<double>(c.max_position_embeddings) /
                           c.original_max_position_embeddings);
}

// The index of the pair that makes `turns` turns within the original length.
double yarn_pair(const RopeConfig& c, int dims, double turns) {
  return dims * std::log(c.original_max_position_embeddings / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(c.theta));
}

std::vector<double> yarn(const RopeConfig& c, int dims) {
  double low = yarn_pair(c, dims, c.beta_fast), high = yarn_pair(c, dims, c.beta_slow);
  if (c.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dims - 1.0);
  if (low == high) high += 0.001;
  const double factor = growth(c);
  auto inv_freq = plain(c.theta, dims);
  for (size_t i = 0; i < inv_freq.size(); ++i) {  // from extrapolated to interpolated
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    inv_freq[i] = inv_freq[i] / factor * ramp + inv_freq[i] * (1 - ramp);
  }
  return inv_freq;
}

double yarn_scale(const RopeConfig& c) {
  if (c.attention_factor) return *c.attention_factor;
  const double factor = growth(c);
  const auto grown = [&](double mscale) {
    return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
  };
  const double m = c.mscale.value_or(0), all = c.mscale_all_dim.value_or(0);
  return m != 0 && all != 0 ? grown(m) / grown(all) : grown(1.0);
}

std::vector<double> longrope(const RopeConfig& c, int dims, bool beyond) {
  const auto& factors = beyond ? c.long_factor : c.short_factor;
  auto inv_freq = plain(c.theta, dims);
  for (size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] /= factors[i];
  return inv_freq;
}

double longrope_scale(const RopeConfig& c, bool beyond) {
  if (const auto& own = beyond ? c.long_mscale : c.short_mscale) return *own;
  if (c.attention_factor) return *c.attention_factor;
  const double factor = growth(c);
  return factor <= 1
             ? 1.0
             : std::sqrt(1 + std::log(factor) / std::log(c.original_max_position_embeddings));
}

std::vector<double> proportional(const RopeConfig& c, int dims) {
  auto inv_freq = plain(c.theta, dims);
  const size_t turning = static_cast<size_t>(c.partial_rotary_factor * dims / 2);
  for (size_t i = 0; i < inv_freq.size(); ++i)
    inv_freq[i] = i < turning ? inv_freq[i] / c.factor.value_or(1.0) : 0.0;
  return inv_freq;
}

// How many of a head's dimensions take part in the rotation.
int rotary_dims(const RopeConfig& c) {
  if (c.head_dim > kLargestHead)
    throw Error("RoPE: heads of {} dimensions, expected {} at most", c.head_dim, kLargestHead);
  const int dims = c.type == RopeType::proportional
                       ? c.head_dim
                       : static_cast<int>(c.head_dim * c.partial_rotary_factor);
  if (dims < 2 || dims % 2 != 0 || dims > c.head_dim)
    throw Error("RoPE: {} of {} dimensions of a head cannot turn in pairs", dims, c.head_dim);
  return dims;
}

}  // namespace

void RopeConfig::read(ConfigReader reader, int head_dim_of_model, const std::string& layer_type) {
  head_dim = head_dim_of_model;
  const std::string top = reader.where();
  reader.maybe("rope_theta", theta);
  reader.maybe("partial_rotary_factor", partial_rotary_factor);
  reader.maybe("max_position_embeddings", max_position_embeddings);
  int outer_original = 0;
  reader.maybe("original_max_position_embeddings", outer_original);

  reader.skip("rope_scaling");
  reader.skip("rope_parameters");
  const Json& json = reader.json();
  const auto object = [&](const char* key) -> const Json* {
    const auto it = json.find(key);
    if (it == json.end() || it->is_null()) return nullptr;
    if (!it->is_object())
      throw Error("{}: '{}' must be an object, found {}", top, key, describe(*it));
    return it->empty() ? nullptr : &*it;
  };
  std::string where = top + ": rope_scaling";
  const Json* scaling = object("rope_scaling");
  if (const Json* parameters = scaling ? nullptr : object("rope_parameters")) {
    scaling = parameters;
    where = top + ": rope_parameters";
    // One object for each kind of layer, or one for all.
    const bool nested = std::all_of(scaling->begin(), scaling->end(),
                                    [](const Json& v) { return v.is_object() || v.is_null(); });
    if (nested) {
      const auto it = scaling->find(layer_type);
      if (it == scaling->end() || !it->is_object())
        throw Error("{}: '{}' is missing", where, layer_type.empty() ? "rope_type" : layer_type);
      scaling = &*it;
      where += ": " + layer_type;
    }
  }

  if (scaling) {
    const auto any_of = [](const auto& names, const std::string& key) {
      return std::find(names.begin(), names.end(), key) != names.end();
    };
    for (const auto& [key, value] : scaling->items())
      if (!any_of(kKeys, key) && !any_of(kSkipped, key))
        throw Error("{}: '{}' is not known; known are {}", where, key, fmt::join(kKeys, ", "));

    ConfigReader r(*scaling, where);
    std::string text = "default";
    r.maybe("type", text);
    r.maybe("rope_type", text);
    type = type_from_name(text, where);
    r.maybe("rope_theta", theta);
    r.maybe("partial_rotary_factor", partial_rotary_factor);
    r.maybe("factor", factor);
    r.maybe("alpha", alpha);
    r.maybe("attention_factor", attention_factor);
    r.maybe("original_max_position_embeddings", original_max_position_embeddings);
    r.maybe("beta_fast", beta_fast);
    r.maybe("beta_slow", beta_slow);
    r.maybe("mscale", mscale);
    r.maybe("mscale_all_dim", mscale_all_dim);
    r.maybe("truncate", truncate);
    r.maybe("short_mscale", short_mscale);
    r.maybe("long_mscale", long_mscale);
    r.maybe("mrope_section", mrope_section);
    r.maybe("mrope_interleaved", mrope_interleaved);
    if (type == RopeType::llama3) {
      r.need("low_freq_factor", low_freq_factor);
      r.need("high_freq_factor", high_freq_factor);
    }
    if (type == RopeType::longrope) {
      r.need("short_factor", short_factor);
      r.need("long_factor", long_factor);
    }
  }

  // The original length: transformers lets the outer key win, and falls back to the whole length.
  if (outer_original) original_max_position_embeddings = outer_original;
  if (!original_max_position_embeddings) original_max_position_embeddings = max_position_embeddings;

  check(where);
}

void RopeConfig::check(const std::string& where) const {
  const auto positive = [&](const char* key, double value) {
    if (!(value > 0)) throw Error("{}: '{}' must be positive, found {}", where, key, value);
  };
  const auto needed = [&](const char* key, const std::optional<double>& value) {
    if (!value) throw Error("{}: '{}' is missing (rope type '{}')", where, key, name(type));
  };
  positive("rope_theta", theta);
  positive("partial_rotary_factor", partial_rotary_factor);
  if (partial_rotary_factor > 1)
    throw Error("{}: 'partial_rotary_factor' must be at most 1, found {}", where,
                partial_rotary_factor);
  if (factor) positive("factor", *factor);
  if (alpha) positive("alpha", *alpha);
  switch (type) {
    case RopeType::standard:
    case RopeType::proportional:
      break;
    case RopeType::linear:
      needed("factor", factor);
      break;
    case RopeType::dynamic:
      if (alpha) break;
      needed("factor", factor);
      positive("max_position_embeddings", max_position_embeddings);
      break;
    case RopeType::llama3:
      needed("factor", factor);
      positive("original_max_position_embeddings", original_max_position_embeddings);
      if (!(high_freq_factor > low_freq_factor))
        throw Error("{}: 'high_freq_factor' must be above low_freq_factor {}, found {}", where,
                    low_freq_factor, high_freq_factor);
      break;
    case RopeType::yarn:
      positive("original_max_position_embeddings", original_max_position_embeddings);
      if (!factor) positive("max_position_embeddings", max_position_embeddings);
      positive("beta_fast", beta_fast);
      positive("beta_slow", beta_slow);
      if (theta <= 1) throw Error("{}: 'rope_theta' must be above 1, found {}", where, theta);
      break;
    case RopeType::longrope:
      if (original_max_position_embeddings <= 1)  // its logarithm divides
        throw Error("{}: 'original_max_position_embeddings' must be above 1, found {}", where,
                    original_max_position_embeddings);
      for (const double f : short_factor) positive("short_factor", f);
      for (const double f : long_factor) positive("long_factor", f);
      break;
  }
  if (!mrope_section.empty() &&
      (mrope_section.size() != 3 ||
       std::any_of(mrope_section.begin(), mrope_section.end(), [](int n) { return n < 0; })))
    throw Error("{}: 'mrope_section' must be three sizes, found [{}]", where,
                fmt::join(mrope_section, ", "));
}

RoPE::RoPE(const RopeConfig& config, bool traditional)
    : config_(config),
      dims_(rotary_dims(config)),
      traditional_(traditional),
      short_{mx::array(0.0f), 1.0f},
      long_(short_) {
  config.check("RoPE");
  const size_t pairs = static_cast<size_t>(dims_) / 2;
  if (config.type == RopeType::dynamic && dims_ <= 2)
    throw Error("RoPE: dynamic scaling needs more than 2 dimensions that turn");
  if (config.type == RopeType::longrope)
    for (const auto& [key, list] : {std::pair("short_factor", &config.short_factor),
                                    std::pair("long_factor", &config.long_factor)})
      if (list->size() != pairs)
        throw Error("config.json: '{}' must have one number for each of {} frequencies, found {}",
                    key, pairs, list->size());
  if (!config.mrope_section.empty() &&
      std::accumulate(config.mrope_section.begin(), config.mrope_section.end(), size_t{0}) != pairs)
    throw Error("config.json: 'mrope_section' must add up to {} frequencies, found [{}]", pairs,
                fmt::join(config.mrope_section, ", "));
  const int original = config.type == RopeType::dynamic ? config.max_position_embeddings
                                                        : config.original_max_position_embeddings;
  short_ = table(frequencies(1));
  long_ = depends_on_length() && original < std::numeric_limits<int>::max()
              ? table(frequencies(original + 1))
              : short_;
}

RoPE::RoPE(int dims, bool traditional, double theta, double scale)
    : RoPE(
          [&] {
            RopeConfig c;
            c.head_dim = dims;
            c.theta = theta;
            if (scale != 1.0) {
              c.type = RopeType::linear;
              c.factor = 1.0 / scale;
            }
            return c;
          }(),
          traditional) {}

bool RoPE::depends_on_length() const {
  return config_.type == RopeType::longrope ||
         (config_.type == RopeType::dynamic && !config_.alpha);
}

RoPE::Table RoPE::table(const Frequencies& f) {
  const std::vector<float> values(f.inv_freq.begin(), f.inv_freq.end());
  return {mx::array(values.begin(), {static_cast<int>(values.size())}, mx::float32),
          static_cast<float>(f.scale)};
}

RoPE::Frequencies RoPE::frequencies(int length) const {
  const RopeConfig& c = config_;
  switch (c.type) {
    case RopeType::standard:
      break;
    case RopeType::linear: {
      auto inv_freq = plain(c.theta, dims_);
      for (double& f : inv_freq) f /= *c.factor;
      return {std::move(inv_freq)};
    }
    case RopeType::dynamic:
      return {dynamic(c, dims_, length)};
    case RopeType::llama3:
      return {llama3(c, dims_)};
    case RopeType::yarn:
      return {yarn(c, dims_), yarn_scale(c)};
    case RopeType::longrope: {
      const bool beyond = length > c.original_max_position_embeddings;
      return {longrope(c, dims_, beyond), longrope_scale(c, beyond)};
    }
    case RopeType::proportional:
      return {proportional(c, dims_)};
  }
  return {plain(c.theta, dims_)};
}

mx::array RoPE::operator()(const mx::array& x, const kernels::Positions& positions,
                           int expected_length) const {
  if (const auto t = table_for(positions, x.shape(-2), expected_length))
    return kernels::rope(x, dims_, traditional_, t->inv_freq, t->scale, positions);
  const auto& several = std::get<mx::array>(positions);
  return several.ndim() == 3 ? multimodal(x, several) : rows_of_own_length(x, several);
}

std::optional<RoPE::Table> RoPE::table_for(const kernels::Positions& positions, int L,
                                           int expected_length) const {
  const auto* several = std::get_if<mx::array>(&positions);
  if (several && (several->ndim() == 3 || depends_on_length())) return std::nullopt;
  if (!depends_on_length()) return short_;
  const int length = std::max(std::get<int>(positions) + L, expected_length);
  if (config_.type == RopeType::longrope)
    return length > config_.original_max_position_embeddings ? long_ : short_;
  if (length <= config_.max_position_embeddings) return short_;
  return table(frequencies(length));
}

// Row b has reached offsets[b] + L tokens: a number known only when the graph is evaluated, so the
// choice between the tables is part of the graph.
mx::array RoPE::rows_of_own_length(const mx::array& x, const mx::array& offsets) const {
  const int L = x.shape(-2);
  const auto first = mx::reshape(mx::astype(offsets, mx::float32), {-1, 1, 1});  // [B, 1, 1]
  const auto length = first + mx::array(static_cast<float>(L));
  const auto positions = first + mx::reshape(mx::arange(0, L, mx::float32), {1, L, 1});
  if (config_.type == RopeType::longrope) {
    const auto beyond = mx::greater(
        length, mx::array(static_cast<float>(config_.original_max_position_embeddings)));
    const auto inv_freq = mx::where(beyond, long_.inv_freq, short_.inv_freq);  // [B, 1, dims/2]
    const auto scale = mx::where(beyond, mx::array(long_.scale), mx::array(short_.scale));
    return rotate(x, positions * inv_freq, mx::expand_dims(scale, 1));
  }
  const auto k = [](double v) { return mx::array(static_cast<float>(v)); };
  const double max = config_.max_position_embeddings, factor = *config_.factor;
  const auto stretch = k(factor / max) * mx::maximum(length, k(max)) - k(factor - 1);
  // theta' = theta * stretch^(d/(d-2)), so frequency i falls by stretch^(2i/(d-2)).
  const int half = dims_ / 2;
  const auto exponents = mx::arange(0, half, mx::float32) * k(-2.0 / (dims_ - 2));
  const auto inv_freq = short_.inv_freq * mx::power(stretch, exponents);
  return rotate(x, positions * inv_freq, mx::array(1.0f));
}

mx::array RoPE::multimodal(const mx::array& x, const mx::array& positions) const {
  if (config_.mrope_section.empty())
    throw Error("config.json: 'mrope_section' is missing, which multimodal positions need");
  if (positions.ndim() != 3 || positions.shape(0) != 3)
    throw Error("RoPE: multimodal positions must be [3, B, L], found [{}]",
                fmt::join(positions.shape(), ", "));
  // Which of the three position numbers turns each frequency.
  const auto& section = config_.mrope_section;
  std::vector<int> axis(static_cast<size_t>(dims_) / 2, 0);
  for (int i = 0; i < dims_ / 2; ++i) {
    if (config_.mrope_interleaved)
      axis[i] = i % 3 != 0 && i < 3 * section[i % 3] ? i % 3 : 0;
    else
      axis[i] = i < section[0] ? 0 : i < section[0] + section[1] ? 1 : 2;
  }
  const auto which = mx::array(axis.begin(), {dims_ / 2}, mx::int32);
  const auto own = mx::take(mx::astype(positions, mx::float32), which, 0);  // [dims/2, B, L]
  const auto angles = mx::transpose(own, {1, 2, 0}) * short_.inv_freq;
  return rotate(x, angles, mx::array(short_.scale));
}

// x [B, H, L, D], angles [B or 1, L, dims/2] in radians; scale broadcasts to [B, H, L, dims/2].
mx::array RoPE::rotate(const mx::array& x, const mx::array& angles, const mx::array& scale) const {
  const auto turn = mx::expand_dims(angles, 1);
  const auto cos = mx::cos(turn) * scale, sin = mx::sin(turn) * scale;
  const int B = x.shape(0), H = x.shape(1), L = x.shape(2), D = x.shape(3), half = dims_ / 2;
  const auto part = [&](const mx::array& a, int from, int to) {
    return mx::slice(a, {0, 0, 0, from}, {B, H, L, to});
  };
  auto turned = mx::astype(part(x, 0, dims_), mx::float32);
  // The pairs as [..., half] each: neighbours, or the two halves.
  const auto pairs = traditional_ ? mx::split(mx::reshape(turned, {B, H, L, half, 2}), 2, -1)
                                  : mx::split(turned, 2, -1);
  const auto a = mx::reshape(pairs[0], {B, H, L, half}), b = mx::reshape(pairs[1], {B, H, L, half});
  const auto u = a * cos - b * sin, v = a * sin + b * cos;
  turned = traditional_ ? mx::reshape(mx::stack({u, v}, -1), {B, H, L, dims_})
                        : mx::concatenate({u, v}, -1);
  turned = mx::astype(turned, x.dtype());
  return dims_ == D ? turned : mx::concatenate({turned, part(x, dims_, D)}, -1);
}

std::shared_ptr<const RoPE> make_rope(const ConfigReader& reader, int head_dim,
                                      const std::string& layer_type, bool traditional) {
  RopeConfig config;
  config.read(reader, head_dim, layer_type);
  return std::make_shared<const RoPE>(config, traditional);
}

std::string RoPE::settings() const {
  auto text = fmt::format("{}, traditional={}, theta={}", dims_, traditional_, config_.theta);
  if (config_.type != RopeType::standard) text += fmt::format(", type={}", name(config_.type));
  if (config_.factor) text += fmt::format(", factor={}", *config_.factor);
  return text;
}

}  // namespace mlxcpp::nn
