#include "llm/blocks/moe.h"

#include <charconv>
#include <map>
#include <vector>

#include "llm/blocks/step.h"

namespace mlxcpp::llm {

void RoutingOptions::check(const std::string& where) const {
  if (num_experts <= 0)
    throw Error(
        "{}: the number of experts ('num_experts', 'num_local_experts') must be positive, found {}",
        where, num_experts);
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

int read_shared_size(ConfigReader& v, const char* key, int count, int size) {
  const int most = size > 0 ? kLargestSize / size : kLargestSize;
  v.maybe(key, count);
  if (count < 0 || count > most)
    throw Error("{}: '{}' is {}, expected 0 to {}, each {} wide", v.where(), key, count, most,
                size);
  return count * size;
}

MoE::MoE(int hidden_size, const std::string& hidden_act, const MoEOptions& o)
    : routing_(o.routing),
      choice_(expert_choice(o.routing)),
      act_(hidden_act),
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

mx::array MoE::operator()(const mx::array& x) const {
  const Routing chosen = route(gate(x), routing_, correction_bias.optional());
  // [..., k, hidden] -> [..., hidden]
  auto y = weighed_sum(switch_mlp(x, chosen.experts), mx::astype(chosen.weights, x.dtype()));
  if (!shared_experts) return y;
  const auto shared = shared_experts(x);
  return y + (shared_expert_gate ? mx::sigmoid(shared_expert_gate(x)) * shared : shared);
}

std::optional<kernels::MoePart> MoE::step_part() const {
  const auto router = llm::step_part(*gate);
  const auto activation = gated_kernel(act_);
  if (!router || !activation || shared_expert_gate) return std::nullopt;
  auto gates = step_stack(*switch_mlp->gate_proj), ups = step_stack(*switch_mlp->up_proj),
       downs = step_stack(*switch_mlp->down_proj);
  if (!gates || !ups || !downs) return std::nullopt;
  kernels::MoePart part{.frame = {},
                        .router = *router,
                        .choice = choice_,
                        .correction_bias = correction_bias.optional(),
                        .gate = std::move(*gates),
                        .up = std::move(*ups),
                        .down = std::move(*downs),
                        .activation = *activation,
                        .shared = {}};
  if (shared_experts) {
    part.shared = shared_experts->step_part();
    if (!part.shared) return std::nullopt;
  }
  return part;
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
