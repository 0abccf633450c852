"""Answers with tool calls, as the models of each format write them, for tool_calls_test.

Each transcript names where its form is published; names and arguments are this script's. What is
expected is what went in, so that the parsers are held to Python's json and repr, not to themselves.
  python tests/scripts/make_tool_transcripts.py > tests/lm_common/tool_transcripts.json
"""
import json

CALLS = [
    ("get_current_weather", {"location": "Boston, MA", "unit": "celsius"}),
    ("get_time", {}),
    ("add", {"a": 3, "b": -4}),
    ("scale", {"factor": 1.5, "exact": False}),
    ("search", {"query": "Wie spät ist es in 東京? 😀", "limit": 10}),
    ("write_file", {"path": "/tmp/a b.txt", "content": "line one\nline two\twith a tab"}),
    ("quote", {"text": 'He said "stop" and \'go\''}),
    ("path", {"windows": "C:\\new\\table"}),
    ("send", {"to": ["ann@example.org", "bob@example.org"], "urgent": True}),
    ("order", {"items": [{"name": "tea", "count": 2}, {"name": "milk", "count": 1}], "note": None}),
    ("nested", {"options": {"depth": {"deeper": [1, [2, [3]]]}, "flag": True}}),
    ("big", {"number": 9007199254740993, "small": -0.00001}),
    ("math.evaluate", {"expression": "2 * (3 + 4) <= 14 && x[0] != {1}"}),
    ("brackets", {"text": "} ] ) { [ ("}),
    ("empty", {"text": "", "list": [], "object": {}}),
    ("digits", {"code": "007", "zip": "12345", "truth": "true"}),
    ("spaces", {"text": "  two before, two after  "}),
    ("unicode", {"text": "e\u0301 \u00df \u2028 \U0001f468\u200d\U0001f469\u200d\U0001f467"}),
    ("python", {"code": "for i in range(3):\n    print(f'{i}')  # three"}),
    ("markup", {"html": "<a href='x'>y</a> & <b>z</b>", "n": 0}),
]


