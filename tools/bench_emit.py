#!/usr/bin/env python3
"""Emit the 32 x 32 decoder of SmolLM2-135M's shape: how long it takes, and how large the Verilog is."""
import argparse
import tempfile
import time
from pathlib import Path

from hwgen.emit import emit
from hwgen.models import quantize, random_checkpoint
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.presets import hw_shape
from tools import ledger

IMAGES = (".hex", ".bin")


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    design = Design(model=SMOLLM2_135M, hw=hw_shape("latency-32x32", SMOLLM2_135M), recipe=Recipe())
    quantized = quantize(random_checkpoint(SMOLLM2_135M), design.recipe)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "decoder"
        start = time.perf_counter()
        emit(design, quantized, out, name="decoder")
        seconds = time.perf_counter() - start
        size = sum(path.stat().st_size for path in out.iterdir() if path.suffix not in IMAGES)
        images = sum(path.stat().st_size for path in out.iterdir() if path.suffix in IMAGES)
    entry = {"kind": "measured", "command": "python -m tools.bench_emit"}
    ledger.record("emit.json", [
        {"name": "emit_32x32_seconds", "value": round(seconds, 1), "unit": "s", **entry},
        {"name": "emit_32x32_bytes", "value": size, "unit": "bytes", **entry},
        {"name": "emit_32x32_image_bytes", "value": images, "unit": "bytes", **entry}])
    print(f"{seconds:.1f} s, {size:,} bytes of Verilog and manifest, {images:,} bytes of weights")


if __name__ == "__main__":
    main()
