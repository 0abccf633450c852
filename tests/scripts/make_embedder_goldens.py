"""Embedders as golden fixtures for `./mlx-run golden`: distilbert from transformers; bert_gguf, an F32 GGUF file with the
weights of the fixture bert, laid out as llama.cpp's converter (convert_hf_to_gguf.py) lays them out; and the other folders,
cut from larger fixtures of the same form to a layer or two, their numbers computed anew.

    pip install torch==2.15.* transformers==5.23.* tokenizers safetensors numpy gguf
    python tests/scripts/make_embedder_goldens.py [distilbert] [bert_gguf]
    python tests/scripts/make_embedder_goldens.py cut FOLDER      # with bert, roberta, ... as folders in it
"""

import json
import math
import pathlib
import shutil
import sys

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from safetensors.torch import save_file
from tokenizers import Tokenizer

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden" / "embedders"
TEXTS = ["The quick brown fox jumps over the lazy dog.", "What is in this picture?",
         "Bread is made of flour, water, salt and yeast; how to bake it?", "Yes"]


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


@torch.no_grad()
def distilbert():
    """multi-qa-distilbert layout: mean pooling, normalised. The tokenizer is that of the fixture bert."""
    folder = GOLDEN / "distilbert"
    shutil.rmtree(folder, ignore_errors=True)
    config = {"activation": "gelu", "architectures": ["DistilBertModel"], "attention_dropout": 0.1, "dim": 48,
              "dropout": 0.1, "hidden_dim": 96, "initializer_range": 0.02, "max_position_embeddings": 64,
              "model_type": "distilbert", "n_heads": 4, "n_layers": 2, "pad_token_id": 0, "qa_dropout": 0.1,
              "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False, "tie_weights_": True,
              "transformers_version": "4.6.1", "vocab_size": 260}
    write_json(folder / "config.json", config)
    for name in ("tokenizer.json", "tokenizer_config.json", "modules.json", "1_Pooling/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(GOLDEN / "bert" / name, folder / name)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})

    model = transformers.DistilBertModel(transformers.DistilBertConfig.from_dict(config)).float().eval()
    random = torch.Generator().manual_seed(17)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=random)
        if p.ndim == 1:
            p.copy_(("norm" in name.lower() and name.endswith("weight")) + 0.1 * noise)
        else:
            p.copy_(noise * (0.7 if "embeddings" in name else 1 / math.sqrt(p.shape[1])))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [tokenizer.encode(t).ids for t in TEXTS]
    length = max(map(len, ids))
    batch = torch.tensor([i + [0] * (length - len(i)) for i in ids])
    mask = torch.tensor([[1] * len(i) + [0] * (length - len(i)) for i in ids])
    hidden = model(input_ids=batch, attention_mask=mask).last_hidden_state
    weights = mask[..., None].float()
    pooled = (hidden * weights).sum(1) / weights.sum(1)
    golden = {f"plain.ids{i}": torch.tensor(x) for i, x in enumerate(ids)}
    golden |= {"plain.hidden0": model(input_ids=torch.tensor(ids[:1])).last_hidden_state, "plain.pooled": pooled,
               "plain.embeddings": torch.nn.functional.normalize(pooled, dim=-1)}
    save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    write_json(folder / "golden.json", {
        "name": "distilbert",
        "reference": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]} (CPU, float32); pooling and "
                     "normalisation as sentence-transformers does",
        "tolerance": {"hidden_max_abs": 1e-4, "embedding_max_abs": 1e-5, "ids": "exact"},
        "cases": [{"name": "plain", "prompt": "", "texts": TEXTS, "pooling": "mean", "normalized": True}]})


