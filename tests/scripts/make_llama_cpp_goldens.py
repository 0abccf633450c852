"""Fixtures whose numbers are llama.cpp's, of the families that it computes otherwise than their authors or knows in the
published sizes alone (NOT_ITS_TOKENS of make_gguf_twins.py): checkpoints for which both compute the same.

    pip install numpy safetensors gguf llama-cpp-python
    python tests/scripts/make_llama_cpp_goldens.py DIR [NAME ...]

DIR/llm/NAME is a checkpoint with llama.cpp's logits and greedy tokens, DIR/gguf/NAME.gguf the file that it read.
`./mlx-run golden DIR/llm DIR/gguf` then holds the readers of both to llama.cpp; tests/interop does all that.
"""
import json
import sys
from pathlib import Path

import numpy as np
from make_gguf_twins import GOLDEN, checkpoint, made, opened_by_llama_cpp, scores_of, write_about, write_file
from safetensors.numpy import load_file, save_file


def bitnet():
    """llama.cpp's feed-forward has silu."""
    c, weights = checkpoint(GOLDEN / "llm/bitnet")
    c["hidden_act"] = "silu"
    return c, weights


def phimoe():
    """With a mean of zero, which no layer disturbs, both norms are the same; and so is every way to weigh one expert
    that is far from the other."""
    c, weights = checkpoint(GOLDEN / "llm/phimoe")
    c |= {"num_local_experts": 2, "num_experts_per_tok": 1}
    weights = {n: w for n, w in weights.items() if not any(f".experts.{i}." in n for i in range(2, 8))}
    for name, w in weights.items():
        if ".gate." in name:
            weights[name] = np.stack([w[0], -w[0]])
        if "embed_tokens" in name:
            weights[name] = w - w.mean(1, keepdims=True)
        elif ".o_proj." in name or ".w2." in name:
            weights[name] = w - w.mean(0, keepdims=True)
    return c, weights


def gemma3n():
    """Of the published sizes those that are in llama.cpp's code, which has no key for them. It takes the deviation of
    sparse gates from a sample, not from all, and looks gelu up in a table of half precision: so the MLP is wide, and
    branches weigh little."""
    c, few = checkpoint(GOLDEN / "llm/gemma3n")
    text, layers = c["text_config"], 25
    text |= {"num_hidden_layers": layers, "num_kv_shared_layers": layers - 20, "laurel_rank": 64,
             "hidden_size_per_layer_input": 256, "final_logit_softcapping": 30.0, "intermediate_size": [1024] * layers,
             "activation_sparsity_pattern": [0.95] * 10 + [0.0] * (layers - 10),
             "layer_types": ["sliding_attention" if i % 5 else "full_attention" for i in range(1, layers + 1)]}
    shapes = {}
    for name, w in few.items():
        if ".layers." not in name:
            shapes[name] = w.shape
        elif ".layers.0." in name:
            for i in range(layers):
                shapes[name.replace(".layers.0.", f".layers.{i}.")] = w.shape
    weights = {}
    for name, shape in shapes.items():
        shape = tuple(64 if "laurel.linear" in name and n == 8 else 1024 if n == 96 else n for n in shape)
        if "embed_tokens_per_layer" in name:
            shape = (shape[0], layers * 256)
        elif "per_layer_model_projection" in name:
            shape = (layers * 256, shape[1])
        elif "per_layer_" in name:
            shape = tuple(256 if n == 16 else n for n in shape)
        mean = 0.0
        if name.endswith(("norm.weight", "_scale")):
            mean = 0.1 if "post_" in name else 1.0
        weights[name] = made(name, shape, mean, mean / 5 if mean else 1.7 / shape[-1] ** 0.5, 5)
    return c, weights


# Name -> checkpoint, and the largest difference.
MADE = {"bitnet": (bitnet, 2e-4), "gemma3n": (gemma3n, 5e-3), "phimoe": (phimoe, 3e-4)}


def write(name, out):
    make, tolerance = MADE[name]
    c, weights = make()
    folder, file = out / "llm" / name, out / "gguf" / f"{name}.gguf"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(c, indent=2))
    save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, folder / "model.safetensors")
    (folder / "golden.json").write_text(json.dumps({
        "name": name, "model_type": c["model_type"], "reference": "llama.cpp, F32",
        "tolerance": {"abs": tolerance, "rel": 1e-3}}))
    file.parent.mkdir(exist_ok=True)
    write_file(file, name, c, weights)
    write_about(file, folder, name)

    model = opened_by_llama_cpp(file)
    twin = load_file(GOLDEN / "llm" / name / "golden.safetensors")
    ids = [int(t) for t in twin["prompt"][0]]
    prompt, last, margins = len(ids), None, []
    for _ in range(len(twin["generated"])):
        scores = scores_of(model, ids)[-1]
        last = scores if last is None else last
        second, first = np.sort(scores)[-2:]
        margins.append(first - second)
        ids.append(int(scores.argmax()))
    save_file({"prompt": twin["prompt"], "prompt_last_logits": last,
               "generated": np.array(ids[prompt:], np.int32), "generated_margin": np.array(margins, np.float32),
               "input_ids": twin["input_ids"],
               "logits": np.stack([scores_of(model, row) for row in twin["input_ids"]])}, folder / "golden.safetensors")


def main():
    out = Path(sys.argv[1])
    for name in sys.argv[2:] or sorted(MADE):
        write(name, out)


if __name__ == "__main__":
    main()
