"""Writes docs/models.md from the registry, the presets, the models' own headers and the fixtures.

  python3 docs/make_models.py            writes it
  python3 docs/make_models.py --check    fails when it is not what would be written (a test does this)
"""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LLM = ROOT / "libraries/llm"
VLM = ROOT / "libraries/vlm"
GOLDEN = ROOT / "tests/golden"

# The model_type of the presets with eyes or ears, by the first part that their id has.
MEDIA_PRESET_TYPES = [
    ("paligemma", "paligemma"), ("Qwen2-VL", "qwen2_vl"), ("Qwen2.5-VL", "qwen2_5_vl"),
    ("SmolVLM-Instruct", "idefics3"), ("SmolVLM2", "smolvlm"), ("gemma-3-", "gemma3"),
    ("gemma-3n", "gemma3n"),
]


def preset_type(name):
    """As model_type_of() of presets.cpp: the first of its names that the id has."""
    table = (LLM / "presets.cpp").read_text().split("model_type_of(", 1)[1]
    for part, model_type in re.findall(r'\{"([^"]+)", "([^"]+)"\}', table):
        if part in name:
            return model_type
    raise SystemExit(f"libraries/llm/presets.cpp: model_type_of() knows no type of the preset {name}")


def registry():
    """model_type -> the family's function."""
    text = (LLM / "registry.cpp").read_text()
    return dict(re.findall(r'\{"(\w+)", (\w+)\(\)', text))


def source_of(text):
    """The papers and reference files that a file's header names."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("//"):
            break
        lines.append(line[2:].strip())
    header = " ".join(lines)
    papers = re.findall(r"\b\d{4}\.\d{5}\b", header)
    references = sorted(set(re.findall(r"\b[a-z]\w*\.py\b", header)))
    return ", ".join([f"arXiv {p}" for p in papers] + [f"`{r}`" for r in references])


def files():
    """function -> file and source_of() it."""
    out = {}
    for path in sorted((LLM / "models").glob("*.cpp")):
        text = path.read_text()
        source = source_of(text)
        for name in re.findall(r"^Creator (\w+)\(\)", text, re.M):
            out[name] = (path.name, source)
    return out


def fixtures():
    """model_type -> [float, quantised, GGUF] numbers of fixtures."""
    out = {}
    twins = re.findall(r'^    "([\w-]+)": \("[\w-]+", \w+\),', (ROOT / "tests/scripts/make_gguf_twins.py").read_text(), re.M)
    for config in sorted(GOLDEN.glob("llm/*/config.json")):
        data = json.loads(config.read_text())
        count = out.setdefault(data["model_type"], [0, 0, 0])
        quantised = "quantization" in data or "quantization_config" in data
        count[1 if quantised else 0] += 1
        if config.parent.name in twins:
            count[2] += 1
    return out


def checked(counts):
    kinds = ("float", "quantised", "GGUF twin")
    return ", ".join(f"{sum(n)} {kind}" for n, kind in zip(zip(*counts), kinds) if sum(n))


def document():
    types, where, golden = registry(), files(), fixtures()
    presets = {}
    for name in re.findall(r'\.id = "([^"]+)"', (LLM / "presets.cpp").read_text()):
        presets.setdefault(preset_type(name), []).append(name.removeprefix("mlx-community/"))
    families = {}  # file -> its types
    for model_type, function in types.items():
        families.setdefault(where[function], []).append(model_type)
    lines = [
        "# Language models", "",
        "Made by `docs/make_models.py`; not to be edited. A family is a file of `libraries/llm/models`. Presets",
        "are of `mlx-community/`. Fixtures lie in `tests/golden`: small checkpoints whose logits, greedy",
        "continuation through the cache and chunked prefill are compared with the original library's. A GGUF twin is a",
        "file of PyPI `gguf` with a fixture's weights, held to the same numbers; those that are not kept in the tree",
        "are made and compared by `./mlx-run test --interop`.", "",
        "| family | model_types | source | presets | fixtures |",
        "|---|---|---|---|---|"]
    for (file, source), members in sorted(families.items()):
        names = ", ".join(n for t in members for n in presets.pop(t, []))
        fixture_counts = checked([golden[t] for t in members if t in golden])
        lines.append(f"| {file.removesuffix('.cpp')} | {' '.join(f'`{t}`' for t in members)} | "
                     f"{source} | {names} | {fixture_counts} |")
    if presets:
        lines += ["", "Presets whose type is not there yet: " +
                  "; ".join(f"{', '.join(n)} (`{t}`)" for t, n in presets.items()) + "."]
    lines += [
        "", "## Speed", "",
        "Every family at one shape with random 4-bit weights, `./mlx-run bench families`, 2 threads of a server with AVX2",
        "(docs/models_speed.txt, from two runs, each with Llama); from run to run the figures vary by a fifth. The columns beside",
        "Llama's are the speed by the bytes that a token reads. A prefill is bound by arithmetic, not by bytes, and BitNet has half",
        "the bytes for as many weights. Its row is from a later run, on a machine otherwise idle, where Llama had 89 and 457 tokens/s",
        "(in another such run: 262.6 and 1001 beside Llama's 117.5 and 494, 1.12 and 1.02 by the byte).", "",
        (ROOT / "docs/models_speed.txt").read_text().rstrip("\n")]
    lines += media_models()
    return "\n".join(lines) + "\n"


def media_models():
    """The same for libraries/vlm."""
    presets, golden = {}, {}
    for name in re.findall(r'\.id = "([^"]+)"', (VLM / "presets.cpp").read_text()):
        presets.setdefault(next(t for part, t in MEDIA_PRESET_TYPES if part in name), []).append(
            name.removeprefix("mlx-community/"))
    for config in sorted(GOLDEN.glob("vlm/*/config.json")):
        model_type = json.loads(config.read_text()).get("model_type")
        golden[model_type] = golden.get(model_type, 0) + 1
    lines = ["", "## Models that take pictures, films or sound", "",
             "Families of `libraries/vlm/models`. Their fixtures compare token ids, pixels, the towers' intermediates,",
             "logits and greedy tokens.", "",
             "| family | model_types | source | presets | fixtures |", "|---|---|---|---|---|"]
    for path in sorted((VLM / "models").glob("*.cpp")):
        text = path.read_text()
        types = sorted(re.findall(r'\.name = "(\w+)"', text) + re.findall(r'entry<\w+>\("(\w+)"\)', text))
        if not types:
            continue
        names = ", ".join(n for t in types for n in presets.pop(t, []))
        lines.append(f"| {path.stem} | {' '.join(f'`{t}`' for t in types)} | {source_of(text)} | "
                     f"{names} | {sum(golden.get(t, 0) for t in types)} |")
    if presets:
        lines += ["", "Presets whose type is not there yet: " +
                  "; ".join(f"{', '.join(n)} (`{t}`)" for t, n in presets.items()) + "."]
    return lines


if __name__ == "__main__":
    target = ROOT / "docs/models.md"
    if "--check" not in sys.argv:
        target.write_text(document())
    elif not target.exists() or target.read_text() != document():
        sys.exit("docs/models.md is not current: run python3 docs/make_models.py")
