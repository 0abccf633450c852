"""Writes tests/golden/gguf: F32 GGUF files with the weights of fixtures in tests/golden/llm, laid out as
llama.cpp's converter (convert_hf_to_gguf.py) lays them out. `./mlx-run golden tests/golden/gguf` holds each to
the numbers of its twin.

    pip install numpy safetensors gguf [llama-cpp-python]
    python tests/scripts/make_gguf_twins.py [NAME ...]       # of FAMILIES below
    python tests/scripts/make_gguf_twins.py --check [NAME ...]  # greedy tokens of llama.cpp against the twin's
    python tests/scripts/make_gguf_twins.py --out DIR [NAME ...]  # elsewhere: FURTHER ones, too, which are not kept in
                                                                 # tests/golden for their size (tests/interop makes them)
"""
import json
import math
import sys
from pathlib import Path
from statistics import NormalDist

import gguf
import numpy as np
from safetensors.numpy import load_file

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
U64 = 2**64 - 1


def made(name, shape, mean, spread, seed):
    """The values of a weights.json entry (tests/golden/README.md)."""
    start = 0xCBF29CE484222325
    for byte in name.encode():
        start = ((start ^ byte) * 0x100000001B3) & U64
    with np.errstate(over="ignore"):
        z = np.uint64(start ^ seed) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    u = (z >> np.uint64(40)).astype(np.float64) / 2**24
    return (mean + spread * (2 * u - 1)).astype(np.float32).reshape(shape)


def checkpoint(folder):
    config = json.loads((folder / "config.json").read_text())
    weights = {}
    if (folder / "weights.json").exists():
        spec = json.loads((folder / "weights.json").read_text())
        for name, t in spec["tensors"].items():
            weights[name] = made(name, t["shape"], t["mean"], t["spread"], spec["seed"])
    for file in ("raw.safetensors", "model.safetensors"):
        if (folder / file).exists():
            weights.update(load_file(folder / file))
    return config, weights


