#!/usr/bin/env python3
"""The trace that `llm-tool trace` writes, from transformers: trace_transformers.py MODEL OURS.safetensors OUT.safetensors

MODEL is a folder or hub id, OURS a trace of ours: its input_ids are run. Then: llm-tool compare OURS OUT
"""
import json
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM


def main():
    folder, ours, out = sys.argv[1:4]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    ids = load_file(ours)["input_ids"].long()
    tensors = {"input_ids": ids.int()}

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
            module.register_forward_hook(record(name))
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits
    tensors["logits"] = logits.contiguous().clone()
    save_file(tensors, out, metadata={"order": json.dumps(list(tensors))})


main()
