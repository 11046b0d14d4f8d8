#!/usr/bin/env python3
"""What two half-batches are worth, on the cycle model alone: the array's busy cycles in decode with sixteen entries, by
context; and what two rows of K and V a cycle are.
"""
import argparse
import dataclasses

from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.model import LLAMA3_8B, SMOLLM2_135M
from hwgen.params.presets import hw_shape
from hwgen.plan.throughput import engine_use, traffic
from tools import ledger

POSITIONS = 64, 256, 512, 1024


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = []
    for model, of in ((SMOLLM2_135M, (1, 2)), (LLAMA3_8B, (1,))):
        for halves, rows_at_once in ((1, 1), *((2, count) for count in of)):
            design = Design(model=model, hw=hw_shape("batch-32x32,context=2048", model), recipe=Recipe())
            design = dataclasses.replace(design, hw=dataclasses.replace(design.hw, halves=halves,
                                                                        attention_rows=rows_at_once))
            more = f", attention_rows={rows_at_once}" if rows_at_once > 1 else ""
            for position in POSITIONS:
                use = engine_use(design, *traffic(design.hw, position)["decode"])
                rows.append({"name": f"{model.name}, halves={halves}{more}/position {position:4}",
                             "value": round(use["array"], 4), "unit": "",
                             "kind": "derived", "command": "python -m tools.bench_halves"})
                print(f"{rows[-1]['name']:40} {rows[-1]['value']}")
    ledger.record("halves.json", rows)


if __name__ == "__main__":
    main()
