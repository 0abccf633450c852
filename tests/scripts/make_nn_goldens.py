#!/usr/bin/env python3
"""Writes tests/golden/nn: what Python's mlx.nn and transformers say about layers and RoPE.

    pip install "mlx[cpu]==0.32.4" mlx-lm==0.32.2 transformers==5.23.* numpy
    python tests/scripts/make_nn_goldens.py

layers.safetensors  NAME/x (NAME/x1, ... with several inputs), NAME/param/PATH, NAME/y
rope.json           a list of {name, config, head_dim, length, inv_freq, scale}; the numbers come from
                    transformers' own functions, run on a few lines of numpy that stand in for torch
"""

import json
import pathlib
import types

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models.switch_layers import SwitchGLU, SwitchLinear

OUT = pathlib.Path(__file__).resolve().parent.parent / "golden" / "nn"


# ---- layers

arrays = {}


def spread(shape):
    return mx.random.uniform(-1.5, 1.5, shape)


def randomise(module):
    """Weights that no initial value has, so that a layer that ignores one is found out."""
    for path, value in tree_flatten(module.parameters()):
        new = spread(value.shape) if "running_var" not in path else mx.random.uniform(0.5, 2, value.shape)
        module.load_weights([(path, new)], strict=False)


def case(name, module, *inputs, call=None):
    randomise(module)
    for path, value in tree_flatten(module.parameters()):
        arrays[f"{name}/param/{path}"] = value
    y = (call or module)(*inputs)
    for i, x in enumerate(inputs):
        arrays[f"{name}/x" if len(inputs) == 1 else f"{name}/x{i + 1}"] = x
    arrays[f"{name}/y"] = y


