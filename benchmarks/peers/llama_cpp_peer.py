#!/usr/bin/env python3
"""llama.cpp as a measured side of bench_llm: llama_cpp_peer.py FILE.gguf FORM THREADS FLASH(on|off).

Prints a JSON line when the model is loaded, then answers one request a line (see benchmarks/support/child.h).
FORM is "as is", or a type that the file is requantised to first, once, into the temporary folder.
"""
import json
import os
import resource
import sys
import tempfile
import time


def answer(**values):
    print(json.dumps(values), flush=True)


def requantised(path, form):
    """The file in another quantisation: llama.cpp's repacked kernels know Q4_0, not Q4_1."""
    import llama_cpp

    out = os.path.join(tempfile.gettempdir(), "mlxcpp-bench-" + os.path.basename(path) + "." + form + ".gguf")
    if not os.path.exists(out):
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = {"q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}[form]
        params.allow_requantize = True
        if llama_cpp.llama_model_quantize(path.encode(), (out + ".part").encode(), params) != 0:
            raise RuntimeError("llama_model_quantize failed")
        os.rename(out + ".part", out)
    return out


def main():
    path, form, threads, flash = sys.argv[1:5]
    stderr = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its loader's chatter
    try:
        from llama_cpp import Llama

        if form != "as is":
            path = requantised(path, form)
        model = Llama(path, n_ctx=2304, n_batch=512, n_threads=int(threads), n_threads_batch=int(threads),
                      flash_attn=flash == "on", verbose=False)
    except Exception as e:  # noqa: BLE001  the parent prints it
        answer(error=str(e))
        return
    os.dup2(stderr, 2)
    tokens = lambda n: [100 + i * 37 % 1000 for i in range(n)]

    def prefill(n):
        model.reset()
        start = time.perf_counter()
        model.eval(tokens(n))
        return n / (time.perf_counter() - start)

    def decode(context, n):
        model.reset()
        model.eval(tokens(context))
        start = time.perf_counter()
        for i in range(n):
            model.eval([100 + i])
        return n / (time.perf_counter() - start)

    answer(ready=True)
    for line in sys.stdin:
        request = line.strip()
        if request == "first_token":
            prefill(32)
            answer(value=0)
        elif request == "peak_memory":
            prefill(512)
            decode(1, 128)
            answer(value=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
        elif request.startswith("prefill_"):
            answer(value=prefill(int(request[8:])))
        elif request == "decode_128":
            answer(value=decode(1, 128))
        elif request == "decode_2048":
            answer(value=decode(2048, 32))
        else:
            answer(error="unknown request " + request)


main()
