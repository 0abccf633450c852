"""Makes small fixtures tests/golden/vlm/NAME from those that make_vlm.py wrote.

usage: python pack_vlm_goldens.py FROM OUT NAME...     (FROM: the folder with make_vlm.py, weights.py and vlm/)

Configs, tokenizers and pictures stay. Weights become weights.json (tests/golden/README.md), with the mean and
deviation of each tensor; the reference computes anew from them what golden.safetensors holds, from the same
inputs. Pixels are stored as the 8-bit samples they came from; masks that follow from the ids are left out.
"""
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file

SOURCE, OUT, NAMES = sys.argv[1], sys.argv[2], sys.argv[3:]
sys.path.insert(0, SOURCE)
sys.argv = sys.argv[:1]
import make_vlm  # noqa: E402
import transformers  # noqa: E402
import weights  # noqa: E402
from media_common import greedy  # noqa: E402

CAPS = {"gemma3": make_vlm.siglip_caps, "paligemma": make_vlm.siglip_caps, "qwen2_vl": make_vlm.qwen_caps,
        "qwen2_5_vl": make_vlm.qwen_caps, "idefics3": make_vlm.idefics_caps, "smolvlm": make_vlm.idefics_caps}
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "pixel_values",
          "pixel_values_videos", "image_grid_thw", "video_grid_thw", "second_per_grid_ts", "pixel_attention_mask")
LEFT_OUT = ("attention_mask", "token_type_ids", "mm_token_type_ids", "pixel_attention_mask")
MIN_MARGIN, MIN_DISTINCT, TRIES = 1e-3, 3, 8


def load(folder, arch):
    model, info = getattr(transformers, arch).from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, attn_implementation="eager")
    assert not info["missing_keys"], info["missing_keys"]
    return model.eval()


def to_bytes(pixels, processor):
    """[..., 3, H, W] or patches [n, 3 * ...] -> the samples, checked to give the same floats."""
    shape = pixels.shape
    flat = pixels.reshape(shape[0], 3, -1) if pixels.ndim == 2 else pixels.reshape(-1, 3, shape[-2] * shape[-1])
    mean = torch.tensor(processor["image_mean"]).reshape(1, 3, 1)
    std = torch.tensor(processor["image_std"]).reshape(1, 3, 1)
    samples = ((flat * std + mean) * 255).round()
    again = (samples / 255 - mean) / std
    assert float((again - flat).abs().max()) < 1e-5, float((again - flat).abs().max())
    return samples.to(torch.uint8).reshape(shape)


@torch.no_grad()
def case(model, name, caps, inputs, extra):
    with_media = any(k.startswith("pixel_values") for k in inputs)
    keep = {k: m for k, m in caps(model).items() if with_media or not k.startswith("vision")}
    store, hooks = make_vlm.capture(keep)
    logits = model(**inputs).logits
    for h in hooks:
        h.remove()
    ids, margin, _ = greedy(model, dict(inputs), 16)
    out = {"logits": logits, "greedy": ids.to(torch.int32), "greedy_margin": margin, **store, **extra(model, inputs)}
    return {f"{name}.{k}": v.contiguous() for k, v in out.items()}, ids, float(margin.min())


def pack(name):
    source, out = os.path.join(SOURCE, "vlm", name), os.path.join(OUT, name)
    config = json.load(open(os.path.join(source, "config.json")))
    info = json.load(open(os.path.join(source, "golden.json")))
    processor = json.load(open(os.path.join(source, "preprocessor_config.json")))
    old = load_file(os.path.join(source, "golden.safetensors"))
    os.makedirs(out, exist_ok=True)
    for file in os.listdir(source):
        if not file.endswith(".safetensors") and file != "golden.json":
            shutil.copy(os.path.join(source, file), out)
    extra = make_vlm.qwen_extra if name.startswith("qwen") else lambda model, inputs: {}
    state = load_file(os.path.join(source, "model.safetensors"))
    best = None
    for seed in range(1, TRIES + 1):
        with tempfile.TemporaryDirectory() as made:
            for file in os.listdir(out):
                if file.endswith(".json"):
                    shutil.copy(os.path.join(out, file), made)
            save_file(weights.write(state, seed, made), os.path.join(made, "model.safetensors"), {"format": "pt"})
            description = open(os.path.join(made, "weights.json")).read()
            model = load(made, config["architectures"][0])
        tensors, margins, distinct = {}, [], []
        for c in info["cases"]:
            inputs = {k: old[f"{c['name']}.{k}"] for k in INPUTS if f"{c['name']}.{k}" in old}
            inputs = {k: v.long() if v.dtype == torch.int32 else v for k, v in inputs.items()}
            new, ids, margin = case(model, c["name"], CAPS[name], inputs, extra)
            tensors.update(new)
            margins.append(margin)
            distinct.append(len(set(ids.tolist())))
        score = (min(min(distinct), MIN_DISTINCT), min(margins))
        print(name, "seed", seed, "distinct", distinct, "margins", [f"{m:.1e}" for m in margins], flush=True)
        if best is None or score > best[0]:
            best = (score, description, tensors, margins)
        if min(margins) >= MIN_MARGIN and min(distinct) >= MIN_DISTINCT:
            break
    _, description, tensors, margins = best
    for c, margin in zip(info["cases"], margins):
        c["greedy"] = tensors[f"{c['name']}.greedy"].tolist()
        c["greedy_margin_min"] = margin
        for key in ("logits_std", "reference_prefill_vs_generate"):
            c.pop(key, None)
    for key, value in old.items():
        case_name, _, what = key.partition(".")
        if what in LEFT_OUT or key in tensors or what not in INPUTS:
            continue
        tensors[key] = to_bytes(value, processor) if what.startswith("pixel_values") else value
    for key in ("roundtrip", "second_implementation"):
        info.pop(key, None)
    info["comments"].append("Packed by tests/scripts/pack_vlm_goldens.py: weights by formula, pixels in 8 bits.")
    open(os.path.join(out, "weights.json"), "w").write(description)
    json.dump(info, open(os.path.join(out, "golden.json"), "w"), indent=1)
    save_file({k: v.to(torch.int32) if v.dtype == torch.int64 else v for k, v in tensors.items()},
              os.path.join(out, "golden.safetensors"))


for fixture in NAMES:
    pack(fixture)