def permuted(w, heads):
    """Rows of q or k for rotation in neighbouring pairs, as the converter of Llama writes them."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def permute_qk(c, weights):
    for name, w in weights.items():
        for part, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if f".self_attn.{part}." in name:
                weights[name] = permuted(w, c[heads])


def stack_experts(weights):
    """experts.E.gate_proj.weight -> experts.gate_proj.weight [E, ...]"""
    stacks = {}
    for name in [n for n in weights if ".experts." in n]:
        before, after = name.split(".experts.")
        expert, rest = after.split(".", 1)
        stacks.setdefault(f"{before}.experts.{rest}", {})[int(expert)] = weights.pop(name)
    for name, experts in stacks.items():
        weights[name] = np.stack([experts[i] for i in range(len(experts))])


# Of one family: what its converter does to config and weights beyond the common part. `w` is the GGUFWriter.


def llama(w, c, weights):
    permute_qk(c, weights)


def qwen3_moe(w, c, weights):
    w.add_expert_count(c["num_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    stack_experts(weights)


def internlm2(w, c, weights):
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    dim, per_group = c["hidden_size"] // heads, heads // kv
    for name in [n for n in weights if ".wqkv." in n]:
        grouped = weights.pop(name)
        grouped = grouped.reshape(kv, per_group + 2, dim, *grouped.shape[1:])
        parts = {"wq": grouped[:, :-2], "wk": grouped[:, -2], "wv": grouped[:, -1]}
        for part, rows in parts.items():
            rows = rows.reshape(-1, *grouped.shape[3:])
            if part != "wv":
                rows = permuted(rows, heads if part == "wq" else kv)
            weights[name.replace("wqkv", part)] = rows


def lfm2(w, c, weights):
    w.add_shortconv_l_cache(c["conv_L_cache"])
    w.add_head_count_kv([c["num_key_value_heads"] if t == "full_attention" else 0 for t in c["layer_types"]])
    ff = int(2 * c["block_ff_dim"] / 3 * c["block_ffn_dim_multiplier"])
    multiple = c["block_multiple_of"]
    w.add_feed_forward_length((ff + multiple - 1) // multiple * multiple)
    for name in weights:
        if name.endswith("conv.conv.weight"):
            weights[name] = weights[name].squeeze(1)


def deepseek_v3(w, c, weights):
    nope, rope, v, rank = (c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
    w.add_head_count_kv(1)  # every head attends to the latents
    w.add_key_length(rank + rope)
    w.add_value_length(rank)
    w.add_key_length_mla(nope + rope)
    w.add_value_length_mla(v)
    w.add_rope_dimension_count(rope)
    w.add_q_lora_rank(c["q_lora_rank"])
    w.add_kv_lora_rank(rank)
    w.add_leading_dense_block_count(c["first_k_dense_replace"])
    w.add_expert_count(c["n_routed_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_shared_count(c["n_shared_experts"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_expert_group_count(c["n_group"])
    w.add_expert_group_used_count(c["topk_group"])
    w.add_expert_weights_scale(c["routed_scaling_factor"])
    w.add_expert_weights_norm(c["norm_topk_prob"])
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    w.add_rope_scaling_yarn_log_mul(0.1 * c["rope_scaling"]["mscale_all_dim"])
    stack_experts(weights)
    for name in [n for n in weights if n.endswith("kv_b_proj.weight")]:
        heads = weights.pop(name).reshape(c["num_attention_heads"], nope + v, rank)
        weights[name.replace("kv_b_proj", "k_b_proj")] = heads[:, :nope].swapaxes(1, 2)
        weights[name.replace("kv_b_proj", "v_b_proj")] = heads[:, nope:]


def gemma(w, c, weights):
    for name in weights:
        if name.endswith("norm.weight"):
            weights[name] = weights[name] + 1


def scale_queries(c, weights, part):
    """llama.cpp divides by the root of head_dim."""
    factor = np.float32(math.sqrt(c["head_dim"] / c["query_pre_attn_scalar"]))
    for name in weights:
        if f".{part}." in name:
            weights[name] = weights[name] * factor


def gemma2(w, c, weights):
    w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
    w.add_final_logit_softcapping(c["final_logit_softcapping"])
    w.add_sliding_window(c["sliding_window"])
    scale_queries(c, weights, "q_proj")
    gemma(w, c, weights)


def gemma3(w, c, weights):
    w.add_sliding_window(c["sliding_window"])
    w.add_sliding_window_pattern([t == "sliding_attention" for t in layer_types(c)])
    w.add_key_value("gemma3.rope.freq_base_swa", float(c["rope_local_base_freq"]), gguf.GGUFValueType.FLOAT32)
    gemma(w, c, weights)
    scale_queries(c, weights, "q_norm")


def layer_types(c):
    period = c["sliding_window_pattern"]
    return c.get("layer_types") or ["sliding_attention" if i % period else "full_attention"
                                    for i in range(1, c["num_hidden_layers"] + 1)]


def openelm(w, c, weights):
    w.add_layer_norm_rms_eps(1e-6)
    w.add_head_count(c["num_query_heads"])
    w.add_head_count_kv(c["num_kv_heads"])
    gates = [n for n in weights if n.endswith("ffn.proj_1.weight")]
    w.add_feed_forward_length([weights[n].shape[0] // 2 for n in sorted(gates)])
    for name in gates:
        gate, up = np.split(weights.pop(name), 2)
        layer = name.split(".")[2]
        weights[f"blk.{layer}.ffn_gate.weight"] = gate
        weights[f"blk.{layer}.ffn_up.weight"] = up


def phi2(w, c, weights):
    w.add_rope_dimension_count(int(c["partial_rotary_factor"] * c["hidden_size"] / c["num_attention_heads"]))


def phi3(w, c, weights):
    scaling = c["rope_scaling"]
    original = c["original_max_position_embeddings"]
    w.add_rope_scaling_orig_ctx_len(original)
    w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(c["max_position_embeddings"] / original) / math.log(original)))
    for length in ("long", "short"):
        weights[f"rope_factors_{length}.weight"] = np.array(scaling[f"{length}_factor"], np.float32)


def phimoe(w, c, weights):
    w.add_rope_scaling_orig_ctx_len(c["original_max_position_embeddings"])
    # One factor there; the fixture's texts are all long.
    w.add_rope_scaling_attn_factors(c["rope_scaling"]["long_mscale"])
    for length in ("long", "short"):
        weights[f"rope_factors_{length}.weight"] = np.array(c["rope_scaling"][f"{length}_factor"], np.float32)
    w.add_expert_count(c["num_local_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    stack_experts(weights)


def bitnet(w, c, weights):
    """Ternary weights as the numbers that they stand for."""
    w.add_string("bitnet.hidden_activation", c["hidden_act"])
    for name in [n for n in weights if n.endswith("weight_scale")]:
        scale = weights.pop(name)
        name = name.removesuffix("_scale")
        packed = weights[name]
        weights[name] = np.concatenate([(packed >> 2 * i & 3).astype(np.float32) - 1 for i in range(4)]) * scale
    for name in [n for n in weights if "_sub_norm" in n]:
        layer, part = name.split(".")[2], name.split(".")[-2]
        weights[f"blk.{layer}.{part}.weight"] = weights.pop(name)


def gemma3n(w, c, weights):
    w.add_sliding_window(c["sliding_window"])
    w.add_sliding_window_pattern([t == "sliding_attention" for t in c["layer_types"]])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_key_value("gemma3n.rope.freq_base_swa", float(c["rope_local_base_freq"]), gguf.GGUFValueType.FLOAT32)
    w.add_final_logit_softcapping(c["final_logit_softcapping"])
    w.add_altup_active_idx(c["altup_active_idx"])
    w.add_altup_num_inputs(c["altup_num_inputs"])
    w.add_embedding_length_per_layer_input(c["hidden_size_per_layer_input"])
    w.add_shared_kv_layers(c["num_kv_shared_layers"])
    w.add_activation_sparsity_scale([NormalDist().inv_cdf(p) if p else -math.inf
                                     for p in c["activation_sparsity_pattern"]])
    for name in list(weights):
        weights[name.replace("model.language_model.", "model.")] = weights.pop(name)
    for stack in ("model.altup_projections", "model.altup_unembed_projections"):
        weights[f"{stack}.weight"] = np.stack([weights.pop(f"{stack}.{i}.weight") for i in range(c["altup_num_inputs"] - 1)])
    for name in [n for n in weights if n.endswith("_scale")]:
        weights[f"{name}.weight"] = weights.pop(name)


def cohere(w, c, weights):
    w.add_logit_scale(c["logit_scale"])


def granite(w, c, weights):
    w.add_attention_scale(c["attention_multiplier"])
    w.add_embedding_scale(c["embedding_multiplier"])
    w.add_residual_scale(c["residual_multiplier"])
    w.add_logit_scale(c["logits_scaling"])
    permute_qk(c, weights)


def glm4(w, c, weights):
    w.add_rope_dimension_count(int(c["partial_rotary_factor"] * c["head_dim"]))


def nothing(w, c, weights):
    pass


# Fixture -> architecture of llama.cpp, and the function above.
FAMILIES = {
    "deepseek_v3": ("deepseek2", deepseek_v3),
    "ernie4_5-plain": ("ernie4_5", nothing),
    "exaone4-full": ("exaone4", nothing),
    "internlm2": ("internlm2", internlm2),
    "lfm2": ("lfm2", lfm2),
    "llama": ("llama", llama),
    "qwen2": ("qwen2", nothing),
    "qwen3": ("qwen3", nothing),
    "qwen3_moe-sparse": ("qwen3moe", qwen3_moe),
    "smollm3-every4": ("smollm3", llama),
}

FURTHER = {
    "bitnet": ("bitnet", bitnet),
    "cohere": ("command-r", cohere),
    "gemma": ("gemma", gemma),
    "gemma2": ("gemma2", gemma2),
    "gemma3_text": ("gemma3", gemma3),
    "gemma3n": ("gemma3n", gemma3n),
    "glm4": ("glm4", glm4),
    "granite": ("granite", granite),
    "mistral": ("llama", llama),
    "openelm": ("openelm", openelm),
    "phi": ("phi2", phi2),
    "phi3": ("phi3", phi3),
    "phimoe": ("phimoe", phimoe),
    "starcoder2": ("starcoder2", nothing),
}


# What llama.cpp computes otherwise than the model's authors, or for other sizes alone: these fixtures' tokens
# are not its; make_llama_cpp_goldens.py changes them so that both compute the same.
NOT_ITS_TOKENS = {
    "bitnet": "it takes silu for squared ReLU",
    "gemma3n": "it has the published sizes in its code",
    "phimoe": "it norms by root mean square, and weighs experts by a softmax",
}


class Writer(gguf.GGUFWriter):
    """A family's own value of a key replaces the common one."""

    def add_key_value(self, key, val, vtype, sub_type=None):
        self.kv_data[0].pop(key, None)
        super().add_key_value(key, val, vtype, sub_type)


