"""The measured side of bench_vlm for transformers on torch, and Pillow.

usage: python vision_peer.py DTYPE THREADS    (then a request a line, see benchmarks/support/child.h)
"""
import json
import resource
import sys
import time


def answer(**fields):
    print(json.dumps(fields), flush=True)


try:
    import numpy
    import timm
    import torch
    from PIL import Image
    from transformers import Gemma3nAudioConfig, Gemma3nAudioEncoder, SiglipVisionConfig, SiglipVisionModel
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel
except ImportError as e:
    answer(error=f"the peer needs transformers, timm, torch and Pillow: {e}")
    sys.exit(1)

dtype = getattr(torch, sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
models = {}


def siglip():
    if "siglip" not in models:
        config = SiglipVisionConfig(hidden_size=1152, intermediate_size=4304, num_hidden_layers=27,
                                    num_attention_heads=16, image_size=896, patch_size=14, vision_use_head=False)
        models["siglip"] = SiglipVisionModel._from_config(config, dtype=dtype, attn_implementation="sdpa").eval()
    return models["siglip"]


def qwen():
    if "qwen" not in models:
        config = Qwen2_5_VLVisionConfig(depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16,
                                        out_hidden_size=2048, window_size=112, fullatt_block_indexes=[7, 15, 23, 31])
        models["qwen"] = Qwen2_5_VisionTransformerPretrainedModel._from_config(
            config, dtype=dtype, attn_implementation="sdpa").eval()
    return models["qwen"]


def mobilenet():
    if "mobilenet" not in models:
        models["mobilenet"] = timm.create_model("mobilenetv5_300m_enc").eval().to(dtype)
    return models["mobilenet"]


def conformer():
    if "conformer" not in models:
        models["conformer"] = Gemma3nAudioEncoder(Gemma3nAudioConfig()).eval().to(dtype)
    return models["conformer"]


def seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


@torch.no_grad()
def measure(request):
    if request == "siglip_896":
        model, pixels = siglip(), torch.randn(1, 3, 896, 896, dtype=dtype)
        return seconds(lambda: model(pixel_values=pixels))
    if request == "mobilenetv5_768":
        model, pixels = mobilenet(), torch.randn(1, 3, 768, 768, dtype=dtype)
        return seconds(lambda: model(pixels))
    if request == "sound_10s":
        model, features = conformer(), torch.randn(1, 997, 128, dtype=dtype)
        padding = torch.zeros(1, 997, dtype=torch.bool)
        return seconds(lambda: model(features, padding))
    if request == "qwen2_5_vl_1024":
        model, side = qwen(), 74
        patches, grid = torch.randn(side * side, 1176, dtype=dtype), torch.tensor([[1, side, side]])
        return seconds(lambda: model(patches, grid_thw=grid))
    if request == "resize":
        times = 8
        picture = Image.fromarray(numpy.random.default_rng(1).integers(0, 256, (1536, 2048, 3), dtype=numpy.uint8))
        return times * 2048 * 1536 / 1e6 / seconds(
            lambda: [picture.resize((896, 896), Image.Resampling.BICUBIC) for _ in range(times)])
    if request == "peak_memory":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    raise ValueError(f"unknown request {request}")


answer(ready=True)
for line in sys.stdin:
    try:
        answer(value=measure(line.strip()))
    except Exception as e:
        answer(error=str(e))
