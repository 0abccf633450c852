"""What Python libraries write, and what we read of it: `./mlx-run test --interop` builds the tools and runs this.

    python tests/interop/interop.py BIN_DIR

Each part runs where its packages are installed, and says so where they are not:
  gguf            F32 GGUF files of fixtures (scripts/make_gguf_twins.py) give the logits of their twins
  llama-cpp-python  and llama.cpp the same greedy tokens; for three families checkpoints with llama.cpp's own numbers
                  (scripts/make_llama_cpp_goldens.py)
  mlx-lm          LoRA and DoRA adapters that mlx_lm made give here the tokens that they give there, on a float
                  and on a quantised model; and those that `llm-tool lora train` made give there the tokens that
                  they give here
  transformers    what docs/trace_transformers.py writes of fixtures agrees with `llm-tool trace`
"""
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "tests/scripts"
sys.path.insert(0, str(SCRIPTS))


def missing(*packages):
    absent = [p for p in packages if importlib.util.find_spec(p) is None]
    if absent:
        print(f"left out, not installed: {', '.join(absent)}")
    return absent


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True)


def gguf_twins(tools, folder):
    if missing("gguf", "numpy", "safetensors"):
        return True
    import make_gguf_twins as twins

    (folder / "llm").symlink_to(ROOT / "tests/golden/llm")
    for name in twins.FAMILIES | twins.FURTHER:
        twins.write(name, folder / "gguf")
    outcome = run(tools / "golden-tool", folder / "gguf")
    print(outcome.stdout.strip().splitlines()[-1] if outcome.stdout else outcome.stderr)
    good = outcome.returncode == 0
    if not missing("llama_cpp"):
        for name in twins.FAMILIES | twins.FURTHER:
            good = twins.check(name, folder / "gguf") and good
        import make_llama_cpp_goldens as theirs

        for name in theirs.MADE:
            theirs.write(name, folder / "llama.cpp")
        outcome = run(tools / "golden-tool", folder / "llama.cpp")
        print(outcome.stdout.strip())
        good = outcome.returncode == 0 and good
    return good


def write_tokenizer(folder, count):
    """The text of token i is "ti"; words are split at white space."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(count)}, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


def write_data(folder):
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for part in ("train", "valid"):
        lines = [json.dumps({"text": " ".join(f"t{(7 * i + j * j) % 200 + 3}" for j in range(20))}) for i in range(8)]
        (data / f"{part}.jsonl").write_text("\n".join(lines) + "\n")
    return data


def same_tokens(tools, model, model_folder, adapter, what):
    """Greedy tokens of mlx_lm's model, and of `llm-tool eval` with the adapter."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    prompt, count = [3, 14, 15, 92, 65], 16
    cache, ids, theirs = make_prompt_cache(model), prompt, []
    for _ in range(count):
        logits = model(mx.array([ids]), cache=cache)[0, -1]
        theirs.append(int(mx.argmax(logits).item()))
        ids = theirs[-1:]
    outcome = run(tools / "llm-tool", "eval", "--model", model_folder, "--adapter", adapter, "--raw", "--prompt",
                  " ".join(f"t{i}" for i in prompt), "--temperature", 0, "--max-tokens", count, "--precision", "exact",
                  "--quiet", "--json")
    ours = json.loads(outcome.stdout)["tokens"] if outcome.returncode == 0 else outcome.stderr
    eos = json.loads((model_folder / "config.json").read_text()).get("eos_token_id")
    wanted = theirs[: theirs.index(eos)] if eos in theirs else theirs
    print(f"{what}: {'the same tokens' if ours == wanted else f'{ours}, there {wanted}'}")
    return ours == wanted


def adapters(tools, folder):
    if missing("mlx", "mlx_lm", "tokenizers", "numpy", "safetensors"):
        return True
    import mlx.core as mx
    import numpy as np
    from make_gguf_twins import GOLDEN, checkpoint
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
    from mlx_lm.utils import load_model
    from safetensors.numpy import save_file

    mx.set_default_device(mx.cpu)
    good = True
    for base in ("llama", "llama-q4"):
        model_folder = folder / base
        model_folder.mkdir()
        config, weights = checkpoint(GOLDEN / "llm" / base)
        (model_folder / "config.json").write_text(json.dumps(config))
        save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, model_folder / "model.safetensors")
        write_tokenizer(model_folder, config["vocab_size"])
        for kind in ("lora", "dora"):
            model, _ = load_model(model_folder)
            model.freeze()
            how = {"rank": 4, "scale": 5.0, "dropout": 0.0, "keys": ["self_attn.q_proj", "mlp.down_proj"]}
            linear_to_lora_layers(model, config["num_hidden_layers"], how, use_dora=kind == "dora")
            rng = np.random.default_rng(7)
            model.load_weights([(path, mx.array(rng.normal(0, 0.1, w.shape).astype(np.float32)))
                                for path, w in tree_flatten(model.trainable_parameters()) if path.endswith("lora_b")],
                               strict=False)
            adapter = folder / f"{base}-{kind}"
            adapter.mkdir()
            mx.save_safetensors(str(adapter / "adapters.safetensors"), dict(tree_flatten(model.trainable_parameters())))
            (adapter / "adapter_config.json").write_text(json.dumps(
                {"fine_tune_type": kind, "num_layers": config["num_hidden_layers"], "lora_parameters": how}))

            good = same_tokens(tools, model, model_folder, adapter, f"adapter of mlx_lm, {kind} on {base}") and good
        for kind in ("lora", "dora"):
            adapter = folder / f"{base}-{kind}-ours"
            outcome = run(tools / "llm-tool", "lora", "train", "--model", model_folder, "--data", write_data(folder), "--adapter",
                          adapter, "--fine-tune-type", kind, "--iterations", 12, "--batch-size", 2, "--rank", 4,
                          "--learning-rate", 0.05, "--validation-batches", 1, "--lora-layers", -1)
            if outcome.returncode != 0:
                print(f"llm-tool lora train, {kind} on {base}: {outcome.stderr}")
                good = False
                continue
            model, _ = load_model(model_folder)
            model = load_adapters(model, str(adapter))
            good = same_tokens(tools, model, model_folder, adapter, f"our adapter in mlx_lm, {kind} on {base}") and good
    return good