def llama3_factors(c, s):
    """Llama 3's scaling as factors of the wavelengths."""
    dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    wavelength = 2 * np.pi * c["rope_theta"] ** (np.arange(0, dim, 2) / dim)
    low, high = (s["original_max_position_embeddings"] / s[f"{x}_freq_factor"] for x in ("low", "high"))
    smooth = (s["original_max_position_embeddings"] / wavelength - s["low_freq_factor"]) / (
        s["high_freq_factor"] - s["low_freq_factor"])
    between = 1 / ((1 - smooth) / s["factor"] + smooth)
    return np.where(wavelength < high, 1.0, np.where(wavelength > low, s["factor"], between)).astype(np.float32)


def common(w, c, weights):
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c.get("intermediate_size", 4 * c["hidden_size"]))
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c.get("num_key_value_heads") or c["num_attention_heads"])
    if c.get("head_dim"):
        w.add_key_length(c["head_dim"])
        w.add_value_length(c["head_dim"])
    w.add_rope_dimension_count(c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"])
    for field in ("rms_norm_eps", "norm_eps"):
        if field in c:
            w.add_layer_norm_rms_eps(c[field])
    for field in ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"):
        if field in c:
            w.add_layer_norm_eps(c[field])
    if "rope_theta" in c:
        w.add_rope_freq_base(c["rope_theta"])
    scaling = c.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "llama3":
        weights["rope_freqs.weight"] = llama3_factors(c, scaling)
    if kind in ("yarn", "linear"):
        w.add_rope_scaling_type(gguf.RopeScalingType(kind))
        w.add_rope_scaling_factor(scaling["factor"])
        if kind == "yarn":
            w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    w.add_vocab_size(c["vocab_size"])
    w.add_tokenizer_model("none")


def write_file(path, name, c, weights):
    """A GGUF file of config.json's fields and the published tensors, of the family that the fixture `name` is of."""
    arch, finish = (FAMILIES | FURTHER)[name]
    c = c.get("text_config", c)
    if "model_dim" in c:  # OpenELM's names
        c |= {"hidden_size": c["model_dim"], "num_hidden_layers": c["num_transformer_layers"],
              "num_attention_heads": c["num_query_heads"][0], "num_key_value_heads": c["num_kv_heads"][0],
              "max_position_embeddings": c["max_context_length"], "rope_theta": c["rope_freq_constant"],
              "tie_word_embeddings": c["share_input_output_layers"]}
    path.parent.mkdir(exist_ok=True)
    w = Writer(path, arch)
    common(w, c, weights)
    finish(w, c, weights)
    names = gguf.get_tensor_name_map(next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == arch),
                                     c["num_hidden_layers"])
    if c.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    for published in sorted(weights):
        if published.startswith(("rope_f", "blk.")):
            target = published
        else:
            target = names.get_name(published.replace("e_score_correction_bias", "e_score_correction.bias"),
                                    try_suffixes=(".weight", ".bias"))
            if target is None:
                raise SystemExit(f"{name}: {arch} has no name for {published}")
        w.add_tensor(target, np.ascontiguousarray(weights[published].astype(np.float32)))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write_about(path, folder, name):
    """What golden-tool reads beside the file."""
    golden = json.loads((folder / "golden.json").read_text())
    arch = (FAMILIES | FURTHER)[name][0]
    about = {"model": f"llm/{folder.name}", "tolerance": golden["tolerance"],
             "comments": [f"the weights of llm/{folder.name} as a GGUF file of llama.cpp's architecture {arch}"]}
    path.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")


