#!/usr/bin/env python3
"""PyTorch (with PEFT) or Python MLX (mlx_lm) as a measured side of bench_train:

    train_peer.py torch|mlx lora|qlora|mnist FOLDER THREADS BATCH LENGTH STEPS

Prints a JSON line when it is ready, then answers one request a line (see benchmarks/support/child.h). The work is that
of bench_train.cpp: the same model, layers, rank, batch, optimizer; "qlora" is "lora" here.
"""
import json
import os
import resource
import sys
import time

LAYERS, RANK = 16, 8
BATCH, LENGTH, LORA_STEPS = (int(a) for a in sys.argv[5:8])
IMAGES, MNIST_STEPS = 256, 20
KEYS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def answer(**values):
    print(json.dumps(values), flush=True)


def tokens():
    return [[100 + (i * 37 + b * 11) % 1000 for i in range(LENGTH + 1)] for b in range(BATCH)]


def torch_lora(folder):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    count = model.config.num_hidden_layers
    model = get_peft_model(model, LoraConfig(
        r=RANK, lora_alpha=20 * RANK, target_modules=[k.split(".")[1] for k in KEYS],
        layers_to_transform=list(range(count - LAYERS, count))))
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    data = torch.tensor(tokens())

    def rate():
        start = time.perf_counter()
        for _ in range(LORA_STEPS):
            logits = model(data[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), data[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return LORA_STEPS * BATCH * LENGTH / (time.perf_counter() - start)

    return rate


def torch_mnist(_):
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.randint(0, 256, (IMAGES * MNIST_STEPS, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (IMAGES * MNIST_STEPS,))

    def rate():
        start = time.perf_counter()
        order = torch.randperm(len(labels))
        for begin in range(0, len(labels), IMAGES):
            which = order[begin : begin + IMAGES]
            loss = nn.functional.cross_entropy(model(images[which].float() / 255), labels[which])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return len(labels) / (time.perf_counter() - start)

    return rate


def mlx_lora(folder):
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as opt
    from mlx_lm.tuner.trainer import default_loss
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model
    from pathlib import Path

    mx.set_default_device(mx.cpu)
    model, _ = load_model(Path(folder))
    model.freeze()
    linear_to_lora_layers(model, LAYERS, {"rank": RANK, "scale": 20.0, "dropout": 0.0})
    optimizer = opt.Adam(1e-5)
    step = nn.value_and_grad(model, default_loss)
    data = mx.array(tokens())
    lengths = mx.array([[0, LENGTH + 1]] * BATCH)
    model.train()

    def rate():
        start = time.perf_counter()
        for _ in range(LORA_STEPS):
            (loss, _), grads = step(model, data, lengths)
            optimizer.update(model, grads)
            mx.eval(loss, model.trainable_parameters(), optimizer.state)
        return LORA_STEPS * BATCH * LENGTH / (time.perf_counter() - start)

    return rate


def mlx_mnist(_):
    import mlx.core as mx
    import mlx.nn as nn
    import mlx.optimizers as opt

    mx.set_default_device(mx.cpu)
    flatten = lambda x: x.reshape(x.shape[0], -1)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), mx.tanh, nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5), mx.tanh, nn.MaxPool2d(2, 2),
        flatten, nn.Linear(400, 120), mx.tanh, nn.Linear(120, 84), mx.tanh, nn.Linear(84, 10))
    optimizer = opt.SGD(0.1)
    step = nn.value_and_grad(model, lambda m, x, y: nn.losses.cross_entropy(m(x), y, reduction="mean"))
    images = mx.random.randint(0, 256, (IMAGES * MNIST_STEPS, 28, 28, 1), dtype=mx.uint8)
    labels = mx.random.randint(0, 10, (IMAGES * MNIST_STEPS,), dtype=mx.uint32)
    mx.eval(images, labels)

    def rate():
        start = time.perf_counter()
        order = mx.random.permutation(labels.size)
        for begin in range(0, labels.size, IMAGES):
            which = order[begin : begin + IMAGES]
            loss, grads = step(model, images[which].astype(mx.float32) / 255, labels[which])
            optimizer.update(model, grads)
            mx.eval(loss, model.parameters())
        return labels.size / (time.perf_counter() - start)

    return rate


def main():
    peer, task, folder, threads = sys.argv[1:5]
    task = task.removeprefix("q")
    os.environ["OMP_NUM_THREADS"] = threads
    try:
        if peer == "torch":
            import torch

            torch.set_num_threads(int(threads))
        rate = {"torch": {"lora": torch_lora, "mnist": torch_mnist}, "mlx": {"lora": mlx_lora, "mnist": mlx_mnist}}[peer][task](folder)
    except Exception as e:  # noqa: BLE001  the parent prints it
        answer(error=f"{peer}: {e}")
        return
    answer(ready=True)
    for line in sys.stdin:
        request = line.strip()
        if request == "rate":
            answer(value=rate())
        elif request == "peak_memory":
            answer(value=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
        else:
            answer(error="unknown request " + request)


if __name__ == "__main__":
    main()
