"""Writes a small wheel: make_wheel.py FOLDER NAME VERSION [--requires REQUIREMENT]... [PATH=TEXT]...

PATH lies below the package; TEXT may be @FILE for the content of a file."""

import argparse
import base64
import hashlib
import pathlib
import zipfile

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("name")
parser.add_argument("version")
parser.add_argument("--requires", action="append", default=[])
parser.add_argument("files", nargs="*")
options = parser.parse_intermixed_args()

package = options.name.replace("-", "_")
info = f"{package}-{options.version}.dist-info"
metadata = ["Metadata-Version: 2.1", f"Name: {options.name}", f"Version: {options.version}"]
metadata += [f"Requires-Dist: {requirement}" for requirement in options.requires]
files = {f"{package}/__init__.py": b""}
for item in options.files:
    path, _, text = item.partition("=")
    files[f"{package}/{path}"] = (
        pathlib.Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
    )
files[f"{info}/METADATA"] = ("\n".join(metadata) + "\n\nRequires-Dist: not-a-header\n").encode()
files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
record = ""
for path, content in files.items():
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    record += f"{path},sha256={digest},{len(content)}\n"
files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()

options.folder.mkdir(parents=True, exist_ok=True)
wheel = options.folder / f"{package}-{options.version}-py3-none-any.whl"
with zipfile.ZipFile(wheel, "w") as archive:
    for path, content in files.items():
        archive.writestr(path, content)
