#!/usr/bin/env python3
"""Writes what PyPI diffusers says about Stable Diffusion, beside the fixtures sd/sd21 and sd/sdxl_turbo.

    pip install torch==2.15.* transformers==5.23.* diffusers==0.42.* accelerate safetensors
    python tests/scripts/make_sd_goldens.py [samplers] [pipelines]

golden/sd_samplers/samplers.json, .safetensors   every sampler x spacing x prediction, and the settings of
                       schedulers; a model's output is outputs[step] + 0.5 * its input
golden/sd/sd15         a tiny model in the layout of Stable Diffusion 1 (1x1 convolutions around the transformers,
                       a number of heads for all blocks, quick GELU)
golden/sd/*_single     the same three models as single files in LDM's layout; the numbers are those of
                       from_single_file, which must agree with the folder's
"""

import json
import pathlib
import re
import shutil
import sys
import tempfile

import diffusers
import numpy as np
import torch
from safetensors.torch import load_file, save_file

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
SCALED = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def write_json(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=1) + "\n")


# ---- samplers

CLASSES = {
    "euler": diffusers.EulerDiscreteScheduler,
    "euler-ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "ddim": diffusers.DDIMScheduler,
    "dpm++2m": diffusers.DPMSolverMultistepScheduler,
    "dpm++2m-karras": diffusers.DPMSolverMultistepScheduler,
    "lcm": diffusers.LCMScheduler,
}


