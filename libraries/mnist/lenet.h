// LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998) as
// MLXMNIST of mlx-swift-examples has it.
#pragma once

#include "mnist/files.h"
#include "nn/conv.h"
#include "nn/linear.h"
#include "nn/pooling.h"

namespace mlxcpp::mnist {

namespace nn = mlxcpp::nn;

class LeNet final : public nn::Layer {
 public:
  // x f32 [N, 28, 28, 1] in [0, 1] -> logits [N, 10].
  mx::array operator()(const mx::array& x) const override;

  nn::Child<nn::Conv2d> conv1{this, "conv1", 1, 6, 5, nn::ConvOptions<2>{.padding = 2}};
  nn::Child<nn::Conv2d> conv2{this, "conv2", 6, 16, 5};
  nn::Child<nn::MaxPool2d> pool1{this, "pool1", 2};
  nn::Child<nn::MaxPool2d> pool2{this, "pool2", 2};
  nn::Child<nn::Linear> fc1{this, "fc1", 16 * 5 * 5, 120, true};
  nn::Child<nn::Linear> fc2{this, "fc2", 120, 84, true};
  nn::Child<nn::Linear> fc3{this, "fc3", 84, 10, true};
};

// uint8 pictures as the network takes them.
mx::array to_input(const mx::array& images);
// Mean cross entropy; x as LeNet takes it, y class indices [N].
mx::array loss(const LeNet& model, const mx::array& x, const mx::array& y);
// Part of the split that the model names rightly, in [0, 1].
double accuracy(const LeNet& model, const Split& split);

// The split in a new order, drawn from MLX's generator of the thread when it is made, batch by
// batch; the last one may be smaller:
//   for (Batches batches(data.train, 256); auto batch = batches.next();) ...
class Batches {
 public:
  Batches(const Split& split, int batch_size);
  std::optional<Split> next();  // images as they are, uint8

 private:
  const Split& split_;
  mx::array order_;
  int batch_size_, at_ = 0;
};

}  // namespace mlxcpp::mnist