BERT = {"embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
        "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
        "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
        "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
        "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}


def twin(name, arch, names, layers, sizes):
    folder = GOLDEN / f"{name}_gguf"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    config = json.loads((GOLDEN / name / "config.json").read_text())
    get = lambda keys: next(config[k] for k in keys if k in config)  # noqa: E731
    w = gguf.GGUFWriter(folder / "model.gguf", arch)
    w.add_context_length(get(sizes["context"]))
    w.add_embedding_length(get(sizes["width"]))
    w.add_block_count(get(sizes["layers"]))
    w.add_feed_forward_length(get(sizes["inner"]))
    w.add_head_count(get(sizes["heads"]))
    w.add_layer_norm_eps(get(sizes["eps"]))
    w.add_causal_attention(False)
    w.add_pooling_type(gguf.PoolingType.MEAN)
    # The vocabulary as the converter writes WordPiece: "##ing" as "ing", "word" as "▁word".
    tokenizer = json.loads((GOLDEN / name / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    special = {t["id"] for t in tokenizer["added_tokens"]}
    pieces = [f"[PAD{i}]" for i in range(config["vocab_size"])]
    for text, i in vocab.items():
        pieces[i] = text if i in special else text[2:] if text.startswith("##") else "\u2581" + text
    kinds = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.UNUSED if i >= len(vocab) else gguf.TokenType.NORMAL
             for i in range(len(pieces))]
    w.add_tokenizer_model("bert")
    w.add_tokenizer_pre("default")
    w.add_token_type_count(config["type_vocab_size"])
    w.add_token_list(pieces)
    w.add_token_types(kinds)
    w.add_unk_token_id(vocab["[UNK]"])
    w.add_sep_token_id(vocab["[SEP]"])
    w.add_pad_token_id(vocab["[PAD]"])
    w.add_bos_token_id(vocab["[CLS]"])
    w.add_mask_token_id(vocab["[MASK]"])
    for tensor, x in load_file(GOLDEN / name / "model.safetensors").items():
        path, suffix = tensor.rsplit(".", 1)
        if path.startswith("pooler"):
            continue
        before = ""
        if path.startswith(layers):
            number, path = path[len(layers):].split(".", 1)
            before = f"blk.{number}."
        w.add_tensor(f"{before}{names[path]}.{suffix}", np.ascontiguousarray(x, dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    write_json(folder / "golden.json", {"name": f"{name}_gguf", "twin": name})


# Which layers stay; where the tensors of layer N are.
CUT = {"bert": ([0, 1], "encoder.layer."), "roberta": ([0], "encoder.layer."), "xlm_roberta": ([0, 1], "encoder.layer."),
       "xlm_roberta_cls": ([0], "encoder.layer."), "nomic_bert": ([0, 1], "encoder.layers."),
       "modernbert": ([0, 1], "layers."), "qwen3_embedding": ([0, 1], "layers."), "embeddinggemma": ([2, 3], "layers."),
       "bert_reranker": ([0], "bert.encoder.layer."), "xlm_roberta_reranker": ([0], "roberta.encoder.layer."),
       "qwen3_reranker": ([0], "model.layers.")}
CLASSES = {"bert": "BertModel", "roberta": "RobertaModel", "xlm_roberta": "XLMRobertaModel", "xlm_roberta_cls": "XLMRobertaModel",
           "nomic_bert": "NomicBertModel", "modernbert": "ModernBertModel", "qwen3_embedding": "Qwen3Model",
           "embeddinggemma": "Gemma3TextModel", "bert_reranker": "BertForSequenceClassification",
           "xlm_roberta_reranker": "XLMRobertaForSequenceClassification", "qwen3_reranker": "Qwen3ForCausalLM"}


def reference(name, folder):
    more = {}
    if name == "nomic_bert":  # published under other names than transformers' own
        c = json.loads((folder / "config.json").read_text())
        more["config"] = transformers.NomicBertConfig(
            vocab_size=c["vocab_size"], hidden_size=c["n_embd"], num_hidden_layers=c["n_layer"], num_attention_heads=c["n_head"],
            intermediate_size=c["n_inner"], max_position_embeddings=c["n_positions"], layer_norm_eps=c["layer_norm_epsilon"],
            rope_parameters={"rope_type": "default", "rope_theta": float(c["rotary_emb_base"])})
    model, info = getattr(transformers, CLASSES[name]).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **more)
    assert not info["missing_keys"], info["missing_keys"]
    return model.eval()


def pool(hidden, mode):
    return {"mean": hidden.mean(1), "cls": hidden[:, 0], "lasttoken": hidden[:, -1]}[mode][0]


@torch.no_grad()
def cut(source, name):
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source / name, folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    keep, prefix = CUT[name]
    config = json.loads((folder / "config.json").read_text())
    config["n_layer" if "n_layer" in config else "num_hidden_layers"] = len(keep)
    if "layer_types" in config:
        config["layer_types"] = [config["layer_types"][i] for i in keep]
    write_json(folder / "config.json", config)
    weights = {}
    for tensor, x in load_file(folder / "model.safetensors").items():
        if tensor.startswith(prefix):
            number, rest = tensor[len(prefix):].split(".", 1)
            if int(number) not in keep:
                continue
            tensor = f"{prefix}{keep.index(int(number))}.{rest}"
        weights[tensor] = torch.from_numpy(x)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    golden = {k: torch.from_numpy(v) for k, v in load_file(folder / "golden.safetensors").items()}
    info = json.loads((folder / "golden.json").read_text())
    info.pop("roundtrip", None)
    info["comments"] = info.get("comments", []) + [f"layers {keep} of a larger fixture"]
    model = reference(name, folder)
    case = info["cases"][0]
    if "pairs" in case:
        scores = []
        for i in range(len(case["pairs"])):
            ids = golden[f"pair{i}.input_ids"]
            types = {"token_type_ids": golden[t]} if (t := f"pair{i}.token_type_ids") in golden else {}
            logits = model(input_ids=ids, **types).logits
            if "token_true_id" in case:
                golden[f"pair{i}.logits_last"] = logits[0, -1]
                scores.append(torch.sigmoid(logits[0, -1, case["token_true_id"]] - logits[0, -1, case["token_false_id"]]))
            else:
                scores.append(logits[0, 0])
        scores = torch.stack(scores)
        if "token_true_id" in case:
            golden["scores"] = scores
            case["scores"] = scores.tolist()
        else:
            golden |= {"logits": scores, "sigmoid": torch.sigmoid(scores)}
            case |= {"logits": scores.tolist(), "order_best_first": scores.argsort(descending=True).tolist()}
    else:
        dense = [torch.from_numpy(load_file(f)["linear.weight"]) for f in sorted(folder.glob("*_Dense/model.safetensors"))]
        for c in info["cases"]:
            hidden = [model(input_ids=golden[f"{c['name']}.ids{i}"][None]).last_hidden_state for i in range(len(c["texts"]))]
            if c["name"] == "plain":
                golden["plain.hidden0"] = hidden[0]
            x = golden[f"{c['name']}.pooled"] = torch.stack([pool(h, c["pooling"]) for h in hidden])
            for w in dense:
                x = x @ w.T
            if dense:
                golden[f"{c['name']}.dense"] = x
            x = golden[f"{c['name']}.embeddings"] = torch.nn.functional.normalize(x, dim=-1)
            c["cosine"] = [[round(float(v), 6) for v in row] for row in x @ x.T]
        for key in [k for k in golden if k.startswith("matryoshka.")]:
            x = torch.nn.functional.layer_norm(golden["plain.pooled"], golden["plain.pooled"].shape[1:])
            golden[key] = torch.nn.functional.normalize(x[:, :int(key.split(".")[1])], dim=-1)
    save_file({k: v.contiguous() for k, v in golden.items()}, folder / "golden.safetensors")
    write_json(folder / "golden.json", info)


def bert_gguf():
    twin("bert", "bert", BERT, "encoder.layer.",
         {"context": ["max_position_embeddings"], "width": ["hidden_size"], "layers": ["num_hidden_layers"],
          "inner": ["intermediate_size"], "heads": ["num_attention_heads"], "eps": ["layer_norm_eps"]})


if __name__ == "__main__":
    if sys.argv[1:2] == ["cut"]:
        for name in CUT:
            cut(pathlib.Path(sys.argv[2]), name)
    else:
        for name in sys.argv[1:] or ["distilbert", "bert_gguf"]:
            {"distilbert": distilbert, "bert_gguf": bert_gguf}[name]()
