"""The cost of a machine's units on an FPGA: linear estimates, fitted to the figures of `make synth-report`.

A unit's LUTs, flip-flops and multipliers, less those of its clocked memories (`hwgen.plan.memory`), are a weighted sum
of its `FEATURES`; the weights are in costs.json, which that command writes. Between the shapes that were synthesized
the estimate follows the machine's structure; far beyond them it is a guess.

The weights of a unit are those of Llama's block in 8 bits. What another block or recipe adds to it, or takes from it,
are rows of their own, ``UNIT, WHAT``: of what grows with `growth`. Such rows, and units that Llama has not, are of
ECP5; of another family they are taken as many times larger as the unit that is most like it (`OWN`).
"""
import functools
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from ..params.block import Norm
from ..params.design import Design
from ..params.hardware import HwShape
from . import wired
from .memory import memories, place

__all__ = ["ALIKE", "ALONE", "Around", "BUILT", "FEATURES", "KINDS", "MEMORY_MHZ", "OWN", "PAIRED", "changes",
           "check_pairs", "counts", "estimate", "features", "growth", "logic", "table", "unknown"]

KINDS = ("LUT", "FF", "BRAM", "DSP")


class Built(NamedTuple):
    """Results of whole builds of a family, which no synthesis of a unit gives: docs/cost.md lists them.

    luts : float        LUTs of a whole machine for each that its units take alone
    mhz : float         what place and route would reach with no way to go, or 0: nothing was built ...
    way : float         ... and which part of that is lost across 100,000 LUTs: a way grows as the root of its area
    alone : float       which part of the flip-flops takes the place of a LUT: where a flip-flop has no input but that
                        LUT's output
    largest : int       LUTs of the largest machine that was placed and routed ...
    failed : int        ... and of the smallest that was not, though a chip has places enough; 0: none was tried
    """
    luts: float = 1.0
    mhz: float = 0.0
    way: float = 0.0
    alone: float = 0.0
    largest: int = 0
    failed: int = 0


#: gowin5: two builds of 64,783 and 78,424 LUTs reached 88.26 and 89.79 MHz, and have 6 and 10 % more LUTs than their
#: units (fpga/tang-console-138k). Machines that were too large: of ecp5 by what it was built.
BUILT = {"ecp5": Built(0.98, 124.6, 0.76, largest=57_262, failed=65_197), "gowin": Built(0.89, alone=0.396),
         "gowin5": Built(1.08, 89.0, 0.0, largest=78_424), "ice40": Built(), "xilinx7": Built()}
TABLE = Path(__file__).with_name("costs.json")


def _noisy(d):
    return d.hw.sampler == "gumbel", d.hw.vector_lanes * (d.hw.sampler == "gumbel")


