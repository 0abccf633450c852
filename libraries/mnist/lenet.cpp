#include "mnist/lenet.h"

#include "nn/activations.h"
#include "nn/losses.h"

namespace mlxcpp::mnist {

mx::array LeNet::operator()(const mx::array& x) const {
  auto y = pool1(nn::tanh(conv1(x)));  // [N, 14, 14, 6]
  y = pool2(nn::tanh(conv2(y)));       // [N, 5, 5, 16]
  y = mx::flatten(y, 1);               // [N, 400]
  y = nn::tanh(fc1(y));
  y = nn::tanh(fc2(y));
  return fc3(y);
}

mx::array to_input(const mx::array& images) {
  return mx::astype(images, mx::float32) / mx::array(255.0f);
}

mx::array loss(const LeNet& model, const mx::array& x, const mx::array& y) {
  return nn::cross_entropy(model(x), y, {.reduction = nn::Reduction::mean});
}

double accuracy(const LeNet& model, const Split& split) {
  constexpr int kAtATime = 1000;  // bounds memory
  int64_t right = 0;
  for (int begin = 0; begin < split.size(); begin += kAtATime) {
    const int end = std::min(begin + kAtATime, split.size());
    const auto x = mx::slice(split.images, {begin, 0, 0, 0}, {end, 28, 28, 1});
    const auto y = mx::slice(split.labels, {begin}, {end});
    right += mx::sum(mx::equal(mx::argmax(model(to_input(x)), 1), y)).item<int32_t>();
  }
  return static_cast<double>(right) / split.size();
}

Batches::Batches(const Split& split, int batch_size)
    : split_(split), order_(mx::random::permutation(split.size())), batch_size_(batch_size) {
  if (batch_size < 1) throw Error("batch size: expected at least 1, found {}", batch_size);
}

std::optional<Split> Batches::next() {
  if (at_ >= split_.size()) return std::nullopt;
  const int end = std::min(at_ + batch_size_, split_.size());
  const auto which = mx::slice(order_, {at_}, {end});
  at_ = end;
  return Split{mx::take(split_.images, which, 0), mx::take(split_.labels, which, 0)};
}

}  // namespace mlxcpp::mnist