def layers():
    mx.random.seed(7)
    case("linear", nn.Linear(5, 3), spread((2, 4, 5)))
    case("bilinear", nn.Bilinear(3, 4, 5), spread((2, 3)), spread((2, 4)))
    case("embedding", nn.Embedding(7, 4), mx.array([[0, 6], [3, 3]]))
    case("rms_norm", nn.RMSNorm(6, eps=1e-3), spread((3, 6)))
    case("layer_norm", nn.LayerNorm(6, eps=1e-3), spread((2, 3, 6)))
    case("layer_norm_no_bias", nn.LayerNorm(6, bias=False), spread((2, 3, 6)))
    case("layer_norm_plain", nn.LayerNorm(6, affine=False), spread((2, 3, 6)))
    case("group_norm", nn.GroupNorm(3, 6, eps=1e-3), spread((2, 4, 5, 6)))
    case("group_norm_pytorch", nn.GroupNorm(3, 6, pytorch_compatible=True), spread((2, 4, 5, 6)))
    case("group_norm_plain", nn.GroupNorm(2, 6, affine=False, pytorch_compatible=True), spread((2, 5, 6)))
    case("instance_norm", nn.InstanceNorm(4, affine=True), spread((2, 3, 5, 4)))
    case("instance_norm_plain", nn.InstanceNorm(4), spread((2, 6, 4)))
    batch_norm = nn.BatchNorm(4).eval()
    case("batch_norm_eval", batch_norm, spread((2, 6, 4)))
    case("conv1d", nn.Conv1d(3, 4, 3), spread((2, 7, 3)))
    case("conv1d_options", nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, bias=False), spread((2, 9, 4)))
    case("conv1d_depthwise", nn.Conv1d(5, 5, 4, padding=3, groups=5), spread((1, 6, 5)))
    case("conv2d", nn.Conv2d(3, 4, (2, 3), stride=(1, 2), padding=(1, 0)), spread((2, 5, 6, 3)))
    case("conv2d_grouped", nn.Conv2d(4, 6, 3, padding=1, groups=2), spread((1, 4, 5, 4)))
    case("conv2d_dilated", nn.Conv2d(2, 3, 2, dilation=(2, 3)), spread((1, 6, 7, 2)))
    case("conv3d", nn.Conv3d(2, 3, (2, 1, 3), stride=2, padding=1), spread((1, 4, 3, 5, 2)))
    case("conv_transpose1d", nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), spread((2, 5, 3)))
    case("conv_transpose2d", nn.ConvTranspose2d(3, 2, (3, 2), stride=(2, 1), padding=(1, 0)), spread((1, 3, 4, 3)))
    case("conv_transpose2d_dilated", nn.ConvTranspose2d(2, 3, 2, stride=2, dilation=2), spread((1, 3, 3, 2)))
    case("conv_transpose3d", nn.ConvTranspose3d(2, 3, 2, stride=2), spread((1, 2, 2, 3, 2)))
    case("max_pool1d", nn.MaxPool1d(3, 2, 1), spread((2, 8, 3)) - 2)
    case("max_pool2d", nn.MaxPool2d(2), spread((2, 5, 6, 3)))
    case("max_pool2d_overlap", nn.MaxPool2d((3, 2), (2, 1), (1, 1)), spread((1, 6, 5, 2)) - 2)
    case("max_pool3d", nn.MaxPool3d(2, 1), spread((1, 3, 3, 4, 2)))
    case("avg_pool1d", nn.AvgPool1d(3), spread((2, 9, 3)))
    case("avg_pool2d", nn.AvgPool2d(3, 2, 1), spread((1, 6, 5, 2)))
    case("avg_pool3d", nn.AvgPool3d((1, 2, 2)), spread((1, 3, 4, 4, 2)))
    case("attention", nn.MultiHeadAttention(8, 2, bias=True), spread((2, 3, 8)), spread((2, 5, 8)), spread((2, 5, 8)))
    widths = dict(query_input_dims=6, key_input_dims=5, value_input_dims=4, value_dims=12, value_output_dims=3)
    case("attention_widths", nn.MultiHeadAttention(8, 2, **widths), spread((1, 3, 6)), spread((1, 4, 5)), spread((1, 4, 4)))
    causal = nn.MultiHeadAttention.create_additive_causal_mask(4)
    attention = nn.MultiHeadAttention(8, 4)
    x = spread((2, 4, 8))
    case("attention_causal", attention, x, call=lambda x: attention(x, x, x, causal))
    few = mx.array([[0, 3], [2, 1], [3, 3]])
    many = mx.random.randint(0, 4, (2, 20, 2))
    case("switch_linear", SwitchLinear(4, 3, 5, bias=True), spread((6, 1, 4)), mx.array([4, 0, 0, 2, 1, 4]))
    case("switch_glu_few", SwitchGLU(6, 5, 4), spread((3, 6)), few)
    case("switch_glu_many", SwitchGLU(6, 5, 4, bias=True), spread((2, 20, 6)), many)

    x = mx.concatenate([spread((5, 6)) * 3, mx.array([[0.0, -100, 100, 0.5, -0.5, 3]])])
    arrays["activations/x"] = x
    for name, module in {
        "relu": nn.ReLU(), "relu2": nn.ReLU2(), "relu6": nn.ReLU6(), "leaky_relu": nn.LeakyReLU(0.3), "elu": nn.ELU(0.7),
        "selu": nn.SELU(), "celu": nn.CELU(0.7), "silu": nn.SiLU(), "gelu": nn.GELU(), "gelu_approx": nn.GELU("tanh"),
        "gelu_fast_approx": nn.GELU("fast"), "mish": nn.Mish(), "hardswish": nn.Hardswish(), "hard_tanh": nn.HardTanh(),
        "hard_shrink": nn.HardShrink(0.8), "softshrink": nn.Softshrink(0.8), "softplus": nn.Softplus(), "softsign": nn.Softsign(),
        "sigmoid": nn.Sigmoid(), "log_sigmoid": nn.LogSigmoid(), "tanh": nn.Tanh(), "step": nn.Step(0.2), "softmax": nn.Softmax(),
        "log_softmax": nn.LogSoftmax(), "softmin": nn.Softmin(), "glu": nn.GLU(), "prelu": nn.PReLU(6),
    }.items():
        if name == "prelu":
            module.weight = mx.arange(6) / 10
        arrays[f"activations/{name}"] = module(x).astype(mx.float32)
    mx.save_safetensors(str(OUT / "layers.safetensors"), arrays)


# ---- rope

class Numbers(np.ndarray):
    def to(self, device=None, dtype=None):
        return self if dtype is None else self.astype(dtype)

    def float(self):
        return self.astype(np.float32)


def numbers(value):
    return np.asarray(value).view(Numbers)


# What modeling_rope_utils.py uses of torch. float is float64 here, so that the golden numbers are exact to the last digit
# of float32.
torch = types.SimpleNamespace(
    int64=np.int64, float=np.float64, float32=np.float64, Tensor=Numbers, device=object,
    arange=lambda *a, dtype=np.int64, device=None: numbers(np.arange(*a, dtype=dtype)),
    tensor=lambda v, dtype=None, device=None: numbers(np.array(v, dtype=np.float64)),
    zeros=lambda n, dtype=None, device=None: numbers(np.zeros(n)),
    cat=lambda parts, dim=0: numbers(np.concatenate(parts, axis=dim)),
    where=lambda c, a, b: numbers(np.where(c, a, b)),
    clamp=lambda a, low, high: numbers(np.clip(a, low, high)),
)

SHORT = [1.0, 1.08, 1.17, 1.26, 1.34, 1.43, 1.51, 1.6]
LONG = [1.1, 1.8, 2.5, 3.2, 3.9, 4.6, 5.3, 6.0]
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}

