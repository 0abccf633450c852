#include "llm/blocks/moe.h"

#include <charconv>
#include <limits>
#include <map>
#include <tuple>
#include <vector>

namespace mlxcpp::llm {
namespace {

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
  const auto never = mx::array(-std::numeric_limits<float>::infinity());
  return mx::reshape(mx::put_along_axis(grouped, mx::broadcast_to(outside, shape), never, -2),
                     choice.shape());
}

}  // namespace

void RoutingOptions::check(const std::string& where) const {
  if (num_experts <= 0)
    throw Error("{}: the number of experts must be positive, found {}", where, num_experts);
  if (num_experts_per_tok <= 0 || num_experts_per_tok > num_experts)
    throw Error("{}: 'num_experts_per_tok' is {}, expected 1 to {} (the number of experts)", where,
                num_experts_per_tok, num_experts);
  if (n_group <= 0 || num_experts % n_group != 0)
    throw Error("{}: 'n_group' is {}, expected a divisor of {} experts", where, n_group,
                num_experts);
  if (topk_group <= 0 || topk_group > n_group)
    throw Error("{}: 'topk_group' is {}, expected 1 to {} ('n_group')", where, topk_group, n_group);
  const int group = num_experts / n_group;
  if (n_group > 1 && group_score == GroupScore::best_two && group < 2)
    throw Error("{}: 'n_group' is {}, which leaves fewer than 2 of {} experts in a group", where,
                n_group, num_experts);
  if (num_experts_per_tok > topk_group * group)
    throw Error("{}: 'num_experts_per_tok' is {}, but {} groups have {} experts", where,
                num_experts_per_tok, topk_group, topk_group * group);
}

Routing route(const mx::array& logits, const RoutingOptions& o,
              const std::optional<mx::array>& correction_bias) {
  const auto x = mx::astype(logits, mx::float32);
  const auto scores =
      o.scores == RoutingOptions::Scores::softmax ? mx::softmax(x, -1, true) : mx::sigmoid(x);
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

MoE::MoE(int hidden_size, const std::string& hidden_act, const MoEOptions& o)
    : routing_(o.routing),
      gate(this, o.gate, hidden_size, o.routing.num_experts, o.router_bias),
      correction_bias(this, o.correction_bias, nn::absent),
      switch_mlp(this, o.switch_mlp, hidden_size, o.moe_intermediate_size, o.routing.num_experts,
                 nn::GatedActivation(hidden_act)),
      shared_experts(this, o.shared_experts, nn::absent),
      shared_expert_gate(this, o.shared_expert_gate, nn::absent) {
  if (!o.correction_bias.empty()) correction_bias.set(mx::zeros({o.routing.num_experts}));
  if (o.shared_intermediate_size > 0) {
    shared_experts.emplace(hidden_size, o.shared_intermediate_size, hidden_act);
    if (o.shared_gate) shared_expert_gate.emplace(hidden_size, 1);
  }
}

Routing MoE::choose(const mx::array& logits) const {
  return route(logits, routing_, correction_bias.optional());
}

mx::array MoE::operator()(const mx::array& x) const {
  const Routing chosen = choose(gate(x));
  const auto weights = mx::astype(mx::expand_dims(chosen.weights, -1), x.dtype());
  auto y =
      mx::sum(switch_mlp(x, chosen.experts) * weights, -2);  // [..., k, hidden] -> [..., hidden]
  if (!shared_experts) return y;
  const auto shared = shared_experts(x);
  return y + (shared_expert_gate ? mx::sigmoid(shared_expert_gate(x)) * shared : shared);
}

nn::Weights stack_experts(nn::Weights weights, const ExpertNames& names) {
  const std::string marker = "." + names.experts + ".";
  const std::pair<std::string, const char*> parts[] = {
      {names.gate_proj, "gate_proj"}, {names.up_proj, "up_proj"}, {names.down_proj, "down_proj"}};

  nn::Weights out;
  std::map<std::string, std::map<int, mx::array>> stacks;  // by the name of the stack
  for (auto& [name, w] : weights) {
    const auto at = name.find(marker);
    if (at == std::string::npos) {
      out.emplace(name, w);
      continue;
    }
    const std::string stack = name.substr(0, at + 1) + names.switch_mlp + ".";
    const std::string rest = name.substr(at + marker.size());  // "7.up_proj.weight"
    if (rest == "gate_up_proj") {
      const auto halves = mx::split(w, 2, 1);
      out.emplace(stack + "gate_proj.weight", halves[0]);
      out.emplace(stack + "up_proj.weight", halves[1]);
      continue;
    }
    if (rest == "down_proj") {
      out.emplace(stack + "down_proj.weight", w);
      continue;
    }
    int expert = -1;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), expert);
    const std::string tail(end, rest.data() + rest.size());  // ".up_proj.weight"
    bool known = false;
    for (const auto& [published, ours] : parts)
      if (error == std::errc() && tail.starts_with("." + published + ".")) {
        known = true;
        stacks[stack + ours + tail.substr(1 + published.size())].emplace(expert, w);
      }
    if (!known) out.emplace(name, w);  // `load` says that nobody wants it
  }
  for (auto& [name, experts] : stacks) {
    std::vector<mx::array> rows;
    for (const auto& [i, w] : experts) {
      if (i != static_cast<int>(rows.size()))
        throw Error("{}: expert {} is missing in the checkpoint", name, rows.size());
      if (w.shape() != experts.begin()->second.shape())
        throw Error("{}: the shape of expert {} is not that of expert 0", name, i);
      rows.push_back(w);
    }
    out.emplace(name, mx::stack(rows));
  }
  return out;
}

}  // namespace mlxcpp::llm
