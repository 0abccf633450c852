"""Losses of the first 100 steps of LeNet from Python MLX.

    python make_mnist_golden.py FILE.safetensors            # on patterns with noise: the golden file
    python make_mnist_golden.py --data FOLDER [--epochs N]  # on MNIST, to compare with mnist-tool train

Needs: pip install "mlx[cpu]==0.32.4" numpy. The file has "losses" f32 [100]: seed 7, batches of 64, SGD 0.1.
"""

import argparse
import pathlib
import time

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as opt
import numpy as np


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool1 = nn.MaxPool2d(2, 2)
        self.pool2 = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def __call__(self, x):
        x = self.pool1(mx.tanh(self.conv1(x)))
        x = self.pool2(mx.tanh(self.conv2(x)))
        x = mx.flatten(x, 1)
        return self.fc3(mx.tanh(self.fc2(mx.tanh(self.fc1(x)))))


def loss(model, x, y):
    return nn.losses.cross_entropy(model(x), y, reduction="mean")


def steps(images, labels, batch_size, seed, optimizer, epochs, after_epoch=None):
    mx.random.seed(seed)
    model = LeNet()
    step = nn.value_and_grad(model, loss)
    for epoch in range(epochs):
        began = time.time()
        order = mx.random.permutation(labels.size)
        for begin in range(0, labels.size, batch_size):
            which = order[begin : begin + batch_size]
            value, gradients = step(model, images[which].astype(mx.float32) / 255, labels[which])
            optimizer.update(model, gradients)
            mx.eval(value, model.parameters(), optimizer.state)
            yield value.item()
        if after_epoch:
            after_epoch(epoch, model, time.time() - began)


def patterns(count):
    bits = lambda key, shape, high: mx.random.randint(0, high, shape, key=mx.random.key(key))
    labels = mx.random.randint(0, 10, (count,), dtype=mx.uint32, key=mx.random.key(3))
    blocks = mx.repeat(mx.repeat(bits(1, (10, 7, 7, 1), 2) * 150, 4, axis=1), 4, axis=2)
    return (blocks[labels] + bits(2, (count, 28, 28, 1), 100)).astype(mx.uint8), labels


def mnist(folder, name):
    images = np.fromfile(folder / f"{name}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 28, 28, 1)
    labels = np.fromfile(folder / f"{name}-labels-idx1-ubyte", np.uint8, offset=8)
    return mx.array(images), mx.array(labels).astype(mx.uint32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?")
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    if args.data is None:
        images, labels = patterns(640)
        losses = [v for v in steps(images, labels, 64, 7, opt.SGD(0.1), 10)]
        mx.save_safetensors(args.file, {"losses": mx.array(losses)})
        print(losses[0], losses[-1])
        return
    images, labels = mnist(args.data, "train")
    test_images, test_labels = mnist(args.data, "t10k")

    def report(epoch, model, seconds):
        right = mx.array(0)
        for begin in range(0, test_labels.size, 1000):
            x = test_images[begin : begin + 1000].astype(mx.float32) / 255
            right = right + (mx.argmax(model(x), 1) == test_labels[begin : begin + 1000]).sum()
        print(f"Epoch {epoch + 1}: test accuracy {right.item() / test_labels.size:.4f}, "
              f"{seconds:.2f} s, {labels.size / seconds:.0f} images/s", flush=True)

    for i, v in enumerate(steps(images, labels, 256, 0, opt.SGD(0.1), args.epochs, report)):
        if args.steps is not None and i < args.steps:
            print(i, v)
        if args.steps is not None and i + 1 >= args.steps and args.epochs == 1:
            break


if __name__ == "__main__":
    main()