def typed(value):
    for kind, name in ((bool, "boolean"), (str, "string"), (int, "integer"), (float, "number"),
                       (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "null"


def dump(value, i):
    return json.dumps(value, ensure_ascii=i % 2 == 0, indent=2 if i % 5 == 4 else None)


def one(name, arguments, key="arguments", name_key="name"):
    return {name_key: name, key: arguments}


def python(name, arguments):
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"


def function_gemma(value):
    if isinstance(value, str):
        return f"<escape>{value}<escape>"
    if isinstance(value, list):
        return "[" + ",".join(map(function_gemma, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{function_gemma(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


# Each gives text for a list of calls; `i` numbers the transcript.
def json_tags(calls, i):
    gap = "\n" if i % 3 else ""
    return "\n".join(f"<tool_call>{gap}{dump(one(*c), i)}{gap}</tool_call>" for c in calls)


def llama3(calls, i):
    tag = "<|python_tag|>" if i % 4 == 1 else ""
    return tag + "; ".join(dump(one(*c, key="parameters"), i) for c in calls)


def llama3_builtin(calls, i):
    return "<|python_tag|>" + python(calls[0][0] + ".call", calls[0][1])


def llama3_list(calls, i):
    return f"[{', '.join(python(*c) for c in calls)}]"


def mistral_list(calls, i):
    listed = [dict(one(*c), id=f"call{i:05d}") for c in calls]
    return "[TOOL_CALLS]" + (" " if i % 2 else "") + dump(listed, i)


def mistral_named(calls, i):
    call_id = f"[CALL_ID]a1B2c3{i:03d}" if i % 4 == 3 else ""
    return "".join(f"[TOOL_CALLS]{n}{call_id}[ARGS]{dump(a, i)}" for n, a in calls)


def gemma_function(calls, i):
    return "".join(f"<start_function_call>call:{n}{function_gemma(a)}<end_function_call>"
                   for n, a in calls)


def gemma_code(calls, i):
    form = "print({})" if i % 2 else "{}"
    return "```tool_code\n" + "\n".join(form.format(python(*c)) for c in calls) + "\n```"


def gemma_json(calls, i):
    return dump(one(*calls[0], key="parameters"), i)


def deepseek_v3(calls, i):
    return "<｜tool▁calls▁begin｜>" + "\n".join(
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{n}\n```json\n{dump(a, i)}\n```<｜tool▁call▁end｜>"
        for n, a in calls) + "<｜tool▁calls▁end｜>"


def deepseek_v31(calls, i):
    return "<｜tool▁calls▁begin｜>" + "".join(
        f"<｜tool▁call▁begin｜>{n}<｜tool▁sep｜>{dump(a, i)}<｜tool▁call▁end｜>"
        for n, a in calls) + "<｜tool▁calls▁end｜>"


def glm4_plain(calls, i):
    return f"{calls[0][0]}\n{dump(calls[0][1], i)}"


def glm4_tags(calls, i):
    def pair(key, value):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return f"<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n"
    return "\n".join(f"<tool_call>{n}\n" + "".join(pair(*p) for p in a.items()) + "</tool_call>"
                     for n, a in calls)


def phi4(calls, i):
    return f"<|tool_call|>{dump([one(*c) for c in calls], i)}<|/tool_call|>"


def phi4_functools(calls, i):
    return "functools" + dump([one(*c) for c in calls], i)


def smollm3(calls, i):
    form = "result = {}" if i % 3 == 2 else "{}"
    return "<code>\n" + "\n".join(form.format(python(*c)) for c in calls) + "\n</code>"


def lfm2(calls, i):
    return f"<|tool_call_start|>[{', '.join(python(*c) for c in calls)}]<|tool_call_end|>"


def cohere_action(calls, i):
    listed = [{"tool_call_id": str(n), "tool_name": c[0], "parameters": c[1]}
              for n, c in enumerate(calls)]
    return f"<|START_ACTION|>{dump(listed, i)}<|END_ACTION|>"


def cohere_markdown(calls, i):
    listed = [one(*c, key="parameters", name_key="tool_name") for c in calls]
    return f"Action: ```json\n{json.dumps(listed, indent=4, ensure_ascii=False)}\n```"


# format, form, where it is published, calls in one answer, text may stand before
FORMS = [
    ("json", json_tags, "chat template of Qwen/Qwen3-0.6B", 3, True),
    ("json", json_tags, "chat template of HuggingFaceTB/SmolLM3-3B, xml_tools", 3, True),
    ("llama3", llama3, "meta-llama/llama-models models/llama3_1/prompt_format.md", 2, False),
    ("llama3", llama3_builtin, "meta-llama/llama-models models/llama3_1/prompt_format.md", 1, False),
    ("llama3", llama3_list, "meta-llama/llama-models models/llama3_2/text_prompt_format.md", 2, False),
    ("mistral", mistral_list, "mistralai/mistral-common tokens/tokenizers/instruct.py v3", 3, True),
    ("mistral", mistral_named, "mistralai/mistral-common tokens/tokenizers/instruct.py v11", 3, True),
    ("gemma", gemma_function, "model card of google/functiongemma-270m-it", 2, True),
    ("gemma", gemma_code, "ai.google.dev: Function calling with Gemma", 2, True),
    ("gemma", llama3_list, "ai.google.dev: Function calling with Gemma", 2, False),
    ("gemma", gemma_json, "ai.google.dev: Function calling with Gemma", 1, False),
    ("deepseek", deepseek_v3, "chat template of deepseek-ai/DeepSeek-V3-0324", 3, True),
    ("deepseek", deepseek_v31, "chat template of deepseek-ai/DeepSeek-V3.1", 3, True),
    ("glm4", glm4_plain, "chat template of zai-org/GLM-4-9B-0414", 1, False),
    ("glm4", glm4_tags, "chat template of zai-org/GLM-4.5", 3, True),
    ("phi4", phi4, "model card of microsoft/Phi-4-mini-instruct", 3, True),
    ("phi4", phi4_functools, "vllm tool_parsers/phi4mini_tool_parser.py", 3, True),
    ("smollm3_python", smollm3, "chat template of HuggingFaceTB/SmolLM3-3B, python_tools", 2, True),
    ("lfm2", lfm2, "model card of LiquidAI/LFM2-1.2B", 3, True),
    ("cohere", cohere_action, "chat template of CohereLabs/c4ai-command-r7b-12-2024", 3, True),
    ("cohere", cohere_markdown, "chat template of CohereLabs/c4ai-command-r-v01", 3, True),
]


def transcripts():
    for fmt, form, source, most, prose in FORMS:
        for i, call in enumerate(CALLS):
            calls = [call] + [CALLS[(i + 7 * k) % len(CALLS)] for k in range(1, 1 + i % most)]
            before = "I'll look < that > up. " if prose and i % 4 == 2 else ""
            yield {"format": fmt, "source": source, "text": before + form(calls, i),
                   "shown": before,
                   "calls": [{"name": n, "arguments": a} for n, a in calls],
                   "types": {n: {k: typed(v) for k, v in a.items()} for n, a in calls}}


if __name__ == "__main__":
    print(json.dumps(list(transcripts()), ensure_ascii=False, indent=0))