def traces(tools, folder):
    """Names and values of docs/trace_transformers.py are those of `llm-tool trace`, also where transformers names or scales otherwise."""
    if missing("torch", "transformers", "numpy", "safetensors"):
        return True
    import numpy as np
    from make_gguf_twins import GOLDEN, checkpoint
    from safetensors.numpy import save_file

    good = True
    for name, *options in (["llm/llama"], ["llm/gemma"], ["llm/gemma3_text"], ["vlm/gemma3"], ["llm/gemma3n"], ["llm/qwen3_moe"],
                           ["llm/phimoe"], ["llm/deepseek_v3"],
                           ["llm/bitnet", "--quantize-activations"]):
        model, ours, theirs = folder / name, folder / f"{name}.ours", folder / f"{name}.theirs"
        model.mkdir(parents=True)
        config, weights = checkpoint(GOLDEN / name)
        (model / "config.json").write_text(json.dumps(config))
        save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, model / "model.safetensors", {"format": "pt"})
        for command in ([tools / "llm-tool", "trace", "--model", model, "--tokens", "3,14,15,92,65,35", "-o", ours, *options],
                        [sys.executable, ROOT / "docs/trace_transformers.py", model, ours, theirs],
                        [tools / "llm-tool", "compare", ours, theirs]):
            outcome = run(*command)
            if outcome.returncode != 0:
                break
        print(f"trace of {name}: {outcome.stdout.strip()} {outcome.stderr.strip()[-300:]}")
        good = outcome.returncode == 0 and good
    return good


def tool_calls(tools, folder):
    """mlx_lm's parsers see the calls that tests/lm_common/tool_transcripts.json promises of ours. Left out are the forms that
    they do not know: call ids and points in names (Mistral), values within values (Gemma), white space around values (GLM)."""
    if missing("mlx_lm", "regex"):
        return True
    parsers = {"json": ("json_tools", "<tool_call>", "</tool_call>"),
               "gemma": ("function_gemma", "<start_function_call>", "<end_function_call>"),
               "mistral": ("mistral", "[TOOL_CALLS]", None),
               "lfm2": ("pythonic", "<|tool_call_start|>", "<|tool_call_end|>"),
               "glm4": ("glm47", "<tool_call>", "</tool_call>")}
    same, other = 0, []
    for t in json.loads((ROOT / "tests/lm_common/tool_transcripts.json").read_text()):
        name, begin, end = parsers.get(t["format"], (None, "", None))
        values = [v for call in t["calls"] for v in call["arguments"].values()]
        unknown = ("[CALL_ID]" in t["text"]
                   or t["format"] in ("mistral", "gemma") and any("." in c["name"] for c in t["calls"])
                   or t["format"] == "gemma" and (any(isinstance(v, (list, dict)) for v in values) or "}" in str(values))
                   or t["format"] == "glm4" and any(isinstance(v, str) and v != v.strip() for v in values))
        if name is None or begin not in t["text"] or unknown:
            continue
        parse = importlib.import_module(f"mlx_lm.tool_parsers.{name}").parse_tool_call
        specs = [{"type": "function", "function": {"name": n, "parameters": {"properties": {
            k: {"type": kind} for k, kind in types.items()}}}} for n, types in t["types"].items()]
        calls = []
        for part in t["text"][t["text"].index(begin):].split(begin)[1:]:
            got = parse(part.split(end)[0] if end else part, specs)
            calls += got if isinstance(got, list) else [got]
        if [{"name": c["name"], "arguments": c["arguments"]} for c in calls] == t["calls"]:
            same += 1
        else:
            other.append(f"{t['format']}: {t['text']!r}: there {calls}")
    print("\n".join([*other, f"tool calls: {same} transcripts as mlx_lm reads them, {len(other)} otherwise"]))
    return not other


def main():
    tools = Path(sys.argv[1]).resolve()
    good = True
    for part in (gguf_twins, adapters, traces, tool_calls):
        with tempfile.TemporaryDirectory() as folder:
            good = part(tools, Path(folder)) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
