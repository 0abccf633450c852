#!/usr/bin/env python3
"""Makes tests/golden/kv_cache.safetensors: one attention layer over random q, k, v through
mlx-lm's caches, in chunks of several lengths.  Needs: pip install mlx-lm==0.32.2 safetensors numpy

Tensors: q, k, v [1, heads, tokens, dim], and one output [heads, tokens, dim] a run.  The metadata
has a run's settings under its name: kind, size, keep, window, bits, group, start (-1: none), and
the chunks' lengths.  prompt_cache_*.safetensors are caches as mlx-lm saves them.
"""
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.generate import maybe_quantize_kv_cache
from mlx_lm.models.base import create_attention_mask, scaled_dot_product_attention
from mlx_lm.models.cache import KVCache, RotatingKVCache, save_prompt_cache
from safetensors.numpy import save_file

HEADS, KV_HEADS, DIM, TOKENS, SCALE = 2, 1, 32, 44, 0.25
OUT = Path(__file__).resolve().parent.parent / "golden"


def cut(n, chunk):
    return [chunk] * (n // chunk) + ([n % chunk] if n % chunk else [])


def main():
    mx.set_default_device(mx.cpu)
    rng = np.random.default_rng(11)
    q, k, v = (rng.standard_normal((1, h, TOKENS, DIM)).astype(np.float32) for h in (HEADS, KV_HEADS, KV_HEADS))
    tensors, runs = {"q": q, "k": k, "v": v}, {}

    def run(name, chunks, kind="simple", size=-1, keep=-1, window=-1, bits=-1, group=-1, start=-1, save=False):
        caches = [KVCache() if kind == "simple" else RotatingKVCache(max_size=size, keep=keep)]
        parts, at = [], 0
        for n in chunks:
            a, b, c = (mx.array(x[:, :, at : at + n]) for x in (q, k, v))
            h = mx.zeros((1, n, 1))
            mask = create_attention_mask(h, caches[0], window_size=window if window > 0 else None)
            keys, values = caches[0].update_and_fetch(b, c)
            parts.append(scaled_dot_product_attention(a, keys, values, cache=caches[0], scale=SCALE, mask=mask))
            mx.eval(parts[-1])
            maybe_quantize_kv_cache(caches, start, group, bits if bits > 0 else None)
            at += n
        assert at == TOKENS
        tensors[name] = np.ascontiguousarray(np.array(mx.concatenate(parts, axis=2))[0])
        runs[name] = json.dumps(dict(kind=kind, size=size, keep=keep, window=window, bits=bits, group=group, start=start, chunks=chunks))
        if save:
            save_prompt_cache(str(OUT / f"prompt_cache_{name}.safetensors"), caches, {"model": "golden"})

    run("simple_chunk7", cut(TOKENS, 7), save=True)
    for keep in (0, 4):
        for label, chunks in {
            "tokenwise": cut(TOKENS, 1),
            "chunk7": cut(TOKENS, 7),
            "chunk15": cut(TOKENS, 15),
            "chunk16": cut(TOKENS, 16),
            "chunk17": cut(TOKENS, 17),
            "whole": [TOKENS],
            "mixed": [12, 1, 1, 1, 1, 1, 9, 1, 1, 16],
            "prompt_then_tokens": [30] + [1] * 14,
        }.items():
            run(f"rotating16_keep{keep}_{label}", chunks, "rotating", 16, keep, save=keep == 4 and label in ("mixed", "prompt_then_tokens"))
    run("rotating16_window16_mixed", [12, 1, 1, 1, 1, 1, 9, 1, 1, 16], "rotating", 16, 0, window=16)
    run("rotating16_window9_mixed", [12, 1, 1, 1, 1, 1, 9, 1, 1, 16], "rotating", 16, 0, window=9)
    for bits in (8, 4):
        run(f"kv{bits}_chunk7", cut(TOKENS, 7), bits=bits, group=32, start=0, save=bits == 8)
        run(f"kv{bits}_start20_mixed", [12, 1, 6, 2, 9, 1, 13], bits=bits, group=32, start=20)
    save_file(tensors, str(OUT / "kv_cache.safetensors"), runs)


if __name__ == "__main__":
    main()
