#!/usr/bin/env python3
"""diffusers on torch as a measured side of bench_sd: diffusers_peer.py DTYPE(float32|bfloat16) THREADS ENOUGH.

A model that is not through after ENOUGH seconds is broken off at its next layer: the answer is the time until then, and "at_least". torch
computes bf16 convolutions by oneDNN where the processor has AVX-512 or better; elsewhere by loops that take a minute and more for one layer.
Prints a JSON line when it is ready, then answers one request a line (see benchmarks/support/child.h).
"""
import json
import resource
import sys
import time


def answer(**values):
    print(json.dumps(values), flush=True)


def main():
    dtype_name, threads, enough = sys.argv[1:4]
    try:
        import torch
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from diffusers.utils import logging
    except ImportError as e:
        answer(error=str(e))
        return
    logging.set_verbosity_error()
    torch.set_num_threads(int(threads))
    torch.set_grad_enabled(False)
    dtype = getattr(torch, dtype_name)
    parts = {}

    # The sizes of stabilityai/stable-diffusion-2-1-base.
    def unet():
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True)

    def vae():
        return AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[128, 256, 512, 512],
                             layers_per_block=2, sample_size=512)

    def part(make):
        if make not in parts:
            parts.clear()
            with torch.device("meta"):
                model = make()
            # Never in f32 first: that would count as its peak. Pieces of one block of random numbers.
            model = model.to(dtype).to_empty(device="cpu").eval()
            block = torch.rand((1 << 20) + 7) * 2 - 1
            for p in model.parameters():
                scale = (3 * p.shape[0] / p.numel()) ** 0.5
                flat = p.data.view(-1)
                for i in range(0, p.numel(), block.numel()):
                    piece = flat[i:i + block.numel()]
                    piece.copy_(block[:piece.numel()] * scale)
            parts[make] = model
        return parts[make]

    class BrokenOff(Exception):
        pass

    def timed(model, call):
        def look(*_):
            if time.perf_counter() - start > float(enough):
                raise BrokenOff

        hooks = [m.register_forward_pre_hook(look) for m in model.modules()]
        start = time.perf_counter()
        try:
            call()
            return {"value": time.perf_counter() - start}
        except BrokenOff:
            return {"value": time.perf_counter() - start, "at_least": True}
        finally:
            for hook in hooks:
                hook.remove()

    def step():
        x, text = torch.randn(1, 4, 64, 64, dtype=dtype), torch.randn(1, 77, 1024, dtype=dtype)
        model = part(unet)
        return timed(model, lambda: model(x, 500, encoder_hidden_states=text))

    def decode():
        z = torch.randn(1, 4, 64, 64, dtype=dtype)
        model = part(vae)
        return timed(model, lambda: model.decode(z))

    answer(ready=True)
    for line in sys.stdin:
        request = line.strip()
        if request == "unet_step":
            answer(**step())
        elif request == "vae_decode":
            answer(**decode())
        elif request == "peak_memory":
            answer(value=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
        else:
            answer(error="unknown request " + request)


main()
