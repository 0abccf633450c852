"""Writes language models' fixtures whose reference is mlx-lm:

  tests/golden/llm/NAME-q4    the checkpoint of the fixture NAME as `mlx_lm.convert -q --q-bits 4
                              --q-group-size 32` writes it, for the families below
  tests/golden/llm/NAME       variants of fixtures, where a test needs one (VARIANTS)

    pip install numpy safetensors "mlx[cpu]" mlx-lm
    python tests/scripts/make_mlx_goldens.py [NAME ...]
"""
import json
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import bitlinear_layers
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes, load_model, quantize_model, save_config
from safetensors.numpy import load_file, save_file

from make_gguf_twins import GOLDEN, checkpoint

GROUP = 32
# Sizes of fixtures that are no multiples of the group are widened (by weights of their own), so that the
# layers which only this family has are quantised, too.
WIDER = {
    "deepseek_v3": {"q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 32, "v_head_dim": 32,
                    "moe_intermediate_size": 32},
    "granite": {"intermediate_size": 128},  # mlx_lm quantises its down_proj in groups of 64
}
# Name -> the fixture it is made from, the fields that differ, and for each layer the one of the fixture whose
# tensors it has. These are what llama.cpp's graphs have: see make_gguf_twins.py.
VARIANTS = {
    "ernie4_5-plain": ("ernie4_5", {"use_bias": False}, [0, 1]),
    "exaone4-full": ("exaone4", {"head_dim": 16, "sliding_window": None, "sliding_window_pattern": None,
                                 "layer_types": ["full_attention"] * 4}, [0, 1, 2, 3]),
    "qwen3_moe-sparse": ("qwen3_moe", {"mlp_only_layers": []}, [0, 0]),
    "smollm3-every4": ("smollm3", {"no_rope_layers": [1, 1, 1, 0]}, [0, 1, 2, 3]),
}
# mlx-lm knows these under another name.
MODEL_TYPES = {"acereason": "qwen2"}
FAMILIES = [
    "acereason", "baichuan_m1", "bitnet", "cohere", "deepseek_v3", "ernie4_5", "exaone4", "gemma", "gemma2",
    "gemma3_text", "glm4", "granite", "internlm2", "lfm2", "mimo", "mistral", "openelm", "phi", "phi3", "phimoe", "qwen2",
    "qwen3", "smollm3", "starcoder2",
]


def bitlinear_on_cpu(self, x, packed):
    """What the Metal kernel of mlx_lm.models.bitlinear_layers computes."""
    codes = mx.concatenate([(packed >> shift) & 3 for shift in (0, 2, 4, 6)], axis=0)
    scale = 1 / self.weight_scale if self.invert_weight_scales else self.weight_scale
    return (x @ (codes.astype(x.dtype) - 1).T) * scale


def widen(model, rng):
    """Random weights in the spread of the fixtures: projections of gain 1.2, norms of 1 +- 0.2."""
    weights = []
    for path, w in tree_flatten(model.parameters()):
        if w.ndim > 1:
            value = rng.standard_normal(w.shape) * 1.2 / np.sqrt(w.shape[-1])
        elif "norm" in path:
            value = 1 + 0.2 * rng.standard_normal(w.shape)
        else:
            value = 0.1 + 0.1 * rng.random(w.shape)
        weights.append((path, mx.array(value.astype(np.float32))))
    model.load_weights(weights)


def load(name, folder):
    config, weights = checkpoint(GOLDEN / "llm" / name)
    config.update(WIDER.get(name, {}))
    config["model_type"] = MODEL_TYPES.get(name, config["model_type"])
    (folder / "config.json").write_text(json.dumps(config))
    save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, folder / "model.safetensors")
    if name not in WIDER:
        return load_model(folder, lazy=True)
    model_class, args = _get_classes(config)
    model = model_class(args.from_dict(config))
    widen(model, np.random.default_rng(5))
    return model, config


def logits_of(model, ids):
    return np.array(model(mx.array(ids)).astype(mx.float32))


