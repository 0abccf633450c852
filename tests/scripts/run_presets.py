"""Runs every preset of llm-tool that lies whole in the local cache, and reports.

  python3 tests/scripts/run_presets.py [--tool build/release/bin/llm-tool] [--max-tokens 24]

Nothing is downloaded. Exit status 1 when a preset that is in the cache failed.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", default=str(ROOT / "build/release/bin/llm-tool"))
    parser.add_argument("--max-tokens", default="24")
    parser.add_argument("--prompt", default="Why is the sky blue?")
    args = parser.parse_args()
    offline = dict(os.environ, HF_HUB_OFFLINE="1")
    listed = subprocess.run([args.tool, "list", "llms"], capture_output=True, text=True, check=True)
    presets = [line.strip() for line in listed.stdout.split("\n\n")[0].splitlines() if "/" in line]
    counts = {"ok": 0, "failed": 0, "not in the cache": 0}
    for preset in presets:
        begun = time.monotonic()
        run = subprocess.run(
            [args.tool, "--model", preset, "--prompt", args.prompt, "--temperature", "0",
             "--max-tokens", args.max_tokens], capture_output=True, text=True, env=offline)
        if run.returncode == 0:
            state, detail = "ok", run.stdout.strip().replace("\n", " ")
        else:
            detail = (run.stderr.strip().splitlines() or ["no message"])[-1]
            state = "not in the cache" if "offline (HF_HUB_OFFLINE)" in detail else "failed"
        counts[state] += 1
        if state != "not in the cache":
            print(f"{preset}: {state}, {time.monotonic() - begun:.1f} s: {detail[:160]}", flush=True)
    print(", ".join(f"{n} {state}" for state, n in counts.items()))
    return counts["failed"] > 0


if __name__ == "__main__":
    sys.exit(main())
