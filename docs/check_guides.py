"""Holds the guides to the code that they quote.

  python3 docs/check_guides.py            fails when a quotation is not what its file has (a test does this)
  python3 docs/check_guides.py --write    brings the quotations up to date

A quotation is a fenced block after a line
  <!-- quote FILE [NAME] -->              the lines between `[NAME]` and `[/NAME]` in comments of FILE
  <!-- quote FILE "FIRST" "LAST" -->      from the first line that begins with FIRST (white space apart) to the next that begins with LAST
FILE is relative to the repository. Files that a guide names in backticks must exist, too.
"""
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
GUIDES = ["adding-a-model.md", "python-to-cpp.md", "testing-and-debugging.md", "troubleshooting.md"]
QUOTE = re.compile(r'^<!-- quote (\S+) (?:\[(\w+)\]|"(.*?)" "(.*?)") -->\n(```\w*\n)(.*?)(^```$)', re.M | re.S)


def region(name, mark, first, last):
    lines = (ROOT / name).read_text().splitlines()
    if mark:
        begin = next((i for i, line in enumerate(lines) if re.match(rf"\s*(//|#) \[{mark}\]$", line)), None)
        end = next((i for i, line in enumerate(lines) if re.match(rf"\s*(//|#) \[/{mark}\]$", line)), None)
        found = None if begin is None or end is None else lines[begin + 1:end]
    else:
        begin = next((i for i, line in enumerate(lines) if line.strip().startswith(first)), None)
        end = None if begin is None else next(
            (i for i, line in enumerate(lines) if i >= begin and line.strip().startswith(last)), None)
        found = None if end is None else lines[begin:end + 1]
    if found is None:
        raise SystemExit(f"{name}: there is no {mark or (first, last)} to quote")
    return textwrap.dedent("\n".join(found)).strip("\n") + "\n"


def main():
    wrong = []
    for guide in GUIDES:
        path = ROOT / "docs" / guide
        text = path.read_text()
        made = QUOTE.sub(lambda m: m[0][:m.start(6) - m.start()] + region(*m.group(1, 2, 3, 4)) + m[7], text)
        if text.count("<!-- quote ") != len(QUOTE.findall(text)):
            wrong.append(f"docs/{guide}: a quotation without its block")
        if made != text and "--write" in sys.argv:
            path.write_text(made)
        elif made != text:
            wrong.append(f"docs/{guide}: a quotation is out of date: python3 docs/check_guides.py --write")
        for name in re.findall(r"`((?:libraries|tests|tools|docs|benchmarks)/[\w./-]+)`", text):
            if not (ROOT / name).exists():
                wrong.append(f"docs/{guide}: {name} does not exist")
    for line in wrong:
        print(line, file=sys.stderr)
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