def write_golden(out, model, config, about):
    rng = np.random.default_rng(11)
    ids = rng.integers(3, config["vocab_size"], (2, 24)).astype(np.int32)
    prompt = rng.integers(3, config["vocab_size"], (1, 40)).astype(np.int32)
    cache = make_prompt_cache(model)
    last = np.array(model(mx.array(prompt), cache=cache)[0, -1].astype(mx.float32))
    first, generated, margins = last, [], []
    for _ in range(32):
        best, second = np.sort(last)[::-1][:2]
        generated.append(int(last.argmax()))
        margins.append(float(best - second))
        last = np.array(model(mx.array([[generated[-1]]]), cache=cache)[0, -1].astype(mx.float32))
    logits = logits_of(model, ids)
    save_file({"input_ids": ids, "logits": logits, "prompt": prompt, "prompt_last_logits": first,
               "generated": np.array(generated, np.int32), "generated_margin": np.array(margins, np.float32)},
              out / "golden.safetensors")
    about = {"name": out.name, "model_type": config["model_type"], **about,
             "reference": f"mlx-lm {mlx_lm.__version__} (CPU)", "logits_std": float(logits.std())}
    (out / "golden.json").write_text(json.dumps(about, indent=2) + "\n")
    print(f"{out.name}: logits' deviation {logits.std():.2f}, least margin {min(margins):.3f}")


def write_q4(name):
    out = GOLDEN / "llm" / f"{name}-q4"
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model, config = load(name, Path(folder))
        model, config = quantize_model(model, config, GROUP, 4)
        if name in MODEL_TYPES:
            config["model_type"] = name
        weights = {k: np.array(v) for k, v in tree_flatten(model.parameters())}
        save_file(weights, out / "model.safetensors", metadata={"format": "mlx"})
        save_config(config, out / "config.json")
        write_golden(out, model, config, {
            "quantization": config["quantization"], "base": name,
            # mlx rounds scales and sums in another order
            "tolerance": {"abs": 0.005, "rel": 0.005},
            "comments": ["checkpoint as mlx_lm.convert -q writes it"]
            + (["sizes wider than the base's: " + json.dumps(WIDER[name])] if name in WIDER else []),
        })


def with_head_dim(name, shape, head_dim, c):
    """The shape of a tensor of attention with heads of another size."""
    heads, kv_heads = c["num_attention_heads"] * head_dim, c["num_key_value_heads"] * head_dim
    for part, size in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads), ("q_norm", head_dim),
                       ("k_norm", head_dim)):
        if part in name:
            return [size, *shape[1:]]
    return [shape[0], heads] if "o_proj" in name else shape


def write_variant(name):
    base, fields, layers = VARIANTS[name]
    folder, out = GOLDEN / "llm" / base, GOLDEN / "llm" / name
    out.mkdir(exist_ok=True)
    config = {**json.loads((folder / "config.json").read_text()), **fields}
    spec = json.loads((folder / "weights.json").read_text())
    tensors = {k: v for k, v in spec["tensors"].items() if ".layers." not in k}
    for layer, source in enumerate(layers):
        for k, v in spec["tensors"].items():
            if f".layers.{source}." in k and not (k.endswith(".bias") and fields.get("use_bias") is False):
                shape = with_head_dim(k, v["shape"], fields["head_dim"], config) if "head_dim" in fields else v["shape"]
                tensors[k.replace(f".layers.{source}.", f".layers.{layer}.")] = {**v, "shape": shape}
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(tensors.items()))
    (out / "weights.json").write_text(f'{{"seed": {spec["seed"]}, "tensors": {{\n{lines}\n}}}}\n')
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    with tempfile.TemporaryDirectory() as made:
        model, config = load(name, Path(made))
        tolerance = json.loads((folder / "golden.json").read_text())["tolerance"]
        write_golden(out, model, config, {"base": base, "tolerance": tolerance,
                                          "comments": ["as the base, but for " + json.dumps(fields)]})


def main():
    mx.set_default_device(mx.cpu)
    bitlinear_layers.BitLinear.execute_matmul_kernel = bitlinear_on_cpu
    for name in sys.argv[1:] or [*FAMILIES, *VARIANTS]:
        (write_variant if name in VARIANTS else write_q4)(name)


if __name__ == "__main__":
    main()
