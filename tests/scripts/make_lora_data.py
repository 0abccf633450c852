"""The sample data of `llm-tool lora`: requests to a house, and the commands that they mean.

    python make_lora_data.py DIR        # writes DIR/{train,valid,test}.jsonl

The sets share no line, and no pair of device and room: what is learned is the language, not the house.
"""

import json
import pathlib
import random
import sys

ROOMS = ["kitchen", "bedroom", "bathroom", "office", "hall", "garage", "cellar", "attic", "nursery", "library", "porch", "studio"]
SWITCHED = ["lamp", "fan", "radio", "heater", "kettle", "printer", "camera", "alarm"]
GRADED = {"lamp": "brightness", "blinds": "position", "radio": "volume", "fan": "speed", "curtain": "position"}
POLITE = ["", "", "Please ", "Could you ", "Can you ", "I would like you to "]
ON = ["turn on the {d} in the {r}", "switch on the {r} {d}", "switch the {d} in the {r} on", "get the {r} {d} going", "start the {d} in the {r}"]
OFF = ["turn off the {d} in the {r}", "switch off the {r} {d}", "switch the {d} in the {r} off", "stop the {r} {d}", "shut down the {d} in the {r}"]
SET = ["set the {r} {d} to {n} percent", "bring the {d} in the {r} to {n} percent", "put the {r} {d} at {n} percent", "I want the {d} in the {r} at {n} percent"]
TIMES = ["", "", " at {t}", " at {t}", " every day at {t}"]
ASK = ["is the {d} in the {r} on", "tell me whether the {r} {d} is running", "what is the {d} in the {r} doing", "check the {r} {d}"]


def sentence(rng, device, room):
    kind = rng.choice(["on", "off", "set", "ask"] if device in GRADED else ["on", "off", "ask"])
    if device not in SWITCHED and kind != "ask":
        kind = "set"
    number = 5 * rng.randrange(1, 20)
    time = f"{rng.randrange(5, 23):02}:{rng.choice(['00', '15', '30', '45'])}"
    text = rng.choice({"on": ON, "off": OFF, "set": SET, "ask": ASK}[kind]).format(d=device, r=room, n=number)
    command = f"{room}.{device}"
    command += {"on": " = on", "off": " = off", "set": f".{GRADED.get(device)} = {number}", "ask": "?"}[kind]
    when = rng.choice(TIMES) if kind != "ask" else ""
    text += when.format(t=time)
    if when:
        command += (" @daily " if "every" in when else " @") + time
    polite = "" if text.startswith("I ") or kind == "ask" else rng.choice(POLITE)
    text = polite + text
    question = kind == "ask" and not text.startswith(("tell", "check")) or polite in ("Could you ", "Can you ")
    return {"prompt": text[0].upper() + text[1:] + ("?" if question else "."), "completion": command}


def main():
    folder = pathlib.Path(sys.argv[1])
    rng = random.Random(7)
    devices = sorted(set(SWITCHED) | set(GRADED))
    pairs = [(d, r) for d in devices for r in ROOMS]
    rng.shuffle(pairs)
    seen = set()
    for name, part, count in (("valid", pairs[:16], 60), ("test", pairs[16:32], 60), ("train", pairs[32:], 600)):
        lines = []
        while len(lines) < count:
            line = json.dumps(sentence(rng, *rng.choice(part)))
            if line not in seen:
                seen.add(line)
                lines.append(line)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
