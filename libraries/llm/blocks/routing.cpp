// The router's choice and the sum of the experts' answers as single operations: in plain ones a
// token that is decoded waits longer for the dispatch of a dozen small steps than for their work.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <mlx/backend/cpu/encoder.h>

#include "kernels/primitive.h"
#include "kernels/rows.h"
#include "llm/blocks/moe.h"

namespace mlxcpp::llm {
namespace {

using kernels::Arrays;
using kernels::RowBuffer;
using kernels::Rows;
using Scores = RoutingOptions::Scores;

constexpr float kNever = -std::numeric_limits<float>::infinity();

// --- In plain operations

// The first n along an axis (negative: from the end).
mx::array first(const mx::array& x, int n, int axis) {
  auto stop = x.shape();
  stop[stop.size() + axis] = n;
  return mx::slice(x, mx::Shape(stop.size(), 0), stop);
}

// -inf for the experts outside the best groups. choice [..., E]
mx::array limit_to_groups(const mx::array& choice, const RoutingOptions& o) {
  auto shape = choice.shape();
  shape.back() = o.n_group;
  shape.push_back(o.num_experts / o.n_group);
  const auto grouped = mx::reshape(choice, shape);  // [..., G, E/G]
  const auto worth = o.group_score == RoutingOptions::GroupScore::best
                         ? mx::max(grouped, -1, true)
                         : mx::sum(mx::topk(grouped, 2, -1), -1, true);  // [..., G, 1]
  const int worst = o.n_group - o.topk_group;
  const auto outside = first(mx::argpartition(worth, worst - 1, -2), worst, -2);
  shape[shape.size() - 2] = worst;
  const auto never = mx::array(kNever);
  return mx::reshape(mx::put_along_axis(grouped, mx::broadcast_to(outside, shape), never, -2),
                     choice.shape());
}

// [quoted]
Routing plain_sparse_mixer(const mx::array& scores, const RoutingOptions& o) {  // [..., E]
  const auto magnitude = mx::abs(scores);
  auto left = scores;
  std::vector<mx::array> experts, weights;  // [..., 1] each
  for (int i = 0; i < o.num_experts_per_tok; ++i) {
    const auto best = mx::stop_gradient(mx::argmax(left, -1, true));
    const auto top = mx::max(left, -1, true);
    const auto distance = (top - scores) / mx::maximum(magnitude, top);
    const auto near = mx::where(distance > mx::array(o.sparse_mixer_band), mx::array(kNever), left);
    experts.push_back(best);
    weights.push_back(mx::take_along_axis(mx::softmax(near, -1, true), best, -1));
    left = mx::put_along_axis(left, best, mx::array(kNever), -1);
  }
  return {mx::concatenate(experts, -1), mx::concatenate(weights, -1)};
}
// [/quoted]

Routing plain_route(const mx::array& x, const RoutingOptions& o,
                    const std::optional<mx::array>& correction_bias) {
  if (o.scores == Scores::sparse_mixer) return plain_sparse_mixer(x, o);
  const auto scores = o.scores == Scores::softmax ? mx::softmax(x, -1, true) : mx::sigmoid(x);
  auto choice = correction_bias ? scores + *correction_bias : scores;
  if (o.topk_group < o.n_group) choice = limit_to_groups(choice, o);
  const int k = o.num_experts_per_tok;
  const auto experts =
      mx::stop_gradient(first(mx::argpartition(mx::negative(choice), k - 1, -1), k, -1));
  auto weights = mx::take_along_axis(scores, experts, -1);
  if (o.norm_topk_prob)
    weights = weights / (mx::sum(weights, -1, true) + mx::array(o.norm_epsilon));
  if (o.routed_scaling_factor != 1.0f) weights = weights * mx::array(o.routed_scaling_factor);
  return {experts, weights};
}

mx::array plain_weighed_sum(const mx::array& y, const mx::array& weights) {
  return mx::sum(y * mx::expand_dims(weights, -1), -2);
}

// --- The loops

// The place of the largest that is not -inf; 0 if there is none.
size_t best_of(const std::vector<float>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

// Routes one token. Memory that it needs is kept from token to token.
class Router {
 public:
  explicit Router(const RoutingOptions& o)
      : o_(o), scores_(o.num_experts), choice_(o.num_experts), worth_(o.n_group) {}

  // x and bias (or nullptr) [E] -> experts and weights [k]
  void operator()(const float* x, const float* bias, uint32_t* experts, float* weights) {
    if (o_.scores == Scores::sparse_mixer) return sparse_mixer(x, experts, weights);
    score(x);
    for (size_t e = 0; e < choice_.size(); ++e) choice_[e] = scores_[e] + (bias ? bias[e] : 0.0f);
    if (o_.topk_group < o_.n_group) limit_to_groups();
    float sum = 0;
    for (int i = 0; i < o_.num_experts_per_tok; ++i) {
      const size_t best = best_of(choice_);
      choice_[best] = kNever;
      experts[i] = static_cast<uint32_t>(best);
      sum += weights[i] = scores_[best];
    }
    const float divisor = o_.norm_topk_prob ? sum + o_.norm_epsilon : 1.0f;
    for (int i = 0; i < o_.num_experts_per_tok; ++i)
      weights[i] = weights[i] / divisor * o_.routed_scaling_factor;
  }

 private:
  void score(const float* x) {
    const size_t n = scores_.size();
    if (o_.scores == Scores::sigmoid) {
      for (size_t e = 0; e < n; ++e) scores_[e] = 1 / (1 + std::exp(-x[e]));
      return;
    }
    const float top = *std::max_element(x, x + n);
    float sum = 0;
    for (size_t e = 0; e < n; ++e) sum += scores_[e] = std::exp(x[e] - top);
    for (float& s : scores_) s /= sum;
  }

  // The worst groups are out.
  void limit_to_groups() {
    const size_t size = choice_.size() / worth_.size();
    for (size_t g = 0; g < worth_.size(); ++g) {
      float best = kNever, second = kNever;
      for (size_t e = g * size; e < (g + 1) * size; ++e) {
        second = std::max(second, std::min(best, choice_[e]));
        best = std::max(best, choice_[e]);
      }
      worth_[g] = o_.group_score == RoutingOptions::GroupScore::best ? best : best + second;
    }
    for (int out = o_.n_group - o_.topk_group; out > 0; --out) {
      const auto worst = std::min_element(worth_.begin(), worth_.end());
      const auto begin = choice_.begin() + (worst - worth_.begin()) * static_cast<int64_t>(size);
      std::fill_n(begin, size, kNever);
      *worst = std::numeric_limits<float>::infinity();
    }
  }

  void sparse_mixer(const float* x, uint32_t* experts, float* weights) {
    choice_.assign(x, x + choice_.size());
    for (int i = 0; i < o_.num_experts_per_tok; ++i) {
      const size_t best = best_of(choice_);
      const float top = choice_[best];
      float sum = 0;
      for (size_t e = 0; e < choice_.size(); ++e)
        if (!((top - x[e]) / std::max(std::abs(x[e]), top) > o_.sparse_mixer_band))
          sum += std::exp(choice_[e] - top);
      experts[i] = static_cast<uint32_t>(best);
      weights[i] = 1 / sum;
      choice_[best] = kNever;
    }
  }

  const RoutingOptions o_;
  std::vector<float> scores_, choice_, worth_;
};

class Choice final : public kernels::ExpertChoice {
 public:
  explicit Choice(const RoutingOptions& o) : options_(o) {}

  int experts() const override { return options_.num_experts; }
  int chosen() const override { return options_.num_experts_per_tok; }
  void choose(const float* logits, const float* bias, size_t rows, uint32_t* experts,
              float* weights) const override {
    Router router(options_);
    const auto E = static_cast<size_t>(options_.num_experts), k = static_cast<size_t>(chosen());
    for (size_t r = 0; r < rows; ++r)
      router(logits + r * E, bias, experts + r * k, weights + r * k);
  }

 private:
  const RoutingOptions options_;
};

class Route final : public kernels::CpuPrimitive {
 public:
  Route(mx::Stream s, const RoutingOptions& o)
      : CpuPrimitive(s,
                     [o](const Arrays& in) {
                       Routing r = plain_route(in[0], o,
                                               in.size() > 1 ? std::optional(in[1]) : std::nullopt);
                       return Arrays{std::move(r.experts), std::move(r.weights)};
                     }),
        options_(o) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    for (mx::array& a : out) a.set_data(mx::allocator::malloc(a.nbytes()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch(
        [rows = Rows(in[0]), bias = in.size() > 1 ? std::optional<Rows>(in[1]) : std::nullopt,
         experts = out[0].data<uint32_t>(), weights = out[1].data<float>(), o = options_] {
          RowBuffer buffer, bias_buffer;
          const auto* b = bias ? static_cast<const float*>(bias->read(0, bias_buffer)) : nullptr;
          Router router(o);
          const auto k = static_cast<size_t>(o.num_experts_per_tok);
          for (size_t r = 0; r < rows.count(); ++r)
            router(static_cast<const float*>(rows.read(r, buffer)), b, experts + r * k,
                   weights + r * k);
        });
  }

  const char* name() const override { return "mlxcpp::Route"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    return options_ == static_cast<const Route&>(other).options_;
  }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    mx::Shape shape = in[0].shape();
    shape.back() = options_.num_experts_per_tok;
    return {shape, shape};
  }

 private:
  RoutingOptions options_;
};

class WeighedSum final : public kernels::CpuPrimitive {
 public:
  explicit WeighedSum(mx::Stream s)
      : CpuPrimitive(s, [](const Arrays& in) { return Arrays{plain_weighed_sum(in[0], in[1])}; }) {}

  void eval_cpu(const Arrays& in, Arrays& out) override {
    out[0].set_data(mx::allocator::malloc(out[0].nbytes()));
    auto& encoder = mx::cpu::get_command_encoder(stream());
    encoder.dispatch([rows = Rows(in[0]), weights = Rows(in[1]), y = out[0].data<float>()] {
      RowBuffer row_buffer, weight_buffer;
      const size_t n = rows.length(), k = weights.length();
      for (size_t t = 0; t < weights.count(); ++t) {
        const auto* w = static_cast<const float*>(weights.read(t, weight_buffer));
        float* sum = y + t * n;
        std::fill_n(sum, n, 0.0f);
        for (size_t i = 0; i < k; ++i) {
          const auto* x = static_cast<const float*>(rows.read(t * k + i, row_buffer));
          kernels::add_weighed(x, w[i], sum, n);
        }
      }
    });
  }

  const char* name() const override { return "mlxcpp::WeighedSum"; }
  bool is_equivalent(const mx::Primitive&) const override { return true; }
  std::vector<mx::Shape> output_shapes(const Arrays& in) override {
    mx::Shape shape = in[0].shape();
    shape.erase(shape.end() - 2);
    return {shape};
  }
};

}  // namespace

Routing route(const mx::array& logits, const RoutingOptions& o,
              const std::optional<mx::array>& correction_bias) {
  if (logits.shape(-1) != o.num_experts)
    throw Error("routing: logits of {} experts, expected {}", logits.shape(-1), o.num_experts);
  const auto x = mx::astype(logits, mx::float32);
  const auto stream = kernels::cpu_stream();
  if (!stream || x.is_tracer() || (correction_bias && correction_bias->is_tracer()))
    return plain_route(x, o, correction_bias);
  mx::Shape shape = x.shape();
  shape.back() = o.num_experts_per_tok;
  Arrays in{x};
  if (correction_bias) in.push_back(mx::astype(*correction_bias, mx::float32));
  auto out = mx::array::make_arrays(std::vector<mx::Shape>{shape, shape},
                                    std::vector<mx::Dtype>{mx::uint32, mx::float32},
                                    std::make_shared<Route>(*stream, o), in);
  return {std::move(out[0]), std::move(out[1])};
}

std::shared_ptr<const kernels::ExpertChoice> expert_choice(const RoutingOptions& o) {
  return std::make_shared<Choice>(o);
}

mx::array weighed_sum(const mx::array& y, const mx::array& weights) {
  constexpr size_t kFew = 1 << 16;  // numbers: beyond, one thread is too slow
  const auto stream = kernels::cpu_stream();
  if (!stream || y.dtype() != mx::float32 || weights.dtype() != mx::float32 || y.size() > kFew ||
      y.size() == 0 || y.is_tracer() || weights.is_tracer())
    return plain_weighed_sum(y, weights);
  mx::Shape shape = y.shape();
  shape.erase(shape.end() - 2);
  return mx::array(std::move(shape), mx::float32, std::make_shared<WeighedSum>(*stream),
                   {y, weights});
}

}  // namespace mlxcpp::llm