def write(name, out):
    folder = GOLDEN / "llm" / name
    write_file(out / f"{name}.gguf", name, *checkpoint(folder))
    write_about(out / f"{name}.gguf", folder, name)


def opened_by_llama_cpp(path):
    import llama_cpp

    return llama_cpp.Llama(str(path), n_ctx=256, n_threads=1, n_batch=64, logits_all=True, verbose=False,
                           flash_attn=False, type_k=0, type_v=0)


def scores_of(model, tokens):
    """[tokens, vocabulary]"""
    model.reset()
    model.eval([int(t) for t in tokens])
    return np.array(model.scores[: len(tokens)])


def check(name, out):
    """llama.cpp's greedy choice at every step, fed the reference's tokens."""
    if name in NOT_ITS_TOKENS:
        print(f"{name}: not llama.cpp's tokens: {NOT_ITS_TOKENS[name]}")
        return True
    golden = load_file(GOLDEN / "llm" / name / "golden.safetensors")
    abs_tolerance = json.loads((GOLDEN / "llm" / name / "golden.json").read_text())["tolerance"]["abs"]
    model = opened_by_llama_cpp(out / f"{name}.gguf")
    prompt, generated = golden["prompt"][0], golden["generated"]
    scores = scores_of(model, (*prompt, *generated[:-1]))[len(prompt) - 1 :]
    far = golden["generated_margin"] >= 1e-3
    same = scores.argmax(-1) == generated
    worst = np.abs(scores[0] - golden["prompt_last_logits"]).max()
    print(f"{name}: {int(same[far].sum())} of {int(far.sum())} greedy tokens as the twin's; "
          f"logits differ by {worst:.2g} (tolerance {abs_tolerance:.2g})")
    return bool(same[far].all())


def main():
    arguments = sys.argv[1:]
    out = GOLDEN / "gguf"
    if "--out" in arguments:
        at = arguments.index("--out")
        out = Path(arguments[at + 1])
        del arguments[at : at + 2]
    names = [a for a in arguments if not a.startswith("-")]
    names = names or sorted(FAMILIES if out == GOLDEN / "gguf" else FAMILIES | FURTHER)
    if "--check" in arguments:
        raise SystemExit(0 if all([check(n, out) for n in names]) else 1)
    for name in names:
        write(name, out)


if __name__ == "__main__":
    main()
