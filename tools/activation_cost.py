#!/usr/bin/env python3
"""What the unit of the MLP's activation costs for each function, with and without a gate: rows of the table in
docs/swiglu.md.

Of 2 vector lanes, as `tools.synth` synthesizes units: LUTs, flip-flops and multipliers on ECP5, transistors of the
gates.
"""
from dataclasses import replace

from hwgen.lib.verilog import emit_verilog
from hwgen.params.block import ACTIVATIONS, dense
from hwgen.params.design import Design
from hwgen.params.model import DEMO
from hwgen.params.presets import hw_shape, recipe
from hwgen.top import make
from tools import synth


def unit(activation, gated):
    model = replace(DEMO, block=dense(activation=activation, gated=gated))
    design = Design(model=model, hw=hw_shape("tiny", model), recipe=recipe())
    return synth.Unit("swiglu", emit_verilog(make.swiglu(design), "top"))


def main():
    for gated in (True, False):
        for activation in ACTIVATIONS:
            made = unit(activation, gated)
            ecp5, cmos = synth.synthesize(made, "ecp5"), synth.synthesize(made, "cmos")
            print(f"| `{activation}` | {'yes' if gated else 'no'} | {ecp5['LUT']} | {ecp5['FF']} | {ecp5['DSP']} | "
                  f"{cmos['transistors']:,} |", flush=True)


if __name__ == "__main__":
    main()
