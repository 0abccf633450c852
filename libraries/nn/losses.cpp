#include "nn/losses.h"

#include <cmath>

#include "core/error.h"
#include "kernels/cross_entropy.h"

namespace mlxcpp::nn {
namespace {

mx::array reduce(const mx::array& loss, Reduction reduction) {
  if (reduction == Reduction::none) return loss;
  return reduction == Reduction::mean ? mx::mean(loss) : mx::sum(loss);
}

void same_shape(const char* loss, const char* what, const mx::array& a, const mx::array& b) {
  if (a.shape() != b.shape())
    throw Error("{}: {} have shape [{}], expected [{}]", loss, what, fmt::join(b.shape(), ", "),
                fmt::join(a.shape(), ", "));
}

mx::array constant(double v, const mx::array& like) {
  return mx::array(static_cast<float>(v), like.dtype());
}

mx::array picked(const mx::array& a, const mx::array& indices, int axis) {
  return mx::squeeze(mx::take_along_axis(a, mx::expand_dims(indices, axis), axis), axis);
}

mx::array weighted(const char* name, mx::array loss, const std::optional<mx::array>& weights) {
  if (!weights) return loss;
  same_shape(name, "weights", loss, *weights);
  return loss * *weights;
}

mx::array plain_cross_entropy(const mx::array& logits_in, const mx::array& targets, bool indices,
                              const CrossEntropyOptions& o) {
  const auto logits =
      logits_in - mx::stop_gradient(mx::max(logits_in, o.axis, /* keepdims */ true));
  const auto score = indices ? picked(logits, targets, o.axis) : mx::sum(logits * targets, o.axis);
  const auto total = mx::logsumexp(logits, o.axis);
  if (o.label_smoothing == 0) return total - score;
  return total - constant(1 - o.label_smoothing, score) * score -
         mx::mean(logits, o.axis) * constant(o.label_smoothing, score);
}

}  // namespace

mx::array cross_entropy(const mx::array& logits, const mx::array& targets,
                        const CrossEntropyOptions& o) {
  if (!(o.label_smoothing >= 0 && o.label_smoothing < 1))
    throw Error("cross_entropy: label_smoothing must be in [0, 1), found {}", o.label_smoothing);
  const int ndim = static_cast<int>(logits.ndim()), axis = o.axis < 0 ? o.axis + ndim : o.axis;
  if (axis < 0 || axis >= ndim)
    throw Error("cross_entropy: there is no axis {} in logits of {} axes", o.axis, ndim);
  const bool indices = targets.ndim() != logits.ndim();
  auto expected = logits.shape();
  if (indices) expected.erase(expected.begin() + axis);
  if (targets.shape() != expected)
    throw Error("cross_entropy: targets have shape [{}], logits [{}]; expected [{}]",
                fmt::join(targets.shape(), ", "), fmt::join(logits.shape(), ", "),
                fmt::join(expected, ", "));
  const bool fast = indices && axis == ndim - 1 && o.label_smoothing == 0;
  const auto loss = fast ? kernels::cross_entropy(logits, targets)
                         : plain_cross_entropy(logits, targets, indices, o);
  return reduce(weighted("cross_entropy", loss, o.weights), o.reduction);
}

mx::array binary_cross_entropy(const mx::array& inputs, const mx::array& targets,
                               const std::optional<mx::array>& weights, bool with_logits,
                               Reduction reduction) {
  same_shape("binary_cross_entropy", "targets", inputs, targets);
  const auto one = constant(1, inputs), least = constant(-100, inputs);
  const auto loss = with_logits
                        ? mx::logaddexp(constant(0, inputs), inputs) - inputs * targets
                        : mx::negative(targets * mx::maximum(mx::log(inputs), least) +
                                       (one - targets) * mx::maximum(mx::log(one - inputs), least));
  return reduce(weighted("binary_cross_entropy", loss, weights), reduction);
}

mx::array l1_loss(const mx::array& predictions, const mx::array& targets, Reduction reduction) {
  same_shape("l1_loss", "targets", predictions, targets);
  return reduce(mx::abs(predictions - targets), reduction);
}

mx::array mse_loss(const mx::array& predictions, const mx::array& targets, Reduction reduction) {
  same_shape("mse_loss", "targets", predictions, targets);
  return reduce(mx::square(predictions - targets), reduction);
}

mx::array nll_loss(const mx::array& inputs, const mx::array& targets, int axis,
                   Reduction reduction) {
  return reduce(mx::negative(picked(inputs, targets, axis)), reduction);
}

mx::array gaussian_nll_loss(const mx::array& inputs, const mx::array& targets,
                            const mx::array& variances, bool full, float eps, Reduction reduction) {
  same_shape("gaussian_nll_loss", "targets", inputs, targets);
  same_shape("gaussian_nll_loss", "variances", inputs, variances);
  const auto v = mx::maximum(variances, constant(eps, variances));
  auto loss = constant(0.5, v) * (mx::log(v) + mx::square(targets - inputs) / v);
  if (full) loss = loss + constant(0.5 * std::log(2 * M_PI), loss);
  return reduce(loss, reduction);
}

mx::array kl_div_loss(const mx::array& inputs, const mx::array& targets, int axis,
                      Reduction reduction) {
  return reduce(mx::sum(mx::exp(targets) * (targets - inputs), axis), reduction);
}

mx::array smooth_l1_loss(const mx::array& predictions, const mx::array& targets, float beta,
                         Reduction reduction) {
  same_shape("smooth_l1_loss", "targets", predictions, targets);
  const auto d = mx::abs(predictions - targets);
  const auto b = constant(beta, d), half = constant(0.5, d);
  return reduce(mx::where(mx::less(d, b), half * mx::square(d) / b, d - half * b), reduction);
}

mx::array triplet_loss(const mx::array& anchors, const mx::array& positives,
                       const mx::array& negatives, const TripletOptions& o) {
  same_shape("triplet_loss", "positives", anchors, positives);
  same_shape("triplet_loss", "negatives", anchors, negatives);
  const auto distance = [&](const mx::array& other) {
    const auto powers = mx::power(mx::abs(anchors - other), mx::array(o.p));
    return mx::power(mx::sum(powers, o.axis) + constant(o.eps, anchors),
                     constant(1.0 / o.p, anchors));
  };
  const auto d = distance(positives) - distance(negatives) + constant(o.margin, anchors);
  return reduce(mx::maximum(d, constant(0, d)), o.reduction);
}

mx::array hinge_loss(const mx::array& inputs, const mx::array& targets, Reduction reduction) {
  return reduce(mx::maximum(constant(1, inputs) - inputs * targets, constant(0, inputs)),
                reduction);
}

mx::array huber_loss(const mx::array& inputs, const mx::array& targets, float delta,
                     Reduction reduction) {
  const auto size = mx::abs(inputs - targets);
  const auto d = constant(delta, size);
  const auto quadratic = mx::minimum(size, d);
  return reduce(constant(0.5, size) * mx::square(quadratic) + d * (size - quadratic), reduction);
}

mx::array log_cosh_loss(const mx::array& inputs, const mx::array& targets, Reduction reduction) {
  const auto d = inputs - targets;
  return reduce(mx::logaddexp(d, mx::negative(d)) - constant(std::log(2.0), d), reduction);
}

mx::array cosine_similarity_loss(const mx::array& x1, const mx::array& x2, int axis, float eps,
                                 Reduction reduction) {
  const auto norm = [&](const mx::array& x) { return mx::linalg::norm(x, axis); };
  const auto lengths = norm(x1) * norm(x2);
  return reduce(mx::sum(x1 * x2, axis) / mx::maximum(lengths, constant(eps, lengths)), reduction);
}

mx::array margin_ranking_loss(const mx::array& inputs1, const mx::array& inputs2,
                              const mx::array& targets, float margin, Reduction reduction) {
  same_shape("margin_ranking_loss", "inputs2", inputs1, inputs2);
  same_shape("margin_ranking_loss", "targets", inputs1, targets);
  const auto d = mx::negative(targets) * (inputs1 - inputs2) + constant(margin, inputs1);
  return reduce(mx::maximum(constant(0, d), d), reduction);
}

}  // namespace mlxcpp::nn