def sampler_cases():
    def case(name, sampler, config, steps=5, strength=1.0, **more):
        return dict(name=name, sampler=sampler, config=config, steps=steps, strength=strength, **more)

    for sampler in CLASSES:
        for spacing in ("leading", "trailing", "linspace"):
            for prediction in ("epsilon", "v_prediction", "sample"):
                if sampler == "lcm" and spacing != "leading" or sampler == "euler-ancestral" and prediction == "sample":
                    continue  # LCM has a spacing of its own
                config = dict(SCALED, timestep_spacing=spacing, prediction_type=prediction)
                if spacing == "leading":
                    config["steps_offset"] = 1
                if sampler in ("ddim", "lcm"):
                    config["clip_sample"] = False
                for strength in (1.0, 0.6):
                    yield case(f"{sampler}/{spacing}/{prediction}/{strength}", sampler, config, strength=strength)
    for sampler, settings in {
        "euler": [dict(), dict(use_karras_sigmas=True), dict(use_exponential_sigmas=True), dict(interpolation_type="log_linear"),
                  dict(final_sigmas_type="sigma_min"), dict(use_karras_sigmas=True, sigma_min=0.05, sigma_max=12.0),
                  dict(beta_schedule="linear"), dict(beta_schedule="squaredcos_cap_v2"),
                  dict(SCALED, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"),
                  dict(num_train_timesteps=40, trained_betas=[0.001 + 0.0005 * i for i in range(40)])],
        "euler-ancestral": [dict(), dict(SCALED, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")],
        "ddim": [dict(), dict(SCALED, clip_sample=True, clip_sample_range=0.7), dict(SCALED, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
                 dict(SCALED, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction", clip_sample=False)],
        "dpm++2m": [dict(), dict(SCALED, solver_type="heun"), dict(SCALED, solver_order=1), dict(SCALED, final_sigmas_type="sigma_min"),
                    dict(SCALED, final_sigmas_type="sigma_min", lower_order_final=False), dict(SCALED, euler_at_final=True),
                    dict(SCALED, use_exponential_sigmas=True), dict(SCALED, lambda_min_clipped=-1.5), dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1)],
        "dpm++2m-karras": [dict(), dict(SCALED, solver_type="heun", prediction_type="v_prediction")],
        "lcm": [dict(), dict(original_inference_steps=20, timestep_scaling=7.0), dict(clip_sample=True, clip_sample_range=0.5, set_alpha_to_one=False)],
    }.items():
        for i, config in enumerate(settings):
            for steps in (5, 16):
                yield case(f"{sampler}/settings{i}/{steps}", sampler, config, steps)
    for config, steps, strength in (({}, 4, 0.5), ({}, 4, 0.9), ({}, 3, 0.29), ({}, 5, 1.0), (dict(original_inference_steps=20), 7, 0.35),
                                    (dict(num_train_timesteps=90), 16, 0.33)):
        yield case(f"lcm/all_steps{config.get('original_inference_steps', '')}/{steps}/{strength}", "lcm", config, steps, strength, all_steps=True)


def run_sampler(case, draws):
    config = dict(case["config"])
    if case["sampler"] == "dpm++2m-karras":
        config["use_karras_sigmas"] = True
    s = CLASSES[case["sampler"]](**config)
    all_steps = case.get("all_steps", False)  # as LatentConsistencyModelImg2ImgPipeline
    s.set_timesteps(case["steps"], **({"strength": case["strength"]} if all_steps else {}))
    timesteps = s.timesteps
    if all_steps and case["strength"] < 1:
        x = s.add_noise(draws["picture"], draws["noise"], timesteps[:1])
    elif case["strength"] < 1:  # as StableDiffusionImg2ImgPipeline.get_timesteps
        start = max(case["steps"] - min(int(case["steps"] * case["strength"]), case["steps"]), 0)
        timesteps = timesteps[start:]
        if hasattr(s, "set_begin_index"):
            s.set_begin_index(start)
        x = s.add_noise(draws["picture"], draws["noise"], timesteps[:1])
    else:
        x = draws["noise"] * s.init_noise_sigma
    module = sys.modules[type(s).__module__]
    noises = iter(draws["step_noise"])
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda *a, **k: next(noises)
    states = [x]
    for i, t in enumerate(timesteps):
        seen = s.scale_model_input(x, t)
        x = s.step(draws["outputs"][i] + 0.5 * seen, t, x).prev_sample
        states.append(x)
    return {"timesteps": timesteps.double(), "states": torch.stack(states)}


def make_samplers():
    g = torch.Generator().manual_seed(11)
    shape = (1, 3, 2, 4)
    draws = {"picture": torch.randn(shape, generator=g), "noise": torch.randn(shape, generator=g),
             "outputs": torch.randn((16,) + shape, generator=g), "step_noise": torch.randn((16,) + shape, generator=g)}
    cases, out = [], dict(draws)
    for case in sampler_cases():
        for key, value in run_sampler(case, draws).items():
            assert torch.isfinite(value).all(), case
            out[f"{case['name']}/{key}"] = value.float().contiguous()
        cases.append(case)
    write_json(GOLDEN / "sd_samplers" / "samplers.json", cases)
    save_file(out, GOLDEN / "sd_samplers" / "samplers.safetensors")
    print(len(cases), "sampler cases")


# ---- pipelines

TOLERANCE = {"text_max_abs": 1e-4, "unet_max_abs": 2e-4, "vae_max_abs": 2e-4, "latents_rel": 1e-4, "sigmas_rel": 1e-5, "ids": "exact"}
TILE = 8  # latents a side, a quarter of which overlaps
PROMPT, NEGATIVE = "a photo of an astronaut riding a horse on mars", "blurry"


def shaken(model, seed):
    """Weights of which none, a norm's neither, is what a fresh layer has."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=g) * (0.2 if p.ndim == 1 else 0.3 / np.sqrt(p[0].numel())))
    return model.eval()


def make_sd15():
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(15)
    tokenizer = CLIPTokenizer.from_pretrained(GOLDEN / "sd" / "sdxl_turbo" / "tokenizer")  # pads with <|endoftext|>
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=24, intermediate_size=96, num_hidden_layers=3, num_attention_heads=3,
                                        hidden_act="quick_gelu", projection_dim=24, eos_token_id=len(tokenizer) - 1, bos_token_id=len(tokenizer) - 2))
    unet = diffusers.UNet2DConditionModel(sample_size=8, block_out_channels=(8, 12, 16, 16), layers_per_block=2, cross_attention_dim=24,
                                          attention_head_dim=2, norm_num_groups=4, use_linear_projection=False)
    vae = diffusers.AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=(4, 8, 8, 12),
                                  layers_per_block=2, norm_num_groups=4, scaling_factor=0.18215, sample_size=64)
    pipe = diffusers.StableDiffusionPipeline(
        vae=shaken(vae, 1), text_encoder=shaken(text, 2), tokenizer=tokenizer, unet=shaken(unet, 3),
        scheduler=diffusers.PNDMScheduler(**SCALED, skip_prk_steps=True, steps_offset=1), safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    folder = GOLDEN / "sd" / "sd15"
    shutil.rmtree(folder, ignore_errors=True)
    pipe.save_pretrained(folder)
    # Published text encoders have the prefix that transformers has since taken away.
    file = folder / "text_encoder" / "model.safetensors"
    weights = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    return pipe


# diffusers' names as LDM's: the reverse of diffusers/loaders/single_file_utils.py.
RESNET = [("norm1.", "in_layers.0."), ("conv1.", "in_layers.2."), ("time_emb_proj.", "emb_layers.1."), ("norm2.", "out_layers.0."), ("conv2.", "out_layers.3."),
          ("conv_shortcut.", "skip_connection.")]
UNET = [("time_embedding.linear_1.", "time_embed.0."), ("time_embedding.linear_2.", "time_embed.2."), ("add_embedding.linear_1.", "label_emb.0.0."),
        ("add_embedding.linear_2.", "label_emb.0.2."), ("conv_in.", "input_blocks.0.0."), ("conv_norm_out.", "out.0."), ("conv_out.", "out.2.")]
VAE_ATTENTION = [("group_norm.", "norm."), ("to_q.", "q."), ("to_k.", "k."), ("to_v.", "v."), ("to_out.0.", "proj_out."),
                 ("query.", "q."), ("key.", "k."), ("value.", "v."), ("proj_attn.", "proj_out.")]
OPEN_CLIP = [("layer_norm1.", "ln_1."), ("layer_norm2.", "ln_2."), ("self_attn.out_proj.", "attn.out_proj."), ("mlp.fc1.", "mlp.c_fc."), ("mlp.fc2.", "mlp.c_proj.")]


def renamed(name, table):
    for old, new in table:
        if name.startswith(old):
            return new + name[len(old):]
    return name


def ldm_unet_name(name, config):
    blocks, layers = len(config["block_out_channels"]), config["layers_per_block"]
    whole = renamed(name, UNET)
    if whole != name:
        return whole
    if m := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        part, i, rest = m[1], int(m[2]), m[3]
        return f"middle_block.{2 * i if part == 'resnets' else 1}.{renamed(rest, RESNET) if part == 'resnets' else rest}"
    m = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    down, block, part, j, rest = m[1] == "down", int(m[2]), m[3], int(m[4]), m[5]
    if part == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.{renamed(rest, [('conv.', 'op.')])}"
    if down:
        front = f"input_blocks.{1 + block * (layers + 1) + j}"
    else:
        front = f"output_blocks.{block * (layers + 1) + (layers if part == 'upsamplers' else j)}"
    if part == "upsamplers":  # after the transformer, where there is one
        return f"{front}.{2 if config['up_block_types'][block].startswith('CrossAttn') else 1}.{rest}"
    return f"{front}.0.{renamed(rest, RESNET)}" if part == "resnets" else f"{front}.1.{rest}"


def ldm_vae(name, value, blocks):
    if m := re.match(r"(encoder|decoder)\.(.*)", name):
        rest = renamed(m[2], [("conv_norm_out.", "norm_out.")])
        shortcut = [("conv_shortcut.", "nin_shortcut.")]
        if a := re.match(r"mid_block\.attentions\.0\.(.*)", rest):
            rest = "mid.attn_1." + renamed(a[1], VAE_ATTENTION)
            value = value[..., None, None] if value.ndim == 2 else value
        elif a := re.match(r"mid_block\.resnets\.(\d)\.(.*)", rest):
            rest = f"mid.block_{int(a[1]) + 1}.{renamed(a[2], shortcut)}"
        elif a := re.match(r"(down|up)_blocks\.(\d)\.(resnets|\w+samplers)\.(\d)\.(.*)", rest):
            level = int(a[2]) if a[1] == "down" else blocks - 1 - int(a[2])
            rest = f"{a[1]}.{level}." + (f"block.{a[4]}.{renamed(a[5], shortcut)}" if a[3] == "resnets" else f"{a[1]}sample.{a[5]}")
        name = f"{m[1]}.{rest}"
    return name, value


def open_clip(weights, prefix):
    out = {}
    for name, value in weights.items():
        name = name.removeprefix("text_model.")
        if name.endswith("position_ids"):
            continue
        if name == "text_projection.weight":
            out["text_projection"] = value.T
        elif name == "embeddings.position_embedding.weight":
            out["positional_embedding"] = value
        elif m := re.match(r"encoder\.layers\.(\d+)\.(.*)", name):
            if p := re.match(r"self_attn\.([qkv])_proj\.(\w+)", m[2]):
                if p[1] == "q":
                    parts = [weights["text_model." + name.replace("q_proj", f"{c}_proj")] for c in "qkv"]
                    out[f"transformer.resblocks.{m[1]}.attn.in_proj_{p[2]}"] = torch.cat(parts)
            else:
                out[f"transformer.resblocks.{m[1]}.{renamed(m[2], OPEN_CLIP)}"] = value
        else:
            out[renamed(name, [("embeddings.token_embedding.", "token_embedding."), ("final_layer_norm.", "ln_final.")])] = value
    return {prefix + k: v for k, v in out.items()}


def single_file(folder, family):
    config = json.loads((folder / "unet" / "config.json").read_text())
    vae_config = json.loads((folder / "vae" / "config.json").read_text())
    out = {"model.diffusion_model." + ldm_unet_name(k, config): v for k, v in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items()}
    for k, v in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        k, v = ldm_vae(k, v, len(vae_config["block_out_channels"]))
        out["first_stage_model." + k] = v
    text = load_file(folder / "text_encoder" / "model.safetensors")
    if family == "sd2":
        out |= open_clip(text, "cond_stage_model.model.")
        # Published files hold one layer more than the pipeline runs, and a projection it does not use.
        last = max(int(m[1]) for k in out if (m := re.match(r"cond_stage_model\.model\.transformer\.resblocks\.(\d+)\.", k)))
        out |= {k.replace(f"resblocks.{last}.", f"resblocks.{last + 1}."): v + 1 for k, v in out.items() if f"resblocks.{last}." in k}
    else:
        out |= {("cond_stage_model." if family == "sd1" else "conditioner.embedders.0.") + "transformer." + k: v for k, v in text.items()}
    if family == "sdxl":
        out |= open_clip(load_file(folder / "text_encoder_2" / "model.safetensors"), "conditioner.embedders.1.model.")
    return {k: v.contiguous() for k, v in out.items()}


@torch.no_grad()
def numbers(pipe, xl):
    """What golden-tool compares of a fixture of the kind sd."""
    out = {}

    def ids_of(tokenizer, text):
        return tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids

    if xl:
        states = []
        for i, (tokenizer, encoder) in enumerate(((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)), 1):
            ids = ids_of(tokenizer, PROMPT)
            o = encoder(ids, output_hidden_states=True)
            states.append(o.hidden_states[-2])
            out |= {f"ids{i}": ids, f"text{i}.penultimate": o.hidden_states[-2]}
        out |= {"prompt_embeds": torch.cat(states, -1), "pooled": o.text_embeds, "add_time_ids": torch.tensor([[128.0, 64, 0, 0, 128, 64]])}
        cond = dict(encoder_hidden_states=out["prompt_embeds"], added_cond_kwargs={"text_embeds": out["pooled"], "time_ids": out["add_time_ids"]})
        conditions = {"cond": cond}
    else:
        conditions = {}
        for name, text in (("cond", PROMPT), ("uncond", NEGATIVE)):
            out[f"ids.{name}"] = ids_of(pipe.tokenizer, text)
            o = pipe.text_encoder(out[f"ids.{name}"])
            out |= {f"text.{name}.last_hidden_state": o.last_hidden_state, f"text.{name}.pooler_output": o.pooler_output}
            conditions[name] = dict(encoder_hidden_states=o.last_hidden_state)
    g = torch.Generator().manual_seed(5)
    noise, latent = (torch.randn(1, 4, 16, 8, generator=g) for _ in range(2))
    image = torch.rand(1, 3, 128, 64, generator=g) * 2 - 1
    out |= {"unet.latent": latent, "unet.timestep": torch.tensor([481]), "unet.output": pipe.unet(latent, 481, **conditions["cond"]).sample}
    posterior = pipe.vae.encode(image).latent_dist
    out |= {"vae.image": image, "vae.encode_mean": posterior.mean, "vae.encode_logvar": posterior.logvar, "vae.latent": latent,
            "vae.decode": pipe.vae.decode(latent / pipe.vae.config.scaling_factor).sample, "traj.noise": noise}
    pipe.vae.enable_tiling()
    pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size = TILE, 8 * TILE
    out["vae.decode_tiled"] = pipe.vae.decode(latent / pipe.vae.config.scaling_factor).sample
    pipe.vae.disable_tiling()
    s = diffusers.EulerDiscreteScheduler(**SCALED, timestep_spacing="trailing", prediction_type=pipe.scheduler.config.prediction_type)
    for tag, scale in (("euler4", None),) if xl else (("nocfg", None), ("cfg", 7.5)):
        s.set_timesteps(4)
        x = noise * s.init_noise_sigma
        out[f"traj.{tag}.0"] = x
        for i, t in enumerate(s.timesteps, 1):
            y = [pipe.unet(s.scale_model_input(x, t), t, **conditions[c]).sample for c in (["cond"] if scale is None else ["uncond", "cond"])]
            x = s.step(y[0] if scale is None else y[0] + scale * (y[1] - y[0]), t, x).prev_sample
            out[f"traj.{tag}.{i}"] = x
    return {k: (v.int() if k.startswith("ids") else v.float()).contiguous().clone() for k, v in out.items()}


def write_golden(folder, values, comments, **more):
    info = {"name": folder.name, "reference": f"diffusers {diffusers.__version__}, torch {torch.__version__.split('+')[0]} (CPU, float32)", "dtype": "float32",
            "tolerance": TOLERANCE, "comments": comments, "tile": TILE, **more,
            "cases": [{"name": "pipeline", "prompt": PROMPT, "negative_prompt": NEGATIVE, "cfg": 7.5, "steps": 4}]}
    write_json(folder / "golden.json", info)
    save_file(values, folder / "golden.safetensors")


def make_pipelines():
    pipe = make_sd15()
    folder = GOLDEN / "sd" / "sd15"
    write_golden(folder, numbers(pipe, False), ["Layout of Stable Diffusion 1.5."])
    for name, family in (("sd15", "sd1"), ("sd21", "sd2"), ("sdxl_turbo", "sdxl")):
        source, to, xl = GOLDEN / "sd" / name, GOLDEN / "sd" / f"{name}_single", family == "sdxl"
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("*.safetensors", "golden.json", "*.png"))
        weights = single_file(source, family)
        save_file(weights, to / "model.safetensors")
        cls = diffusers.StableDiffusionXLPipeline if xl else diffusers.StableDiffusionPipeline
        with tempfile.TemporaryDirectory() as configs:  # it takes configurations from a folder of them alone
            shutil.copytree(to, configs, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
            single = cls.from_single_file(str(to / "model.safetensors"), config=configs, local_files_only=True)
        got, want = numbers(single, xl), numbers(cls.from_pretrained(source), xl)
        difference = max(float((got[k].double() - want[k].double()).abs().max()) for k in want)
        print(name, "single file against folder:", difference)
        write_golden(to, got, ["Numbers of from_single_file."], single_file="model.safetensors", difference_to_folder=difference)


if __name__ == "__main__":
    diffusers.utils.logging.set_verbosity_error()
    what = sys.argv[1:] or ["samplers", "pipelines"]
    if "samplers" in what:
        make_samplers()
    if "pipelines" in what:
        make_pipelines()
