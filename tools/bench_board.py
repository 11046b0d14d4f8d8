#!/usr/bin/env python3
"""What a board's bitstream does: its clock and size from the report of its build, its cycles from the simulated top.

The report is fpga/BOARD/report.json, a copy of what `hwgen fpga build --board BOARD` wrote; the Verilog that it was
made of must be today's. Tokens per second are the clock over the mean cycles of a decoded token, which the machine's
counters give through its UART, and the cycle
between two passes of the decode loop, while texts grow to 32 or 64 tokens, prompts included: attention takes longer as
they do. The figure without a suffix is of as many texts at once as a pass has entries, and of the longer that there is
room for (`texts`, `text_tokens`); `_4x32` is of 4 texts of 32 tokens. Of a board that has no report there are Yosys'
counts. Nothing has run on hardware.
"""
import argparse
import dataclasses
import json
import re
import tempfile
from pathlib import Path

from hwgen.fpga import files
from hwgen.fpga.boards import BOARDS, board
from hwgen.fpga.build import sources_digest
from hwgen.fpga.families import FAMILIES
from hwgen.fpga.tools import run_tool
from hwgen.fpga.vivado import write_project
from hwgen.golden.decode_loop import GAP
from hwgen.golden.sequencer import pass_timeline
from hwgen.host.links.board import simulated_pins
from hwgen.host.links.link import Entry
from hwgen.models import load, quantize
from hwgen.models.wires import fixed_matrices
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape
from hwgen.params.presets import hw_shape, recipe
from hwgen.plan.loading import reading
from tools import ledger
from tools.benches import stage
from tools.smollm2_boards import SHAPES, design_of, quantized_of

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = ("She was", "The next morning,", "It is a truth", "Mr. Darcy", "There was", "He had been", "I am",
           "In the evening")
LENGTHS = 32, 64
SHORT, LONG = 32, 200       # tokens of a context


def smallest():
    """The board with the fewest LUTs of those that were built."""
    return min((b for b in BOARDS.values() if (ROOT / "fpga" / b.name / "report.json").exists()),
               key=lambda b: next(iter(b.capacity.values()))).name


#: Of the 7 series: resource -> Yosys' cells, and how many of it each takes.
CELLS = {"lut": {r"LUT\d": 1, r"RAM(32M|64M)": 4, r"RAM\d+X1D": 2, "RAM256X1S": 4, r"SRL\w+": 1},
         "ff": {r"FD[RSCP]E(_1)?": 1}, "ramb18e1": {"RAMB18E1": 1, "RAMB36E1": 2},
         "dsp48e1": {"DSP48E1": 1}}


def synthesized(chosen):
    """Rows of a board that has no bitstream, by Yosys: of a project for the vendor's tool, or of a machine that does
    not fit."""
    family = FAMILIES[chosen.family]
    if chosen.name in SHAPES:       # whose page is about it
        design = design_of(chosen.name)
        quantized = quantized_of(design)
    else:
        checkpoint = load(chosen.model)
        design = Design(model=checkpoint.shape, hw=hw_shape(chosen.shape, checkpoint.shape),
                        recipe=recipe(chosen.formats))
        quantized = quantize(checkpoint, design.recipe)
    with tempfile.TemporaryDirectory() as folder:
        work = write_project(chosen, design, quantized, Path(folder), stage=stage)
        sources = [name for name in ("machine.v", "top.v", "memory.v", "memory_controller.v", "pll.v")
                   if (work / name).exists()]
        if family.places:
            script = files.synthesis_script(sources, "top.json", family.name, own=design.hw.dsp_columns > 0,
                                            pairs=design.hw.dsp_pairs > 0)
        else:
            script = (f"read_verilog {' '.join(sources)}\n{family.synthesis} -top top -flatten\n"
                      "tee -o stat.json stat -json\n")
        (work / "synth.ys").write_text(script)
        with stage("synthesis (minutes)"):
            run_tool("yosys", "-q", "synth.ys", folder=work, log="log")
        text = (work / ("top.json" if family.places else "stat.json")).read_text()
    command = f"python -m tools.bench_board --board {chosen.name}"
    if family.places:
        return [("parameters", design.model.parameter_count, "", "measured", command),
                ("lut_places", family.places(json.loads(text)), "", "measured", command)]
    cells = json.loads(text[text.index("{"):])["design"]["num_cells_by_type"]
    return [("parameters", design.model.parameter_count, "", "measured", command),
            *((f"yosys_{resource}", sum(n * times for cell, n in cells.items() for pattern, times in patterns.items()
                                        if re.fullmatch(pattern, cell)), "",
               "measured", command) for resource, patterns in CELLS.items())]


