"""The other side of bench_embedders: embedder_peer.py torch|onnxruntime|llama.cpp FOLDER THREADS.

Requests and answers as in bench_embedders.cpp. ONNX Runtime runs the folder's onnx/model.onnx, or an export that is made
for the run; llama.cpp a GGUF file that is (F32). Both need the packages that write those: onnx, gguf.
"""

import json
import os
import pathlib
import sys
import tempfile
import time

KIND, FOLDER, THREADS = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
SECONDS = 1.0
OUT = os.fdopen(os.dup(1), "w")  # libraries print what they like to the other
os.dup2(2, 1)


def answer(value):
    OUT.write(json.dumps(value) + "\n")
    OUT.flush()


def texts_of(length, batch):
    ids = [[1000 + (b * 7919 + i * 104729) % 20000 for i in range(length)] for b in range(batch)]
    for row in ids:
        row[0], row[-1] = 101, 102
    return ids


def torch_model():
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    model = transformers.AutoModel.from_pretrained(FOLDER, dtype=torch.float32).eval()
    return torch, model


def torch_side():
    torch, model = torch_model()

    @torch.inference_mode()
    def embed(ids):
        x = torch.tensor(ids)
        mask = torch.ones_like(x)
        hidden = model(input_ids=x, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).float()
        pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=-1).numpy()

    return embed


def onnx_side():
    import numpy as np
    import onnxruntime as ort

    path = FOLDER / "onnx" / "model.onnx"
    if not path.exists():
        torch, model = torch_model()
        path = pathlib.Path(tempfile.mkdtemp()) / "model.onnx"

        class Encoder(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, input_ids, attention_mask):
                return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

        x = torch.ones(2, 8, dtype=torch.long)
        axes = {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}}
        torch.onnx.export(Encoder(), (x, x), path, input_names=list(axes), output_names=["hidden"], dynamic_axes=axes,
                          dynamo=False, opset_version=17)
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}

    def embed(ids):
        x = np.array(ids, dtype=np.int64)
        given = {"input_ids": x, "attention_mask": np.ones_like(x), "token_type_ids": np.zeros_like(x)}
        hidden = session.run(None, {k: v for k, v in given.items() if k in names})[0]
        pooled = hidden.mean(1)
        return pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)

    return embed


def gguf_file():
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    config = json.loads((FOLDER / "config.json").read_text())
    names = {"embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
             "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
             "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
             "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
             "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
    path = pathlib.Path(tempfile.mkdtemp()) / "model.gguf"
    w = gguf.GGUFWriter(path, "bert")
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(config["num_attention_heads"])
    w.add_layer_norm_eps(config["layer_norm_eps"])
    w.add_causal_attention(False)
    w.add_pooling_type(gguf.PoolingType.MEAN)
    vocab = (FOLDER / "vocab.txt").read_text().split("\n")[: config["vocab_size"]]
    w.add_tokenizer_model("bert")
    w.add_token_type_count(config["type_vocab_size"])
    w.add_token_list([t if t[:1] == "[" and t[-1:] == "]" else t[2:] if t.startswith("##") else "\u2581" + t for t in vocab])
    w.add_token_types([gguf.TokenType.NORMAL] * len(vocab))
    for name, add in (("[UNK]", w.add_unk_token_id), ("[SEP]", w.add_sep_token_id), ("[PAD]", w.add_pad_token_id),
                      ("[CLS]", w.add_bos_token_id), ("[MASK]", w.add_mask_token_id)):
        add(vocab.index(name))
    for name, x in load_file(FOLDER / "model.safetensors").items():
        stem, suffix = name.rsplit(".", 1)
        before = ""
        if stem.startswith("encoder.layer."):
            number, stem = stem[len("encoder.layer."):].split(".", 1)
            before = f"blk.{number}."
        if stem in names:
            w.add_tensor(f"{before}{names[stem]}.{suffix}", np.ascontiguousarray(x, dtype=np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def llama_side():
    import llama_cpp

    model = llama_cpp.Llama(str(gguf_file()), embedding=True, n_ctx=4096, n_batch=4096, n_ubatch=4096, n_threads=THREADS,
                            n_threads_batch=THREADS, verbose=False)
    model.tokenize = lambda text, *a, **k: text  # texts are token ids already
    class Ids(list):
        def encode(self, *_):
            return self

    def embed(ids):
        return model.embed([Ids(row) for row in ids], normalize=True)

    return embed


def main():
    embed = {"torch": torch_side, "onnxruntime": onnx_side, "llama.cpp": llama_side}[KIND]()
    embed(texts_of(8, 2))
    answer({"ready": True})
    for line in sys.stdin:
        words = line.split()
        if words == ["peak_memory"]:
            import resource
            answer({"value": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3})
            continue
        length, batch = map(int, words)
        texts = texts_of(length, batch)
        embed(texts)
        start = time.perf_counter()
        done = 0
        while True:
            embed(texts)
            done += batch
            seconds = time.perf_counter() - start
            if seconds >= SECONDS:
                break
        answer({"value": done / seconds})


if __name__ == "__main__":
    try:
        main()
    except Exception as e:  # one line, for the other side
        answer({"error": f"{type(e).__name__}: {e}".split("\n")[0][:300]})