# name -> config, head_dim, lengths
ROPE = {
    "default": ({"rope_theta": 1e6, "rope_scaling": None}, 16, [1]),
    "default without a theta": ({}, 16, [1]),
    "default in rope_parameters": ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, 16, [1]),
    "partial": ({"rope_theta": 1e4, "partial_rotary_factor": 0.25}, 64, [1]),
    "partial in rope_parameters": ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}, 32, [1]),
    "linear": ({"rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 8.0}}, 16, [1]),
    "dynamic": ({"rope_theta": 1e4, "max_position_embeddings": 16, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, 16, [4, 16, 17, 100]),
    "llama3": ({"rope_theta": 5e5, "max_position_embeddings": 512, "rope_scaling": LLAMA3}, 64, [1]),
    "yarn": ({"rope_theta": 1e6, "max_position_embeddings": 512, "rope_scaling": YARN}, 64, [1]),
    "yarn without truncation": ({"rope_theta": 1.5e5, "rope_scaling": YARN | {"factor": 32.0, "truncate": False, "beta_fast": 32.0, "beta_slow": 1.0}}, 64, [1]),
    "yarn with mscale": ({"rope_theta": 1e4, "rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 1.3}}, 32, [1]),
    "yarn with one mscale": ({"rope_theta": 1e4, "rope_scaling": YARN | {"mscale": 0.707}}, 32, [1]),
    "yarn with attention_factor": ({"rope_theta": 1e4, "rope_scaling": YARN | {"attention_factor": 1.3, "beta_fast": 16.0, "beta_slow": 2.0}}, 32, [1]),
    "yarn, partial": ({"rope_theta": 1e4, "partial_rotary_factor": 0.5, "rope_scaling": YARN}, 64, [1]),
    "yarn, factor from the lengths": ({"rope_theta": 1e4, "max_position_embeddings": 1024, "rope_parameters": YARN | {"rope_theta": 1e4, "factor": None}}, 32, [1]),
    "longrope": ({"rope_theta": 1e4, "max_position_embeddings": 512, "original_max_position_embeddings": 32, "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG}}, 16, [1, 32, 33]),
    "longrope with attention_factor": ({"rope_theta": 1e4, "max_position_embeddings": 512, "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG, "original_max_position_embeddings": 32, "attention_factor": 1.4}}, 16, [32, 33]),
    "longrope with factor": ({"rope_theta": 1e4, "max_position_embeddings": 512, "rope_scaling": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "original_max_position_embeddings": 32, "factor": 4.0}}, 16, [33]),
    "proportional": ({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25}}, 64, [1]),
    "proportional with factor": ({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.5, "factor": 8.0}}, 32, [1]),
    "mrope": ({"rope_theta": 1e6, "rope_scaling": {"type": "default", "mrope_section": [2, 3, 3]}}, 16, [1]),
}


def rope():
    from transformers import LlamaConfig, modeling_rope_utils as reference

    reference.torch = torch
    out = []
    for name, (config, head_dim, lengths) in ROPE.items():
        c = LlamaConfig.from_dict(dict(json.loads(json.dumps(config)), head_dim=head_dim, hidden_size=4 * head_dim, num_attention_heads=4))
        c.standardize_rope_params()
        kind = c.rope_parameters["rope_type"]
        for length in lengths:
            if kind == "default":
                dim = int(head_dim * c.rope_parameters.get("partial_rotary_factor", 1.0))
                inv_freq, scale = c.rope_parameters["rope_theta"] ** -(np.arange(0, dim, 2) / dim), 1.0
            else:
                inv_freq, scale = reference.ROPE_INIT_FUNCTIONS[kind](c, None, seq_len=length)
            out.append({"name": name, "config": config, "head_dim": head_dim, "length": length,
                        "inv_freq": [float(f"{v:.9g}") for v in inv_freq], "scale": float(f"{scale:.9g}")})
    # Types that models define for themselves: Hunyuan's alpha, Phi-3.5-MoE's scales.
    dim, alpha = 16, 100.0
    base = 1e4 * alpha ** (dim / (dim - 2))
    out.append({"name": "dynamic with alpha", "config": {"rope_theta": 1e4, "max_position_embeddings": 512, "rope_scaling": {"type": "dynamic", "alpha": alpha, "factor": 1.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.0}},
                "head_dim": dim, "length": 1000, "inv_freq": [float(f"{base ** -(i / dim):.9g}") for i in range(0, dim, 2)], "scale": 1.0})
    for length, factors, scale in ((32, SHORT, 1.1), (33, LONG, 1.25)):
        out.append({"name": "longrope with short_mscale", "head_dim": 16, "length": length,
                    "config": {"rope_theta": 1e4, "max_position_embeddings": 512, "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG, "short_mscale": 1.1, "long_mscale": 1.25, "original_max_position_embeddings": 32}},
                    "inv_freq": [float(f"{1 / (f * 1e4 ** (2 * i / 16)):.9g}") for i, f in enumerate(factors)], "scale": scale})
    lines = ",\n".join(json.dumps(entry) for entry in out)
    (OUT / "rope.json").write_text(f"[\n{lines}\n]\n")


OUT.mkdir(parents=True, exist_ok=True)
layers()
rope()
