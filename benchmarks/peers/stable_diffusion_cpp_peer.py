#!/usr/bin/env python3
"""stable-diffusion.cpp as a measured side of bench_sd: stable_diffusion_cpp_peer.py TYPE(f32|f16) THREADS.

It computes whole pictures only: one step is taken without guidance, the UNet's time is the one that it reports for the step, the decoder's
is the rest until the picture. Its model is a diffusers folder of random weights, written to a temporary folder.
Prints a JSON line when it is ready, then answers one request a line (see benchmarks/support/child.h).
"""
import json
import os
import resource
import subprocess
import sys
import tempfile
import time


def answer(**values):
    print(json.dumps(values), flush=True)


def write_model(folder, dtype_name):
    """stabilityai/stable-diffusion-2-1-base in its sizes; in a process of its own, which the peak of memory leaves out."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    dtype = {"f32": torch.float32, "f16": torch.float16}[dtype_name]
    parts = {
        "unet": lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=1024, attention_head_dim=[5, 10, 20, 20], use_linear_projection=True),
        "vae": lambda: AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
                                     block_out_channels=[128, 256, 512, 512], layers_per_block=2, sample_size=512),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23,
                                                             num_attention_heads=16, hidden_act="gelu")),
    }
    block = torch.rand((1 << 20) + 7) * 2 - 1
    for name, make in parts.items():
        with torch.device("meta"):
            model = make()
        model = model.to(dtype).to_empty(device="cpu")
        for p in model.parameters():
            scale = (3 * p.shape[0] / p.numel()) ** 0.5
            flat = p.data.view(-1)
            for i in range(0, p.numel(), block.numel()):
                piece = flat[i:i + block.numel()]
                piece.copy_(block[:piece.numel()] * scale)
        model.save_pretrained(os.path.join(folder, name))
    # The library knows the text encoder by the prefix that transformers has since taken away.
    file = os.path.join(folder, "text_encoder", "model.safetensors")
    weights = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    with open(os.path.join(folder, "model_index.json"), "w") as f:
        f.write("{}")


def main():
    if sys.argv[1] == "--write":
        write_model(*sys.argv[2:4])
        return
    dtype, threads = sys.argv[1:3]
    # The library prints to standard output, which is ours to answer on.
    out = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(out, "w")
    try:
        from stable_diffusion_cpp import StableDiffusion
    except ImportError as e:
        answer(error=str(e))
        return
    with tempfile.TemporaryDirectory() as folder:
        written = subprocess.run([sys.executable, __file__, "--write", folder, dtype], capture_output=True, text=True)
        if written.returncode != 0:
            answer(error="writing the model: " + written.stderr.strip().splitlines()[-1])
            return
        model = StableDiffusion(model_path=folder, n_threads=int(threads), wtype=dtype, prediction="eps", diffusion_flash_attn=True, diffusion_conv_direct=False,
                                vae_conv_direct=False, verbose=False)
        times = {}

        def picture():
            at = {}

            def progress(step, steps, seconds):
                if step == steps == 1:
                    at["step"], at["sampled"] = seconds, time.perf_counter()

            model.generate_image(prompt="a horse", width=512, height=512, cfg_scale=1.0, sample_steps=1, sample_method="euler", seed=1,
                                 progress_callback=progress)
            end = time.perf_counter()
            return {"unet_step": [at["step"]], "vae_decode": [end - at["sampled"]]}

        answer(ready=True)
        for line in sys.stdin:
            request = line.strip()
            if request in ("unet_step", "vae_decode"):
                try:
                    if not times.get(request):
                        times = picture()
                    answer(value=times[request].pop())
                except Exception as e:  # it gives a null pointer for whatever it cannot load
                    answer(error=f"{type(e).__name__}: {e}")
            elif request == "peak_memory":
                answer(value=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
            else:
                answer(error="unknown request " + request)


main()