def cycles_per_token(link, checkpoint, count):
    """{length: mean cycles of a decoded token} of ``count`` texts at once, until the longest has that many tokens: of
    the LENGTHS that there is room for."""
    texts = [checkpoint.tokenizer.encode(PROMPTS[slot % len(PROMPTS)]) for slot in range(count)]
    for slot in range(link.design.hw.slots):
        link.free(slot)
    for slot, text in enumerate(texts):
        for position, token in enumerate(text):
            result = link.run_pass([Entry(slot, position, token, position == len(text) - 1)]).check()
        text.append(result.tokens[0])
    found, cycles, passes = {}, 0, 0
    for length in (length for length in LENGTHS if length <= link.design.room(count)):
        while max(map(len, texts)) < length:
            result = link.run_pass([Entry(slot, len(text) - 1, text[-1], True)
                                    for slot, text in enumerate(texts)]).check()
            cycles, passes = cycles + result.cycles + GAP, passes + 1
            for slot, text in enumerate(texts):
                text.append(result.tokens[slot])
        found[length] = cycles / passes / count
    for text in texts:
        print(checkpoint.tokenizer.decode(text[1:]))
    return found


def built(name):
    """Rows of a board whose bitstream was built."""
    report = json.loads((ROOT / "fpga" / name / "report.json").read_text())
    chosen = dataclasses.replace(board(name), clock=report["clock"], baud=report["baud"])
    checkpoint = load(report["model"])
    design = Design(model=checkpoint.shape, hw=HwShape(**report["shape"]), recipe=recipe(chosen.formats))
    quantized = quantize(checkpoint, design.recipe)
    if sources_digest(chosen, design, quantized) != report["verilog_sha256"]:
        raise SystemExit(f"fpga/{name}/report.json is of other Verilog than today's: build again, and copy "
                         f"build/fpga/{name}.json there")
    entries = design.hw.entries
    with simulated_pins(chosen, design, quantized, stage) as link:
        found = {(count, length): mean for count in sorted({1, -(-entries // 2), entries})
                 for length, mean in cycles_per_token(link, checkpoint, count).items()}
    if chosen.memory:       # the simulation's own is faster than a chip that refreshes
        found = {(count, length): max(mean, reading(design, chosen.memory, chosen.clock, count,
                                                        chosen.memory_clock).memory / count)
                 for (count, length), mean in found.items()}
    made, simulated = f"hwgen fpga build --board {name}", f"python -m tools.bench_board --board {name}"
    rows = [("fmax", report["fmax"], "MHz", "measured", made), ("clock", report["clock"], "MHz", "measured", made),
            *((resource.lower(), used, "", "measured", made) for resource, used in report["used"].items()),
            ("parameters", checkpoint.shape.parameter_count, "", "measured", simulated),
            ("texts", entries, "at once", "measured", simulated),
            ("text_tokens", max(found)[1], "", "measured", simulated),
            ("build_cpu", round(sum(report["cpu_seconds"].values())), "s", "measured", made)]
    for case, mean in found.items():
        suffix = "" if case == max(found) else "_{}x{}".format(*case)
        kind = "derived" if chosen.memory else "measured"
        rows += [(f"cycles_per_token{suffix}", round(mean, 1), "cycles", kind, simulated),
                 (f"tokens_per_second{suffix}", round(1e6 * report["clock"] / mean), "tokens/s", "derived", simulated)]
    return rows


def context_ratio(design, texts, memory_cycles=0, wires=None):
    """Tokens/s of so many texts at the LONG context, of those at the SHORT one, on the cycle model. ``memory_cycles``
    are those that a pass takes at least; ``wires`` are matrices that are logic."""
    def cycles(length):
        found = pass_timeline(design, [length - 1] * texts, [True] * texts, wires=wires)
        return max(memory_cycles, found.counters["cycles"] + GAP)
    return round(cycles(SHORT) / cycles(LONG), 3)


def long_context(name):
    """Rows of a board whose texts may have the LONG context: of as many texts as there is room for, and of a full pass;
    and what attention lanes for a whole head would change, and two rows a cycle. None of other boards."""
    chosen, report = board(name), ROOT / "fpga" / name / "report.json"
    checkpoint = load(chosen.model)
    shape = checkpoint.shape
    hw = HwShape(**json.loads(report.read_text())["shape"]) if report.exists() else hw_shape(chosen.shape, shape)
    design = Design(model=shape, hw=hw, recipe=recipe(chosen.formats))
    if hw.context < LONG:
        return []
    wires = fixed_matrices(quantize(checkpoint, design.recipe), design) if hw.wired else None
    texts = max(count for count in range(1, hw.entries + 1) if design.room(count) >= LONG)
    rows = [("long_context_texts", texts, "at once", "derived")]
    whole = max(hw.attention_lanes, shape.head_dim)
    for lanes, rows_at_once in dict.fromkeys([(hw.attention_lanes, hw.attention_rows), (whole, 1), (whole, 2)]):
        wider = dataclasses.replace(design, hw=dataclasses.replace(hw, attention_lanes=lanes,
                                                                   attention_rows=rows_at_once))
        more = "" if lanes == hw.attention_lanes else f"_with_{lanes}_attention_lanes"
        more += "" if rows_at_once == hw.attention_rows else f"_{rows_at_once}_rows"
        for count in sorted({texts, hw.entries}):
            memory = reading(wider, chosen.memory, chosen.clock, count, chosen.memory_clock).memory \
                if chosen.memory else 0
            full = "" if count == texts else f"_{count}_texts"
            rows.append((f"long_context_ratio{full}{more}", context_ratio(wider, count, memory, wires), "",
                         "projected" if full or more else "derived"))
    return rows


#: Tokens/s of the boards' builds at commit be760d8, as that commit's docs/results/boards.json has them.
BEFORE = {"ulx3s-85f": 20_037, "ulx3s-12f": 11_283, "tang-console-138k": 6_387}

#: Names in the ledger where a board's own begins like another's.
PREFIXES = {"ulx3s-85f-sdram": "ulx3s-sdram", "ulx3s-85f-sdram-card": "ulx3s-card", "ulx3s-85f-wired": "wired-85f"}


def prefix_of(name):
    return PREFIXES.get(name, name).replace("-", "_")


def bench(name):
    rows = built(name) if (ROOT / "fpga" / name / "report.json").exists() else synthesized(board(name))
    prefix = prefix_of(name)
    rows = [(f"{prefix}_{n}", *rest) for n, *rest in rows]
    if name in BEFORE:
        found = next(value for n, value, *_ in rows if n == f"{prefix}_tokens_per_second")
        rows.append((f"{prefix}_speedup", round(found / BEFORE[name], 3), "", "derived",
                     f"python -m tools.bench_board --board {name}"))
    if name == smallest():
        rows += [(f"smallest_board_{n}", *next(rest for full, *rest in rows if full == f"{prefix}_{n}"))
                 for n in ("tokens_per_second", "build_cpu")]
    recorded(rows)


def recorded(rows):
    ledger.record("boards.json", [{"name": n, "value": value, "unit": unit, "kind": kind, "command": command}
                                  for n, value, unit, kind, command in rows])
    for n, value, unit, *_ in rows:
        print(f"{n:36} {value:>12,} {unit}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", help="default: all")
    parser.add_argument("--long-context", action="store_true",
                        help="only how much slower long texts are, by the cycle model: seconds")
    options = parser.parse_args()
    for name in [options.board] if options.board else BOARDS:
        if options.long_context:
            recorded([(f"{prefix_of(name)}_{n}", *rest, "python -m tools.bench_board --long-context")
                      for n, *rest in long_context(name)])
        else:
            bench(name)


if __name__ == "__main__":
    main()
