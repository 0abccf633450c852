#!/usr/bin/env python3
"""The trace that `llm-tool trace` writes, from transformers: trace_transformers.py MODEL OURS.safetensors OUT.safetensors

MODEL is a folder or hub id, OURS a trace of ours: its input_ids are run. Then: llm-tool compare OURS OUT
"""
import json
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

# What transformers calls otherwise than the checkpoints do: its part of a name, and ours.
NAMES = [
    ("model.language_model.", "language_model.model."),
    ("model.language_model.", "model."),
    (".mlp.router", ".block_sparse_moe.gate"),
    (".mlp", ".block_sparse_moe"),
]


def main():
    folder, ours, out = sys.argv[1:4]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    known = load_file(ours)
    ids = known["input_ids"].long()
    tensors = {"input_ids": ids.int()}

    def our_name(name):
        others = [name.replace(theirs, own, 1) for theirs, own in NAMES]
        return next((n for n in [name] + others if n in known), name)

    def record(name):
        def hook(_module, _inputs, output):
            value = output[0] if isinstance(output, tuple) else output
            if not isinstance(value, torch.Tensor):
                return
            unique, n = name, 1
            while unique in tensors:
                n += 1
                unique = f"{name}#{n}"
            tensors[unique] = value.detach().contiguous().clone()

        return hook

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(record(our_name(name)))
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits
    tensors["logits"] = logits.contiguous().clone()
    save_file(tensors, out, metadata={"order": json.dumps(list(tensors))})


main()
