// Mixtures of experts (arXiv 1701.06538, 2101.03961): a router gives each token to a few of many
// MLPs and weighs their answers.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kernels/decoder_step.h"
#include "llm/blocks/mlp.h"
#include "nn/switch_layers.h"

namespace mlxcpp::llm {

// How a router's logits become a choice of experts. Fields as config.json has them.
struct RoutingOptions {
  // sparse_mixer (arXiv 2409.12136): each expert is the best of those that are left, with its share
  // of a softmax over the ones that come close to it.
  enum class Scores { softmax, sigmoid, sparse_mixer };
  // What a group of experts is worth: its best expert (DeepSeek V2), or its best two (V3).
  enum class GroupScore { best, best_two };

  int num_experts = 0;
  int num_experts_per_tok = 0;
  Scores scores = Scores::softmax;
  bool norm_topk_prob = false;         // the weights of the chosen sum to 1
  float norm_epsilon = 1e-20f;         // added to the sum that they are divided by
  float routed_scaling_factor = 1.0f;  // multiplies the weights
  int n_group = 1, topk_group = 1;     // the choice is limited to the best groups
  GroupScore group_score = GroupScore::best_two;
  // sparse_mixer: how close, as part of the larger of the two logits' magnitudes.
  float sparse_mixer_band = 0.02f;

  bool operator==(const RoutingOptions&) const = default;
  // Error, which `where` starts, unless the numbers fit each other.
  void check(const std::string& where) const;
};

struct Routing {
  mx::array experts;  // uint32 [..., k]
  mx::array weights;  // [..., k]
};

// logits [..., num_experts] (computed in f32). The correction bias [num_experts] of DeepSeek V3
// (arXiv 2408.15664) takes part in the choice and not in the weights. On the CPU one operation,
// unless it is being differentiated.
Routing route(const mx::array& logits, const RoutingOptions& o,
              const std::optional<mx::array>& correction_bias = {});

// The same choice on pointers, for steps.
std::shared_ptr<const kernels::ExpertChoice> expert_choice(const RoutingOptions& o);

// sum over k of weights * y: y [..., k, N], weights [..., k] -> [..., N].
mx::array weighed_sum(const mx::array& y, const mx::array& weights);

// The width of the MLP that every token goes through: `key` of config.json shared experts (absent:
// `count`), each `size` wide.
int read_shared_size(ConfigReader& v, const char* key, int count, int size);

struct MoEOptions {
  RoutingOptions routing;
  int moe_intermediate_size = 0;
  bool router_bias = false;
  int shared_intermediate_size = 0;  // of the MLP that every token goes through; 0: none
  bool shared_gate = false;          // the shared MLP's answer times sigmoid(gate(x)) (Qwen2-MoE)
  // Under which names checkpoints have the parts; no name: no such part.
  std::string gate = "gate", switch_mlp = "switch_mlp", shared_experts = "shared_experts",
              shared_expert_gate = "shared_expert_gate", correction_bias;
};

// sum over the chosen experts of weight * expert(x), plus the shared experts' answer.
class MoE : public nn::Layer {
 public:
  MoE(int hidden_size, const std::string& hidden_act, const MoEOptions& o);

  mx::array operator()(const mx::array& x) const override;

  // For a layer's step as one operation, with an empty frame: where the experts are quantised, by
  // the bits that their operations give. None where it must go operation by operation.
  std::optional<kernels::MoePart> step_part() const;

 private:
  const RoutingOptions routing_;
  const std::shared_ptr<const kernels::ExpertChoice> choice_;
  const nn::GatedActivation act_;

 public:
  nn::Child<nn::Linear> gate;
  nn::Param correction_bias;
  nn::Child<nn::SwitchGLU> switch_mlp;
  nn::Child<GatedMLP> shared_experts;
  nn::Child<nn::Linear> shared_expert_gate;
};

// How a family's checkpoints name what lies in a SwitchGLU.
struct ExpertNames {
  std::string experts = "experts", switch_mlp = "switch_mlp";
  std::string gate_proj = "gate_proj", up_proj = "up_proj", down_proj = "down_proj";
};

// Published experts in the stacked form of SwitchGLU: "...experts.7.up_proj.weight" of every expert
// (and its scales, biases, bias) becomes row 7 of "...switch_mlp.up_proj.weight"; transformers'
// "...experts.gate_up_proj" [E, 2I, H] is cut in two. Error when an expert is missing.
nn::Weights stack_experts(nn::Weights weights, const ExpertNames& names = {});

}  // namespace mlxcpp::llm