#: Unit -> what its logic grows with. Units that are not here cost the same in every machine, or grow with its slots.
FEATURES: dict[str, Callable[[Design], tuple[int, ...]]] = {
    "column": lambda d: (d.acc_bits, d.hw.lanes, d.acc_bits * (d.half_batch().hw.entries > 1)),
    "dot": lambda d: (1, d.hw.attention_lanes),
    "numerators": lambda d: (1, d.hw.attention_lanes * d.hw.attention_rows, d.padded_head_dim),
    "dsp_column": lambda d: (d.acc_bits, d.hw.lanes, d.acc_bits * (d.half_batch().hw.entries > 1)),
    "column_pair": lambda d: (d.acc_bits, d.hw.lanes, d.acc_bits * (d.half_batch().hw.entries > 1)),
    "array": lambda d: (1, d.hw.lanes, (d.hw.columns - d.hw.vector_lanes) * d.acc_bits,
                        d.hw.lanes * (d.hw.dsp_columns > 0), d.hw.lanes * (d.hw.dsp_pairs > 0)),
    "attention": lambda d: (1, d.group * d.hw.attention_rows, d.group * d.padded_head_dim,
                            d.group * d.hw.attention_lanes, d.hw.vector_lanes),
    "rmsnorm": lambda d: (1, d.hw.vector_lanes),
    "residual": lambda d: (1, d.hw.vector_lanes, d.half_batch().hw.entries > 1),
    "rope": lambda d: (1, d.hw.vector_lanes),
    "swiglu": lambda d: (1, d.hw.vector_lanes),
    "convert": lambda d: (1, d.hw.vector_lanes),
    "sampler": lambda d: (1, d.hw.vector_lanes, *_noisy(d)),
    **{buffer: lambda d: (1, d.hw.lanes, d.hw.vector_lanes) for buffer in ("xa", "xo", "xh")},
    "qkv": lambda d: (1, d.hw.attention_lanes, d.hw.vector_lanes),
    "dispatcher": lambda d: (1, d.hw.beat_bytes,
                             d.hw.lanes * d.hw.columns * (d.hw.tile_beats > 1 and not d.hw.all_logic)),
    "kv_cache": lambda d: (1, d.hw.attention_lanes * d.hw.attention_rows, d.hw.paged, d.hw.slots * d.hw.paged,
                           d.hw.attention_lanes * d.hw.kv_ecc),
    "decoder": lambda d: (1, d.hw.lanes, d.hw.vector_lanes, d.hw.attention_lanes),
    "request_skid": lambda d: (1,),
    "feeder_skid": lambda d: (1,),
    "operation_skid": lambda d: (1, d.hw.lanes),
    "residual_skid": lambda d: (1, d.hw.vector_lanes),
    "embed_skid": lambda d: (1, d.hw.vector_lanes),
    "norm_skid": lambda d: (1, d.hw.vector_lanes),
    "query_skid": lambda d: (1, d.hw.attention_lanes),
    "result_register": lambda d: (1,),
    "qk_norm": lambda d: (1, d.hw.vector_lanes),
    "sums": lambda d: (1, d.hw.vector_lanes),
    "sequencer": lambda d: (1, d.hw.entries > 1, d.hw.halves == 2),
    "adapters": lambda d: (1, d.adapter_map.kept_bits // 8),
    "adapter_sums": lambda d: (1, d.hw.vector_lanes),
    "xz": lambda d: (1, d.hw.lanes),
    "kv_bus": lambda d: (1, d.hw.attention_lanes, d.hw.kv_port, d.hw.slots * d.hw.paged),
}

#: Units that Llama has not -> the unit that is most like it.
OWN = {"qk_norm": "rmsnorm", "sums": "residual", "adapters": "dispatcher", "adapter_sums": "convert", "xz": "xa",
       "kv_bus": "kv_cache"}
#: And units that no machine has of which another family's table is made.
ALIKE = {"dsp_column": "column", "column_pair": "column"}
#: Families whose multipliers have 18 bits, as a pair of columns needs.
PAIRED = ("ecp5", "gowin", "xilinx7")


def check_pairs(hw: HwShape, family: str) -> None:
    """ValueError if there are pairs of columns, and the family's multipliers are too narrow."""
    if hw.dsp_pairs and family not in PAIRED:
        raise ValueError(f"Column pair count with multipliers must be 0 on {family}, whose multipliers are too "
                         f"narrow, not {hw.dsp_pairs}: take dsp_columns")


#: A softcap, of one query head's scores or one lane's logits.
SOFTCAP = "attention, softcap"
#: What attention is less without registers that hold a job's sums.
IN_PLACE = "attention, in place"
#: The shift before the sums of a column, of each kind of columns.
SHIFTED = "column, adapters"


def growth(row: str, design: Design, unit: str | None = None) -> tuple[int, ...]:
    """The numbers that a row ``UNIT, WHAT`` is proportional to, such as lanes, columns or weights of a tile."""
    if row == SOFTCAP:
        return (design.hw.vector_lanes if unit == "sampler" else design.group,)
    if row == IN_PLACE:
        return design.group * design.padded_head_dim, design.group * design.hw.attention_lanes
    if row == SHIFTED:
        return (design.acc_bits * (2 if unit == "column_pair" else 1),)
    hw = design.hw
    of, what = row.split(", ", 1)
    if what.startswith(("offsets of rows", "weights in", "e2m1")):
        return ({"column": hw.lanes, "array": hw.columns,
                 "dispatcher": hw.lanes * hw.columns}.get(of, hw.vector_lanes),)
    if what == "adapters":
        return {"axi": (1, hw.beat_bytes), "decoder": (1, hw.vector_lanes)}.get(of, (1,))
    return 1, hw.vector_lanes


def _changes(design):
    """{unit: all that makes it another one than Llama's}, "" what does not."""
    block, model = design.block, design.model

    def biases(projects):
        return "biases" * block.biased(*projects)

    activation = ", ".join([*[block.activation] * block.activation.startswith("relu"), *["no gate"]
                            * (not block.gated)])
    learned, final = "learned positions" * model.learned_positions, "final bias" * block.final_bias
    return {
        "convert": [biases(block.converted), "offsets of rows" * design.scaled], "sums": [biases(block.added)],
        "residual": ["of normed values" if block.post_norms else biases(block.added), learned,
                     "offsets of rows" * design.scaled],
        "rmsnorm": ["plain" * any(norm.plain for norm in block.of(Norm)), final],
        "rope": ["" if model.ropes() else "none"],
        "qk_norm": ["projection" * bool(block.qk_norm and block.qk_norm.span == "projection")],
        "swiglu": [activation], "xh": ["" if block.gated else "no gate"],
        "attention": ["" if design.hw.attention_hold else "in place"],
        "column": [f"weights in {design.array_format}" * (design.array_format.bits < 8)],
        "array": ["offsets of rows" * design.scaled], "sampler": ["offsets of rows" * design.scaled],
        "dispatcher": [", ".join(["offsets of rows"] * design.scaled + ["e2m1"] * design.narrow),
                       "vectors" * any(block.vectors(norm.name) for norm in block.of(Norm)), learned, final],
        "sequencer": ["post norms" * block.post_norms],
        **{unit: ["adapters" * bool(design.hw.adapters)]
           for unit in ("feeder", "decoder", "axi", "registers", "commands")},
    }


def changes(unit: str, design: Design) -> list[str]:
    """The rows for the differences between the design's block and Llama's in a unit; none if the unit is as Llama's."""
    model = design.model
    capped = {"attention": model.score_cap is not None, "sampler": model.final_logit_softcapping is not None
              and design.hw.sampler == "gumbel"}
    shifted = design.hw.adapters and unit in ("column", *ALIKE)
    return ([f"{unit}, {what}" for what in _changes(design).get(unit, ()) if what]
            + [SOFTCAP] * capped.get(unit, False) + [SHIFTED] * bool(shifted))


def _absent(design):
    return (set() if design.hw.has_array
            else {"array", "column", "dsp_column"}) | ({"qk_norm"} if design.block.qk_norm is None
                           else set()) | (set() if design.block.post_norms else {"sums"}) | (
        set() if design.hw.adapters else {"adapters", "adapter_sums", "xz"}) | (
        {"kv_cache"} if design.hw.kv_port else {"kv_bus"})


def unknown(design: Design) -> list[str]:
    """Rows of a machine that the table lacks, because they were never synthesized. Estimates leave them out."""
    known = table()["ecp5"]
    wanted = {*(row for unit in {*known, *OWN} - _absent(design)
                for row in changes(unit, design)), *OWN} - _absent(design)
    return sorted(wanted - set(known))


def features(unit: str, design: Design, kind: str) -> tuple[int, ...]:
    if kind == "DSP":       # of vectors, but for the array's
        return (design.hw.lanes,) if unit in ALIKE else (1, design.hw.vector_lanes, *_noisy(design))
    return FEATURES.get(unit, lambda d: (1, d.hw.slots > 1, d.hw.sampler == "gumbel"))(design)


def counts(unit: str, design: Design) -> int:
    """How many of a unit a machine has."""
    hw = design.hw
    return {"column": hw.columns - hw.dsp_columns - 2 * hw.dsp_pairs, "dsp_column": hw.dsp_columns,
            "column_pair": hw.dsp_pairs, "dot": design.group * hw.attention_rows, "numerators": design.group,
            "residual": hw.halves, "sums": hw.halves}.get(unit, 1)


@functools.cache
def table() -> dict[str, dict[str, dict[str, list[float]]]]:
    """{family: {unit: {kind: weights}}}"""
    return json.loads(TABLE.read_text())["families"]


def logic(design: Design, family: str, only: Collection[str] | None = None) -> dict[str, dict[str, float]]:
    """{unit: {kind: how many}} of a board's machine, or of these units of it, without its clocked memories."""
    known, base, absent = table()[family], table()["ecp5"], _absent(design)

    def line(unit, kind, of):
        return sum(w * f for w, f in zip(of.get(unit, {}).get(kind, ()), features(unit, design, kind)))

    def one(unit, kind, rows):
        like = OWN.get(unit, unit if unit in known else ALIKE.get(unit, unit))
        scale = line(like, kind, known) / there if (there := line(like, kind, base)) else 1
        found = line(unit, kind, known) if like == unit else scale * line(unit, kind, base)
        for row in rows:
            found += scale * sum(w * f for w, f in zip(base.get(row, {}).get(kind, ()), growth(row, design, unit)))
        return max(0, found)

    everywhere = [unit for unit in [*known, *sorted(set(ALIKE) - set(known))] if unit not in OWN and unit not in absent
                  and ", " not in unit]
    names = everywhere + [unit for unit in OWN if unit not in absent]
    units = {}
    for unit in names:
        if only is None or unit in only:
            rows = changes(unit, design)
            units[unit] = {kind: counts(unit, design) * one(unit, kind, rows) for kind in KINDS}
    return units


class Around(NamedTuple):
    """What a board has beside a chip of its family.

    memory : str        PHY of the memory that weights come from, of `MEMORY_PATH`
    crossed : bool      its controller has a clock of its own
    faster : float      its chip's clock over that of the family's builds in `BUILT`, for its speed grade
    """
    memory: str = "GENSDRPHY"
    crossed: bool = False
    faster: float = 1.0


ALONE = Around()

#: LiteDRAM's controller, its start-up, the reader of weights and the loader: what the builds of ulx3s-85f-sdram and of
#: SmolLM2's machine on ecpix-5-85f take beyond the other units' estimate (fpga/*/*.json). That of DDR3 without its
#: second port and its crossings. That of an Artix-7 is Yosys' count of SmolLM2's machine on arty-a7-100, less the same.
MEMORY_PATH = {"GENSDRPHY": {"LUT": 5053, "FF": 1639, "BRAM": 2, "DSP": 0},
               "ECP5DDRPHY": {"LUT": 11_643, "FF": 5271, "BRAM": 10, "DSP": 0},
               "A7DDRPHY": {"LUT": 5994, "FF": 740, "BRAM": 6, "DSP": 1}}
#: The clock that the first of these reached: the slowest path leads from the start-up through the loader to the
#: registers. (A memory with a clock of its own is apart.)
MEMORY_MHZ = 54.75
#: LiteDRAM's second port, of 128 bits: what SmolLM2's machine on ecpix-5-85f took beyond one with one port. Narrower
#: ones are smaller.
KV_PATH = {"LUT": 1322, "FF": 353, "BRAM": 0, "DSP": 0}
#: What crosses to a memory with a clock of its own, a port: the mean of two in SmolLM2's netlist.
CROSSING = {"LUT": 802, "FF": 180, "BRAM": 0, "DSP": 0}


def estimate(design: Design, family: str, rows: wired.Rows | None = None,
             around: Around = ALONE) -> dict[str, dict[str, float]]:
    """{unit: {kind: how many}} of a board's machine, memories with their units; ``rows`` as `wired.expected`."""
    units = logic(design, family)
    if design.hw.wired:
        luts, ffs = wired.unit(design, wired.expected(design, rows))
        units["wired"] = {"LUT": luts, "FF": ffs, "BRAM": 0, "DSP": 0}
    if design.hw.source == "stream":        # a board has it from its memory
        outside = design.hw.kv_port > 0
        units["memory path"] = {kind: count + KV_PATH[kind] * outside + CROSSING[kind] * around.crossed * (1 + outside)
                                for kind, count in MEMORY_PATH[around.memory].items()}
    for memory in memories(design):
        units.setdefault(memory.unit, dict.fromkeys(KINDS, 0))      # of which nothing else is known
        placed = place(memory, family)
        for kind, count in (("LUT", placed.luts), ("FF", placed.ffs), ("BRAM", placed.blocks)):
            units[memory.unit][kind] += count
    return units
