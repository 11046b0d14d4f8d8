#!/usr/bin/env python3
"""Thousands of random passes on the RTL: entries let in and refused, forks, truncations, frees, interrupted texts and
stalls.

Every pass and operation is compared with the golden model: tokens and signatures, and in the half without stalls every
cycle and counter too. At the end all blocks of the KV memory are freed and taken again, and what is in them is read.
"""
import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from sim.soak import DESIGN, HALVES, soak
from tools import ledger

DEFAULT = 2000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=DEFAULT,
                        help=f"at least so many; fewer than {DEFAULT} are not recorded (default: {DEFAULT})")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    total, start = Counter(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for part, (design, stall) in enumerate((design, stall) for design in (DESIGN, HALVES) for stall in (0.0, 0.3)):
            about = (f"{design.hw.entries} entries in {design.hw.halves} halves, {design.hw.slots} slots, "
                     f"{design.hw.blocks} blocks, stall {stall}")
            total += soak(Path(folder), -(-options.passes // 4), 4 * options.seed + part, stall,
                          lambda done, about=about: done % 100 or print(f"{about}: {done} passes", flush=True), design)
    for name, count in total.most_common():
        print(f"{count:8,} {name.lower()}")
    print(f"{time.monotonic() - start:.0f} s; every pass and operation equals the golden model's")
    if options.passes >= DEFAULT:
        entry = {"kind": "measured", "command": f"python -m tools.soak --passes {options.passes} --seed {options.seed}",
                 "unit": ""}
        refused = total.total() - total["passes"] - total["entries"] - total["operations"]
        ledger.record("soak.json", [{"name": f"soak_{name}", "value": value, **entry} for name, value in (
            ("passes", total["passes"]), ("entries", total["entries"]), ("operations", total["operations"]),
            ("refusals", refused))])


if __name__ == "__main__":
    main()
