"""Adapters made with PEFT, as golden fixtures for `./mlx-run golden`.

    pip install peft==0.21.* torch==2.15.* transformers==5.23.* safetensors numpy
    python tests/scripts/make_peft_goldens.py          # writes tests/golden/llm/llama-peft*

Each lies on the fixture llm/llama, whose weights follow from weights.json by the formula in tests/golden/README.md.
"""

import json
import pathlib

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file

LLM = pathlib.Path(__file__).resolve().parent.parent / "golden" / "llm"
BASE = LLM / "llama"
MASK = (1 << 64) - 1


def made(name, seed, shape, mean, spread):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        i = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
        z = np.uint64(h ^ seed) + i * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) / 2.0**24
    return (mean + spread * (2 * u - 1)).astype(np.float32).reshape(shape)


def base_model():
    config = transformers.AutoConfig.from_pretrained(BASE)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    spec = json.loads((BASE / "weights.json").read_text())
    tensors = {
        name: torch.from_numpy(made(name, spec["seed"], t["shape"], t["mean"], t["spread"]))
        for name, t in spec["tensors"].items()
    }
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and all(k == "lm_head.weight" for k in missing), (missing, unexpected)
    model.tie_weights()
    return model


CASES = {
    "llama-peft": dict(
        r=4, lora_alpha=12, target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"layers.1.self_attn.q_proj": 6}, alpha_pattern={"down_proj": 5}, use_rslora=True),
    "llama-peft-dora": dict(r=4, lora_alpha=8, target_modules=["k_proj", "o_proj", "up_proj"], use_dora=True),
    "llama-peft-embed": dict(r=3, lora_alpha=6, target_modules=["embed_tokens", "v_proj"], modules_to_save=["norm"]),
}


def write(name, options):
    torch.manual_seed(sum(name.encode()))
    model = base_model()
    vocab = model.config.vocab_size
    ids = torch.randint(1, vocab, (2, 24))
    prompt = torch.randint(1, vocab, (1, 40))
    with torch.no_grad():
        base = model(ids).logits
        peft = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.1, **options)).eval()
        for key, p in peft.named_parameters():
            if "lora_magnitude" in key:
                p.mul_(1 + 0.2 * torch.rand_like(p))
            elif "lora_B" in key or "lora_embedding_A" in key:
                p.copy_(0.3 * torch.randn_like(p))
            elif "modules_to_save" in key:
                p.mul_(1.1)
        logits = peft(ids).logits
        row, tokens, margins, last = prompt, [], [], None
        for _ in range(32):
            step = peft(row).logits[0, -1]
            last = step if last is None else last
            top = step.topk(2)
            tokens.append(int(top.indices[0]))
            margins.append(float(top.values[0] - top.values[1]))
            row = torch.cat([row, torch.tensor([[tokens[-1]]])], 1)
        folder = LLM / name
        peft.save_pretrained(folder / "adapter")
        fused = peft.merge_and_unload()(ids).logits
    for extra in ("README.md",):
        (folder / "adapter" / extra).unlink(missing_ok=True)
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "llama"
    config["target_modules"] = sorted(config["target_modules"])
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    arrays = {
        "input_ids": ids.int(), "prompt": prompt.int(), "generated": torch.tensor(tokens, dtype=torch.int32),
        "generated_margin": torch.tensor(margins), "prompt_last_logits": last, "logits": logits,
        "logits_base": base, "logits_fused": fused,
    }
    save_file({k: v.contiguous().numpy() for k, v in arrays.items()}, folder / "golden.safetensors")
    import peft as package
    info = {
        "name": name, "base": "llama", "adapter": "adapter", "tolerance": {"abs": 1e-3, "rel": 1e-3},
        "adapter_changes": float((logits - base).abs().max()), "fusing_changes": float((fused - logits).abs().max()),
        "reference": f"peft {package.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
    }
    (folder / "golden.json").write_text(json.dumps(info, indent=2) + "\n")
    print(name, info["adapter_changes"], info["fusing_changes"])


torch.set_num_threads(1)
for case, settings in CASES.items():
    write(case, settings)
