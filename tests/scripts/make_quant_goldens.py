#!/usr/bin/env python3
"""Writes tests/golden/kernels/gguf_types.safetensors: for each GGUF block type random bytes
(`TYPE.bytes`, uint8 [rows, row bytes]) and what the `gguf` package makes of them (`TYPE.values`,
float32 [rows, cols]). Needs numpy, gguf and safetensors."""

import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

ROWS, COLS = 2, 512
# Offsets of the f16 scales in a block; random bits there could be infinite or NaN.
SCALES = {
    "q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q8_0": [0], "q2_k": [80, 82],
    "q3_k": [108], "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208], "iq4_nl": [0],
}

rng = np.random.default_rng(1)
tensors = {}
for name, offsets in SCALES.items():
    kind = gguf.GGMLQuantizationType[name.upper()]
    length, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * COLS // length, size), dtype=np.uint8)
    for at in offsets:
        scale = rng.normal(0, 0.01, (len(blocks), 1)).astype(np.float16)
        scale[-1] = np.float16(3e-6)  # a subnormal one
        blocks[:, at : at + 2] = scale.view(np.uint8)
    data = blocks.reshape(ROWS, -1)
    tensors[f"{name}.bytes"] = data
    tensors[f"{name}.values"] = gguf.quants.dequantize(data, kind)

out = pathlib.Path(__file__).parent.parent / "golden/kernels/gguf_types.safetensors"
out.parent.mkdir(parents=True, exist_ok=True)
save_file(tensors, out)
