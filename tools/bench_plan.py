#!/usr/bin/env python3
"""How far `hwgen plan` is from what was built: its estimates beside the reports of builds in fpga/BOARD, for each board
that has one."""
import argparse
import json
from pathlib import Path

import numpy as np

from hwgen.fpga.boards import board
from hwgen.fpga.families import FAMILIES
from hwgen.models import load, quantize
from hwgen.models.wires import different_rows
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape
from hwgen.params.model import SMOLLM2_135M
from hwgen.params.presets import recipe
from hwgen.plan.costs import BUILT, KINDS
from hwgen.plan.fit import fit
from tools import ledger

#: Models whose weights a build does not need.
SHAPES = {SMOLLM2_135M.name: SMOLLM2_135M}
ROOT = Path(__file__).resolve().parent.parent


def compared(report):
    """{figure: (estimate, built)} of a build's report: LUT, FF, BRAM, DSP and MHz."""
    chosen = board(report["board"])
    names = FAMILIES[chosen.family].resources
    model = SHAPES.get(report["model"]) or load(report["model"], need_tokenizer=False).shape
    design = Design(model=model, hw=HwShape(**report["shape"]), recipe=recipe(chosen.formats))
    rows = different_rows(quantize(load(report["model"], need_tokenizer=False), design.recipe),
                          design) if design.hw.wired else None
    found = fit(design, chosen.family, {kind: report["available"][names[kind.lower()]] for kind in KINDS}, rows,
                chosen.around)
    return {**{kind: (found.used[kind], report["used"][names[kind.lower()]]) for kind in KINDS},
            "MHz": (round(found.mhz, 1), report["fmax"])}


def reports():
    """Of each board one: report.json, or that of the model for which it was built."""
    paths = [[folder / "report.json", *sorted(folder.glob("*.json"))] for folder in sorted(ROOT.glob("fpga/*"))]
    return [json.loads(there[0].read_text()) for each in paths if (there := [path for path in each if path.exists()])]


def clocks():
    """{family: (MHz, way)}: the line through its builds' clocks, over the root of their LUTs. One build alone leaves
    ``way`` as it is. Machines whose matrices are logic have a rule of their own (`hwgen.plan.wired.WAY`), and so have
    chips of another speed grade (`hwgen.fpga.boards.GRADES`)."""
    found = {}
    for report in reports():
        chosen = board(report["board"])
        if report["shape"]["source"] == "wired" or chosen.around.faster != 1:
            continue
        luts = report["used"][FAMILIES[chosen.family].resources["lut"]]
        found.setdefault(chosen.family, []).append(((luts / 100_000) ** 0.5, report["fmax"]))
    out = {}
    for family, points in found.items():
        way = BUILT[family].way
        if len(points) > 1:
            slope, base = np.polyfit(*zip(*points), 1)
            way = max(0.0, -slope / base)
        mhz = sum(mhz / (1 - way * root) for root, mhz in points) / len(points)
        out[family] = round(float(mhz), 1), round(float(way), 2)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true",
                        help="only print what `hwgen.plan.costs.BUILT` should say of the families' clocks")
    if parser.parse_args().fit:
        print("\n".join(f'"{family}": Built({BUILT[family].luts}, {mhz}, {way})'
                        for family, (mhz, way) in clocks().items()))
        return
    rows, worst = [], 0.0
    for report in reports():
        for figure, (estimate, built) in compared(report).items():
            error = estimate / built - 1 if built else float(estimate > 0)
            rows += [(f"plan/{report['board']} {figure}/{column}", value, unit) for column, value, unit in
                     (("estimate", estimate, ""), ("built", built, ""), ("error", round(100 * error, 1), "%"))]
            print(f"{report['board']:16} {figure:5} {estimate:>10,} estimated {built:>10,} built  {error:+.1%}")
            worst = max(worst, abs(error))
    rows.append(("plan_worst_error", round(worst, 4), ""))
    ledger.record("plan.json", [{"name": name, "value": value, "unit": unit, "kind": "derived",
                                 "command": "python -m tools.bench_plan"}
                                for name, value, unit in rows])


if __name__ == "__main__":
    main()
