"""What mlx_lm makes of the same model, data and settings as `llm-tool lora`.

    python compare_lora.py train MODEL DATA OUT [--iterations N --learning-rate R --batch-size B --seed S
        --max-seq-length N --validation-batches N --steps-per-report N --report FILE]
    python compare_lora.py test MODEL DATA ADAPTER      # loss of the test split, as `llm-tool lora test`
    python compare_lora.py answer MODEL ADAPTER PROMPT  # greedy, as `llm-tool lora eval --temperature 0`

Needs: pip install "mlx[cpu]==0.32.4" mlx-lm. MODEL is a folder, e.g. one that `llm-tool convert` wrote.
"""

import argparse
import json
import types

import mlx.core as mx
import numpy as np
from mlx_lm import generate, load
from mlx_lm.lora import CONFIG_DEFAULTS, train_model
from mlx_lm.tuner.callbacks import TrainingCallback
from mlx_lm.tuner.datasets import CacheDataset, load_dataset
from mlx_lm.tuner.trainer import evaluate


class Report(TrainingCallback):
    def __init__(self, file):
        self.file = open(file, "w") if file else None

    def on_train_loss_report(self, info):
        self.add(info)

    def on_val_loss_report(self, info):
        self.add(info)

    def add(self, info):
        print(json.dumps(info), flush=True)
        if self.file:
            print(json.dumps(info), file=self.file, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["train", "test", "answer"])
    parser.add_argument("model")
    parser.add_argument("rest", nargs="+")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lora-layers", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-seq-length", type=int, default=2048)
    parser.add_argument("--validation-batches", type=int, default=10)
    parser.add_argument("--steps-per-report", type=int, default=10)
    parser.add_argument("--report")
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    if args.what == "answer":
        model, tokenizer = load(args.model, adapter_path=args.rest[0])
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": args.rest[1]}], add_generation_prompt=True)
        print(generate(model, tokenizer, prompt, max_tokens=40))
        return
    options = dict(CONFIG_DEFAULTS, model=args.model, data=args.rest[0], adapter_path=args.rest[1], seed=args.seed,
                   iters=args.iterations, learning_rate=args.learning_rate, batch_size=args.batch_size,
                   num_layers=args.lora_layers, max_seq_length=args.max_seq_length, steps_per_eval=100,
                   steps_per_report=args.steps_per_report, val_batches=args.validation_batches,
                   save_every=args.iterations, train=args.what == "train", test=args.what == "test")
    options = types.SimpleNamespace(**options)
    np.random.seed(args.seed)
    model, tokenizer = load(args.model, adapter_path=args.rest[1] if args.what == "test" else None)
    train, valid, test = load_dataset(options, tokenizer)
    if args.what == "train":
        train_model(options, model, train, valid, Report(args.report))
    else:
        print("Test loss", evaluate(model, CacheDataset(test), args.batch_size, -1))


if __name__ == "__main__":
    main()
