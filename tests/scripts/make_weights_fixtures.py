"""Writes tests/golden/weights: small files of every format that libraries/weights reads, made by the
formats' own Python libraries, and beside them expected.safetensors with what those libraries read.

    pip install numpy safetensors gguf
    python tests/scripts/make_weights_fixtures.py [FOLDER_OF_LLM_FIXTURES]

With the folder of golden language models, also gguf-names.json: per family the names that the gguf
package gives to the tensors of its fixture.
"""
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

OUT = Path(__file__).resolve().parents[1] / "golden" / "weights"
rng = np.random.default_rng(7)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def raw_safetensors(path, tensors, metadata=None):
    """Any dtype, which safetensors.numpy cannot: name -> (dtype, shape, bytes)."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, blob) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(blob)]}
        data += blob
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def bf16_bytes(x):
    return (x.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def fp8(byte, exponent):
    mantissa = 7 - exponent
    bias = 2 ** (exponent - 1) - 1
    e, m = (byte & 0x7F) >> mantissa, byte & (2**mantissa - 1)
    sign = -1.0 if byte & 0x80 else 1.0
    if exponent == 5 and e == 31:
        return sign * np.inf if m == 0 else np.nan
    if exponent == 4 and e == 15 and m == 7:
        return np.nan
    return sign * (m / 2**mantissa * 2.0 ** (1 - bias) if e == 0 else (1 + m / 2**mantissa) * 2.0 ** (e - bias))


def make_safetensors():
    folder = OUT / "safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    plain = {
        "f64": normal(2, 3).astype(np.float64), "f32": normal(3, 2), "f16": normal(5).astype(np.float16),
        "i64": np.array([-(2**62), 2**62]), "i32": np.array([[-5], [2**31 - 1]], np.int32),
        "i16": np.array([-3, 7], np.int16), "i8": np.arange(-4, 4, dtype=np.int8),
        "u64": np.array([2**64 - 1], np.uint64), "u32": np.array([2**32 - 1], np.uint32),
        "u16": np.array([65535, 1], np.uint16), "u8": np.arange(7, dtype=np.uint8),
        "bool": np.array([True, False, True]), "scalar": np.array(1.5, np.float32), "empty": np.zeros((0, 4), np.float32),
    }  # fmt: skip
    save_file(plain, folder / "dtypes.safetensors", metadata={"format": "pt", "note": "ü"})
    values = normal(4, 4)
    every_byte = bytes(range(256))
    # u8 of one byte first, so that what follows is misaligned.
    raw_safetensors(folder / "narrow.safetensors", {
        "one": ("U8", [1], b"\x2a"), "misaligned": ("F32", [4, 4], values.tobytes()),
        "bf16": ("BF16", [4, 4], bf16_bytes(values)), "e4m3": ("F8_E4M3", [256], every_byte),
        "e5m2": ("F8_E5M2", [16, 16], every_byte)})  # fmt: skip
    save_file({"misaligned": values, "bf16": (values.view(np.uint32) & 0xFFFF0000).view(np.float32),
               "e4m3": np.array([fp8(i, 4) for i in range(256)], np.float32),
               "e5m2": np.array([fp8(i, 5) for i in range(256)], np.float32).reshape(16, 16)},
              folder / "narrow-expected.safetensors")  # fmt: skip


def make_npz():
    folder = OUT / "npz"
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "f64": normal(2, 3).astype(np.float64), "f32": normal(3, 4, 2), "f16": normal(5).astype(np.float16),
        "i64": np.array([-(2**62), 5]), "i32": np.array([[1, 2]], np.int32), "i16": np.array([-3], np.int16),
        "i8": np.array([-3], np.int8), "u8": np.array([200], np.uint8), "u16": np.array([65535], np.uint16),
        "u32": np.array([2**32 - 1], np.uint32), "u64": np.array([2**64 - 1], np.uint64),
        "bool": np.array([True, False]), "scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 3), np.float32),
        "layer.0.weight": normal(3, 3),
    }  # fmt: skip
    fortran = {"fortran": np.asfortranarray(normal(3, 4, 5)), "fortran_i16": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3))}
    np.savez(folder / "stored.npz", **arrays, **fortran)
    np.savez_compressed(folder / "deflated.npz", **arrays, **fortran, zeros=np.zeros((64, 64), np.float32))
    save_file({k: np.ascontiguousarray(v).reshape(v.shape) for k, v in (arrays | fortran).items()}, folder / "expected.safetensors")
    np.save(folder / "array.npy", arrays["f32"])
    np.save(folder / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(folder / "big-endian.npy", np.array([1.0], ">f4"))


QUANTS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]


def blocks(kind, rows, cols):
    """Quantised rows: by the library where it can, else random bits with small scales."""
    qtype = gguf.GGMLQuantizationType[kind]
    try:
        return gguf.quantize(normal(rows, cols), qtype)
    except NotImplementedError:
        block, size = gguf.GGML_QUANT_SIZES[qtype]
        data = rng.integers(0, 256, (rows, cols // block, size), dtype=np.uint8)
        half = lambda: (rng.random((rows, cols // block, 1)).astype(np.float16) * 0.01).view(np.uint8)  # noqa: E731
        for at in {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0]}[kind]:
            data[:, :, at : at + 2] = half()
        return data.reshape(rows, -1)


def make_gguf_types():
    """Each tensor type once, and each metadata type."""
    folder = OUT / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    w = gguf.GGUFWriter(folder / "types.gguf", "llama")
    for kind, value in {"uint8": 200, "int8": -3, "uint16": 65535, "int16": -300, "uint32": 2**32 - 1, "int32": -(2**31),
                        "float32": 0.1, "uint64": 2**64 - 1, "int64": -(2**63), "float64": 0.1, "bool": True,
                        "string": "grüße"}.items():  # fmt: skip
        getattr(w, f"add_{kind}")(f"test.{kind}", value)
    w.add_array("test.texts", ["a", "", "日本"])
    w.add_array("test.ints", [1, -2, 3])
    w.add_array("test.floats", [0.5, 1.5])
    w.add_array("test.bools", [True, False])
    expected = {}
    for kind in QUANTS:
        data = blocks(kind, 3, 512)
        qtype = gguf.GGMLQuantizationType[kind]
        w.add_tensor(kind.lower(), data, raw_dtype=qtype)
        expected[kind.lower()] = gguf.dequantize(data, qtype)
    stack = blocks("Q8_0", 4, 64).reshape(2, 2, -1)
    w.add_tensor("experts", stack, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    expected["experts"] = gguf.dequantize(stack, gguf.GGMLQuantizationType.Q8_0)
    for name, x in {"f32": normal(2, 3), "f16": normal(4).astype(np.float16), "f64": normal(3).astype(np.float64),
                    "i8": np.array([-1, 2], np.int8), "i16": np.array([-300], np.int16), "i32": np.array([[7, 8]], np.int32),
                    "i64": np.array([2**40])}.items():  # fmt: skip
        w.add_tensor(name, x)
        expected[name] = x
    bf = normal(2, 4)
    w.add_tensor("bf16", np.frombuffer(bf16_bytes(bf), np.uint8).reshape(2, 8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    expected["bf16"] = (bf.view(np.uint32) & 0xFFFF0000).view(np.float32)
    write(w)
    save_file({k: np.ascontiguousarray(v) for k, v in expected.items()}, folder / "types-expected.safetensors")


def make_gguf_ternary():
    """Ternary blocks: numbers that the package quantised, then any bytes. Twice a scale is an f16, too."""
    folder, own = OUT / "gguf", np.random.default_rng(11)
    w, expected = gguf.GGUFWriter(folder / "ternary.gguf", "llama"), {}
    for kind in ["TQ1_0", "TQ2_0"]:
        qtype = gguf.GGMLQuantizationType[kind]
        size = gguf.GGML_QUANT_SIZES[qtype][1]
        data = gguf.quantize(own.standard_normal((2, 512)).astype(np.float32), qtype).reshape(2, 2, size)
        noise = own.integers(0, 256, (1, 2, size), dtype=np.uint8)
        noise[:, :, size - 2 :] = own.standard_normal((1, 2, 1)).astype(np.float16).view(np.uint8)
        data = np.concatenate([data, noise]).reshape(3, -1)
        w.add_tensor(kind.lower(), data, raw_dtype=qtype)
        expected[kind.lower()] = gguf.dequantize(data, qtype).astype(np.float16)
        assert np.array_equal(expected[kind.lower()], gguf.dequantize(data, qtype))
    write(w)
    save_file(expected, folder / "ternary-expected.safetensors")


def write(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def make_split():
    """A llama of two layers in three parts."""
    folder = OUT / "gguf"
    w = gguf.GGUFWriter(folder / "split.gguf", "llama", split_max_tensors=8)
    llama(w)
    write(w)


def llama(w, hidden=32, heads=4, kv=2, ff=64, layers=2, vocab=48):
    w.add_block_count(layers)
    w.add_context_length(128)
    w.add_embedding_length(hidden)
    w.add_feed_forward_length(ff)
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(50000.0)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    q8 = lambda name, rows, cols: w.add_tensor(name, blocks("Q8_0", rows, cols), raw_dtype=gguf.GGMLQuantizationType.Q8_0)  # noqa: E731
    w.add_tensor("token_embd.weight", normal(vocab, hidden))
    w.add_tensor("output_norm.weight", normal(hidden))
    w.add_tensor("rope_freqs.weight", np.linspace(1, 8, hidden // heads // 2, dtype=np.float32))
    d = hidden // heads
    for i in range(layers):
        for name, rows, cols in [("attn_q", hidden, hidden), ("attn_k", kv * d, hidden), ("attn_v", kv * d, hidden),
                                 ("attn_output", hidden, hidden), ("ffn_gate", ff, hidden), ("ffn_up", ff, hidden),
                                 ("ffn_down", hidden, ff)]:  # fmt: skip
            q8(f"blk.{i}.{name}.weight", rows, cols)
        w.add_tensor(f"blk.{i}.attn_norm.weight", normal(hidden))
        w.add_tensor(f"blk.{i}.ffn_norm.weight", normal(hidden))


def make_made():
    """weights.json: the formula in numpy."""
    folder = OUT / "made"
    folder.mkdir(parents=True, exist_ok=True)
    seed, tensors, expected = 85593, {}, {}
    for name, dtype, shape, mean, spread in [("a.weight", "F32", [5, 7], 0.0047867, 0.64515), ("größe", "F16", [3], 1.0381, 0.32541),
                                             ("b", "BF16", [4, 1, 9], -0.0084437, 1.7298), ("c", "F32", [], 0.5, 0.25)]:  # fmt: skip
        tensors[name] = {"dtype": dtype, "shape": shape, "mean": mean, "spread": spread}
        h = 0xCBF29CE484222325
        for b in name.encode():
            h = ((h ^ b) * 0x100000001B3) % 2**64
        x = []
        for i in range(int(np.prod(shape, dtype=int))):
            z = ((h ^ seed) + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
            z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) % 2**64
            z = ((z ^ z >> 27) * 0x94D049BB133111EB) % 2**64
            z ^= z >> 31
            x.append(mean + spread * (2 * (z >> 40) / 2**24 - 1))
        x = np.array(x, np.float64).astype(np.float32).reshape(shape)
        if dtype == "F16":
            x = x.astype(np.float16).astype(np.float32)
        if dtype == "BF16":
            bits = x.view(np.uint32).astype(np.uint64)
            x = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
        expected[name] = x
    (folder / "weights.json").write_text(json.dumps({"seed": seed, "tensors": tensors}))
    save_file({"ids": np.array([3, 1, 2], np.int32)}, folder / "raw.safetensors")
    save_file(expected, folder / "expected.safetensors")


FAMILIES = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "phi3": "phi3", "gemma": "gemma", "gemma2": "gemma2",
    "gemma3": "gemma3_text", "starcoder2": "starcoder2", "command-r": "cohere-qknorm", "cohere2": "cohere2",
    "olmo2": "olmo2", "granite": "granite", "glm4": "glm4", "exaone4": "exaone4", "lfm2": "lfm2", "smollm3": "smollm3",
    "ernie4_5": "ernie4_5", "phi2": "phi", "stablelm": "stablelm", "minicpm": "minicpm", "hunyuan-dense": "hunyuan_v1_dense",
    "seed_oss": "seed_oss", "qwen3moe": "qwen3_moe", "qwen2moe": "qwen2_moe", "olmoe": "olmoe",
}  # fmt: skip


def make_names(fixtures):
    arches = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    out = {}
    for family, fixture in FAMILIES.items():
        names = gguf.get_tensor_name_map(arches[family], 8)
        described = json.loads((fixtures / fixture / "weights.json").read_text())["tensors"]
        out[family] = {}
        for published in described:
            if ".experts." in published:  # stacked in GGUF
                continue
            if found := names.get_name(published, (".weight", ".bias")):
                out[family][found] = published
    (OUT / "gguf-names.json").write_text(json.dumps(out, indent=0))


make_safetensors()
make_npz()
make_gguf_types()
make_gguf_ternary()
make_split()
make_made()
if len(sys.argv) > 1:
    make_names(Path(sys.argv[1]))
