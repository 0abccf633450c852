"""Adds to golden.json of tests/golden/vlm fixtures what the Python pipeline says of a film's file.

usage: python make_film_goldens.py TESTS_GOLDEN SHARED_GOLDEN NAME...    (SHARED_GOLDEN: the folder with weights.py)

"films": [{file, prompt, greedy}]. The frames of clips/constant.mkv are known by formula (make_media_files.py), so
that no decoder takes part; transformers' video processor picks among them and prepares them.
"""
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch

GOLDEN, SHARED, NAMES = sys.argv[1], sys.argv[2], sys.argv[3:]
sys.path.insert(0, SHARED)
sys.argv = sys.argv[:1]
import transformers  # noqa: E402
import weights  # noqa: E402
from media_common import greedy  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers.video_utils import VideoMetadata  # noqa: E402

FRAMES, FPS, TEXT = 6, 10.0, "Describe"


def frames():
    y, x = np.mgrid[0:16, 0:24]
    return np.stack([np.stack([10 * x, 15 * y, 0 * x + 40 * i + 20], -1) for i in range(FRAMES)]).astype(np.uint8)


@torch.no_grad()
def film(name):
    folder = os.path.join(GOLDEN, name)
    config = json.load(open(os.path.join(folder, "config.json")))
    with tempfile.TemporaryDirectory() as made:
        for file in os.listdir(folder):
            shutil.copy(os.path.join(folder, file), made)
        os.remove(os.path.join(made, "golden.safetensors"))
        save_file(weights.read(folder), os.path.join(made, "model.safetensors"), {"format": "pt"})
        model = getattr(transformers, config["architectures"][0]).from_pretrained(
            made, dtype=torch.float32, attn_implementation="eager").eval()
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(made)
        image = json.load(open(os.path.join(made, "preprocessor_config.json")))
        image = {k: v for k, v in image.items() if k not in ("image_processor_type", "processor_class")}
        if name.startswith("qwen"):
            processor = transformers.Qwen2_5_VLProcessor if name == "qwen2_5_vl" else transformers.Qwen2VLProcessor
            processor = processor(transformers.Qwen2VLImageProcessor(**image), tokenizer,
                                  transformers.Qwen2VLVideoProcessor(**image), chat_template=tokenizer.chat_template)
            sampling = {"do_sample_frames": True, "fps": 2}
        else:
            video = transformers.SmolVLMVideoProcessor(**image, num_frames=64, fps=1)
            processor = transformers.SmolVLMProcessor(
                transformers.SmolVLMImageProcessor(**image), tokenizer, video,
                image_seq_len=json.load(open(os.path.join(made, "processor_config.json")))["image_seq_len"])
            sampling = {"do_sample_frames": True, "fps": 1, "num_frames": 64}
        if name.startswith("qwen"):
            messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": TEXT}]}]
            prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        else:
            prompt = f"<|im_start|>User: <video>{TEXT}<end_of_utterance>\nAssistant:"
        meta = VideoMetadata(total_num_frames=FRAMES, fps=FPS, duration=FRAMES / FPS)
        inputs = processor(text=[prompt], videos=[frames()], video_metadata=[meta], return_tensors="pt",
                           add_special_tokens=False, **sampling)
        inputs = {k: v for k, v in inputs.items() if torch.is_tensor(v)}
        ids, margin, _ = greedy(model, inputs, 16)
    info = json.load(open(os.path.join(folder, "golden.json")))
    info["films"] = [{"file": "constant.mkv", "prompt": TEXT, "num_tokens": int(inputs["input_ids"].shape[1]),
                      "greedy": ids.tolist(), "greedy_margin_min": float(margin.min())}]
    json.dump(info, open(os.path.join(folder, "golden.json"), "w"), indent=1)
    print(name, inputs["input_ids"].shape, ids.tolist(), float(margin.min()))


for fixture in NAMES:
    film(fixture)
