#!/usr/bin/env python3
"""Lint emitted Verilog with all of Verilator's warnings but those that are waived, each with its reason.

Without folders it emits some decoders of the demo model, and lints those.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

from hwgen.emit import emit
from hwgen.lib.verilator import WAIVERS, VerilatorError, lint
from hwgen.models import load, quantize
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.params.presets import hw_shape, recipe

#: (shape, formats, buses): between them every unit in every form
DECODERS = (("tiny", "", None), ("demo", "head=pair", None),
            ("demo,entries=3,slots=2,tile_beats=4,source=stream,sampler=gumbel,kv_blocks=20,kv_ecc=1", "e4m3", None),
            ("tiny,entries=4,halves=2,slots=3,source=stream", "", None), ("tiny,source=stream", "", AxiShape()),
            ("tiny,slots=2,source=stream,kv_port=128", "", None),
            ("tiny,entries=2,kv_block=1,source=stream,kv_port=8", "", AxiShape(address_width=64)),
            ("tiny,entries=4,halves=2,slots=3,adapters=3,source=stream", "", None),
            ("tiny,entries=2,source=stream,sampler=gumbel", "",
             AxiShape(data_width=512, address_width=40, host="queue")))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="*", type=Path, help="an output of `hwgen emit`")
    parser.add_argument("--waivers", action="store_true", help="only list what is waived, and why")
    options = parser.parse_args()
    if options.waivers:
        print("\n".join(f"{name:16} {reason}" for name, reason in WAIVERS.items()))
        return 0
    with tempfile.TemporaryDirectory() as work:
        folders = options.folder or _decoders(Path(work))
        return max([_lint(folder) for folder in folders])


def _decoders(work):
    checkpoint = load("demo", need_tokenizer=False)
    for i, (shape, formats, axi) in enumerate(DECODERS):
        design = Design(model=checkpoint.shape, hw=hw_shape(shape, checkpoint.shape), recipe=recipe(formats or None))
        print(f"emitting --shape {shape}" + (f" --formats {formats}" if formats else "")
              + (f" on {axi}" if axi else ""), file=sys.stderr)
        folder = work / f"decoder{i}"
        emit(design, quantize(checkpoint, design.recipe), folder, name=folder.name, axi=axi)
        yield folder


def _lint(folder):
    """The exit code."""
    try:
        top = json.loads((folder / "manifest.json").read_text())["top"]
    except (OSError, ValueError, KeyError) as error:
        print(f"{folder}: Folder must be an output of `hwgen emit` ({error})", file=sys.stderr)
        return 2
    try:
        lint(folder / f"{top}.v", top)
    except VerilatorError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{folder.name}: clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
