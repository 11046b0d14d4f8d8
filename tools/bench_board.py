#!/usr/bin/env python3
"""What a board's bitstream does: its clock and size from the report of its build, its cycles from the simulated top.

The report is fpga/BOARD/report.json, a copy of what `hwgen fpga build --board BOARD` wrote; the Verilog that it was made of must be
today's. Tokens per second are the clock over the mean cycles of the decoded tokens of a text, which the machine's counters give through its UART, and the cycle
between two passes of the decode loop. Nothing has run on hardware.
"""
import argparse
import contextlib
import dataclasses
import json
from pathlib import Path

from hwgen.fpga.boards import BOARDS, board
from hwgen.fpga.build import sources_digest
from hwgen.golden.decode_loop import GAP
from hwgen.host.board import simulated_pins
from hwgen.host.link import Entry
from hwgen.models import load, quantize
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape
from hwgen.params.presets import recipe
from tools import ledger

ROOT = Path(__file__).resolve().parent.parent
PROMPT, TOKENS = "She was", 56


def smallest():
    """The board with the fewest LUTs of those that were built."""
    return min((b for b in BOARDS.values() if (ROOT / "fpga" / b.name / "report.json").exists()), key=lambda b: next(iter(b.capacity.values()))).name


@contextlib.contextmanager
def stage(text):
    print(text, flush=True)
    yield


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", default="ulx3s-85f")
    name = parser.parse_args().board
    report = json.loads((ROOT / "fpga" / name / "report.json").read_text())
    chosen = dataclasses.replace(board(name), clock=report["clock"], baud=report["baud"])
    checkpoint = load(report["model"])
    design = Design(model=checkpoint.shape, hw=HwShape(**report["shape"]), recipe=recipe(chosen.formats))
    quantized = quantize(checkpoint, design.recipe)
    if sources_digest(chosen, design, quantized) != report["verilog_sha256"]:
        raise SystemExit(f"fpga/{name}/report.json is of other Verilog than today's: build again, and copy build/fpga/{name}.json there")
    prompt = checkpoint.tokenizer.encode(PROMPT)
    cycles, tokens = [], []
    with simulated_pins(chosen, design, quantized, stage) as link:
        for position in range(min(len(prompt) + TOKENS, design.hw.context)):
            decoded = position >= len(prompt)
            result = link.run_pass([Entry(0, position, tokens[-1] if decoded else prompt[position], position >= len(prompt) - 1)])
            tokens += result.check().tokens.values()
            if decoded:
                cycles.append(result.cycles + GAP)
    print(checkpoint.tokenizer.decode(tokens))
    mean = sum(cycles) / len(cycles)
    prefix = name.replace("-", "_")
    built, simulated = f"hwgen fpga build --board {name}", f"python -m tools.bench_board --board {name}"
    rows = [("fmax", report["fmax"], "MHz", "measured", built), ("clock", report["clock"], "MHz", "measured", built),
            *((resource.lower(), used, "", "measured", built) for resource, used in report["used"].items()),
            ("parameters", checkpoint.shape.parameter_count, "", "measured", simulated),
            ("cycles_per_token", round(mean, 1), "cycles", "measured", simulated),
            ("tokens_per_second", round(1e6 * report["clock"] / mean), "tokens/s", "derived", simulated),
            *([("build_cpu", round(sum(report["cpu_seconds"].values())), "s", "measured", built)] if "cpu_seconds" in report else [])]
    rows = [(f"{prefix}_{n}", *rest) for n, *rest in rows]
    if name == smallest():
        rows += [(f"smallest_board_{n}", *next(rest for full, *rest in rows if full == f"{prefix}_{n}")) for n in ("tokens_per_second", "build_cpu")]
    ledger.record("boards.json", [{"name": n, "value": value, "unit": unit, "kind": kind, "command": command} for n, value, unit, kind, command in rows])
    for n, value, unit, *_ in rows:
        print(f"{n:36} {value:>12,} {unit}")


if __name__ == "__main__":
    main()
