"""Writes the seeds of the fuzz targets for weights: fuzz/corpus/{config,gguf,npz,safetensors}.

    pip install numpy safetensors gguf
    python fuzz/make_corpus.py
"""
import io
import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save

OUT = Path(__file__).resolve().parent / "corpus"


def put(kind, name, data):
    (OUT / kind).mkdir(parents=True, exist_ok=True)
    (OUT / kind / name).write_bytes(data)


def npz(compressed, **arrays):
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, **arrays)
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


x = np.arange(6, dtype=np.float32).reshape(2, 3)
put("safetensors", "small", save({"a": x, "b": x.astype(np.float16)}, metadata={"format": "pt"}))
put("safetensors", "kinds", save({k: np.ones(2, k) for k in ("f8", "i8", "u4", "i2", "u1", "?")}))
header = {"s": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}, "e": {"dtype": "BF16", "shape": [0], "data_offsets": [2, 2]}}
put("safetensors", "fp8", len(json.dumps(header)).to_bytes(8, "little") + json.dumps(header).encode() + b"\x38\xff")
put("npz", "stored", npz(False, a=x))
put("npz", "deflated", npz(True, a=x, b=np.asfortranarray(x)))
put("npz", "array", npy(x))
put("npz", "fortran", npy(np.asfortranarray(np.arange(8, dtype=np.int16).reshape(2, 2, 2))))
# Configurations of families that differ in their keys, each with what its reader asks for.
GOLDEN = OUT.parent.parent / "tests" / "golden" / "llm"
BOOKKEEPING = {"architectures", "attention_dropout", "attn_implementation", "bos_token_id", "cache_implementation", "initializer_range",
    "pad_token_id", "pretraining_tp", "torch_dtype", "use_cache", "vision_config"}  # fmt: skip


def minimal(config):
    twice = {"quantization_config"} if "quantization" in config else set()
    kept = {k: v for k, v in config.items() if v is not None and k not in BOOKKEEPING | twice}
    return {k: minimal(v) if isinstance(v, dict) else v for k, v in kept.items()}


for family in ("bitnet", "deepseek_v3", "gemma3", "gemma3n", "internlm2-dynamic", "lfm2", "llama-mixed", "openelm", "phi3", "qwen3-yarn", "qwen3_moe-q4"):
    put("config", family, json.dumps(minimal(json.loads((GOLDEN / family / "config.json").read_text())), separators=(",", ":")).encode())
put("config", "generation", b'{"model_type": "llama", "eos_token_id": [1, 2]}\0{"eos_token_id": [1, 2]}')
put("config", "quantized", b'{"hidden_size": 64.0, "quantization": {"group_size": 64, "bits": 4, "mode": "affine", "lm_head": false, '
    b'"model.embed_tokens": {"group_size": 32, "bits": 8}, "a": {"mode": "mxfp4"}}}')  # fmt: skip
put("config", "method", b'{"quantization_config": {"quant_method": "gptq", "bits": 4}}')

for arch in ("llama", "gemma3", "phi3", "bitnet"):
    path = OUT / "gguf" / arch
    path.parent.mkdir(parents=True, exist_ok=True)
    w = gguf.GGUFWriter(path, arch)
    w.add_block_count(1)
    w.add_context_length(64)
    w.add_embedding_length(32)
    w.add_feed_forward_length(32)
    w.add_head_count(4)
    w.add_head_count_kv(2)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(4)
    w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    w.add_rope_scaling_factor(2.0)
    w.add_array("tokenizer.ggml.tokens", ["a", "b"])
    w.add_array("tokenizer.ggml.scores", [0.0, -1.0])
    w.add_bool("tokenizer.ggml.add_bos_token", True)
    w.add_tensor("token_embd.weight", np.zeros((2, 34), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.add_tensor("output_norm.weight", np.ones(32, np.float32))
    w.add_tensor("blk.0.attn_q.weight", np.zeros((2, 18), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    if arch == "phi3":
        w.add_uint32("phi3.rope.scaling.original_context_length", 32)
        for name in ("long", "short"):
            w.add_tensor(f"rope_factors_{name}.weight", np.ones(2, np.float32))
    if arch == "bitnet":  # a block of 256 weights is a row
        w.add_tensor("blk.0.attn_k.weight", np.zeros((4, 54), np.uint8), raw_dtype=gguf.GGMLQuantizationType.TQ1_0)
        w.add_tensor("blk.0.attn_v.weight", np.zeros((4, 66), np.uint8), raw_dtype=gguf.GGMLQuantizationType.TQ2_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
