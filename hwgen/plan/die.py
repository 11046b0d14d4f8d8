"""A die that holds its model: weights in ROM beside the multipliers, keys, values and adapters in SRAM, all transistors
counted by part.

Cycles are those of the golden model (`pass_timeline`) of the machine that hwgen emits at that size, with two
differences, which are derived: attention is shared out to engines, by K/V heads and then by positions (the maximum of
some maxima, and sums that are whole, so no bit changes), and the array is a grid of tiles with a ROM each, which adds
up the rows of tiles in one more register. Transistors of logic are `hwgen.plan.die_logic`'s. All of it is projected:
nobody has built it.
"""
import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

from ..golden.attention import attention_cycles
from ..golden.decode_loop import GAP
from ..golden.kv_cache import kv_write_cycles
from ..golden.sequencer import pass_timeline
from ..golden.vector_buffer import READ_LATENCY
from ..params.block import Project
from ..params.checks import check_int
from ..params.design import Design
from ..params.hardware import HwShape, Recipe
from ..params.model import ModelShape
from ..params.presets import recipe
from ..params.stream import BLOCK, EMBEDDING, HEAD
from .assumed import given, parsed, within
from .die_logic import logic
from .memory import memories
from .published import HC1

__all__ = ["Die", "Plan", "default_formats", "die", "plan", "read"]

_MOST_USERS = 256       # each entry of a pass is worked out


@dataclass(frozen=True, kw_only=True)
class Die:
    """The request, and every assumption with its source."""
    model: ModelShape
    tokens: float                   # a second, of each user
    users: int = 1
    context: int = 2048
    recipe: Recipe | None = None    # None: `default_formats`
    clock_ghz: float = given(1.0, "GHz", "chosen for N6; no unit here was laid out in it")
    position: int = given(0, "", "of the users' newest tokens, for the speed; 0: the mean of an answer that fills the "
                          "second half of the context")
    rom_transistors: float = given(1.0, "a bit",
                                   "one transistor a stored bit, there or not connected: "
                                   "https://courses.cs.washington.edu/courses/cse467/99au/admin/Slides/"
                                   "Week1Lecture3/tsld021.htm")
    rom_overhead: float = given(0.05, "of the cells",
                                "derived, and rounded up: banks of 256 word lines by 512 bit lines, 12 transistors "
                                "of decoder and driver a word line, 2 of precharge and selection a bit line, 24 of "
                                "sense amplifier and output for 8 bit lines make 0.043")
    sram_transistors: float = given(6.0, "a bit", "6T cell: "
                                    "https://www.legitlads.com/hub/tools/ai/design-architecture/sram-area-calculator/")
    sram_overhead: float = given(0.05, "of the cells",
                                 "chosen: the same banks, with two bit lines, are 0.009; write drivers, spare rows")
    ff_transistors: float = given(24.0, "a flip-flop", "two latches of transmission gates and inverters "
                                  "(http://play-hookey.com/digital/alt_flip_flops/cmos_d_flip-flop.html) are 16; "
                                  "buffers of clock, data and output")
    logic_margin: float = given(0.25, "of the logic",
                                "chosen: buffers, clock tree, scan, which a synthesis of gates has not")
    other: float = given(1e8, "transistors", "chosen: host link, PLL, self-test of memories; no unit here")
    adapters: int = given(1, "of each user", "resident in SRAM; 0: none")
    adapter_rank: int = given(8, "", "of an adapter of all matrices of the layers")
    adapter_bits: float = given(0.0, "bits", "of an adapter's weight; 0: those of the array's codes")
    adapter_time: float = given(0.12, "of the cycles",
                                "the project's goal for a slot with an adapter of rank 8; kept free of the speed")
    density: float = given(round(HC1.transistors / HC1.mm2 / 1e6, 1), "million transistors a mm2",
                           "that of the published chip, which is ROM for the most part: 53e9 on 815 mm2 (logic alone "
                           "in N6: 114, "
                           "https://fuse.wikichip.org/news/2261/tsmc-announces-6-nanometer-process/)")
    field_mm2: float = given(832.0, "mm2", "26 mm x 32 mm, the largest exposed at once: "
                                           "https://news.ycombinator.com/item?id=14310690")
    tile_lanes: int = given(64, "lanes", "chosen, of a tile of the grid")
    tile_columns: int = given(64, "columns", "chosen")
    vector_lanes: int = given(128, "lanes", "chosen, at most; of norms, RoPE, residual")
    most_engines: int = given(1024, "engines", "chosen, at most; of attention")

    def __post_init__(self) -> None:
        if not 0 < self.tokens <= 1e9:
            raise ValueError(f"Tokens a second must be above 0, at most 1e9, not {self.tokens:g}")
        check_int("Users", self.users, 1, _MOST_USERS)
        check_int("Context", self.context, 2, self.model.longest_context)
        within(self, none=("position", "rom_overhead", "sram_overhead", "logic_margin", "other", "adapters",
                           "adapter_bits", "adapter_time"))
        if self.position >= self.context:
            raise ValueError(f"position must be below the context {self.context}, not {self.position}")
        for name in ("tile_lanes", "tile_columns", "vector_lanes"):
            if (value := getattr(self, name)) & value - 1 or value < 2:
                raise ValueError(f"{name} must be a power of two, at least 2, not {value}")
        if self.adapter_time >= 1:
            raise ValueError(f"adapter_time must be below 1, not {self.adapter_time:g}")
        chosen = self.recipe or recipe(default_formats(self.model))
        object.__setattr__(self, "recipe", chosen)
        chosen.check(self.model)

    @property
    def attention_lanes(self) -> int:
        """The largest power of two that divides a head: no bit of a key is padding."""
        return max(2, self.model.head_dim & -self.model.head_dim)

    @property
    def at(self) -> int:
        """The position at which the speed is."""
        return self.position or (self.context // 2 + self.context - 1) // 2

    @property
    def budget(self) -> float:
        """Cycles that a pass may take."""
        return self.clock_ghz * 1e9 / self.tokens * (1 - self.adapter_time * bool(self.adapters))

    def design(self, lanes: int, columns: int) -> Design:
        """The machine with an array of that size."""
        vector = min(self.vector_lanes, self.attention_lanes, lanes, columns)
        assert self.recipe is not None      # since __post_init__
        return Design(model=self.model, recipe=self.recipe, hw=HwShape(
            lanes=lanes, columns=columns, entries=self.users, slots=self.users, context=self.context,
            vector_lanes=vector, attention_lanes=self.attention_lanes))


def read(model: ModelShape) -> int:
    """Weights that a token is multiplied with: all matrices, and the LM head; not the table of embeddings."""
    layer = sum(rows * cols for rows, cols in model.matrices().values())
    return layer * model.num_hidden_layers + model.vocab_size * model.head_inputs


def default_formats(model: ModelShape) -> str:
    """E2M1, but for a head that is the embedding table too, or has a bias."""
    return "weights=e2m1" + ",head=e3m4" * (model.tie_word_embeddings or model.head_bias)


# -- cycles

def _attention(die, design, heads, split):
    """Cycles of a pass for attention, with the writing of keys and values: K/V heads in so many groups, positions in so
    many parts."""
    model = dataclasses.replace(design.model, num_attention_heads=design.heads // heads,
                                num_key_value_heads=design.kv_heads // heads)
    engine = dataclasses.replace(design, model=model)
    write = kv_write_cycles(design, die.users, read_latency=READ_LATENCY)
    # the maximum, the sums of Z and those of the numerators go through a tree each
    merged = 3 * math.ceil(math.log2(split))

    @functools.cache
    def layer(window):
        rows = min(die.at + 1, window or die.at + 1)
        return write + 1 + attention_cycles(engine, [-(-rows // split) - 1] * die.users)[1] + 1 + merged
    return sum(layer(design.window(index)) for index in range(design.layers))


def _engines(die, design):
    """[(engines, groups of heads, parts of positions)], the fewest first."""
    found = {}
    for heads in (h for h in range(1, design.kv_heads + 1) if design.kv_heads % h == 0):
        split = 1
        while heads * split <= die.most_engines and (heads == design.kv_heads or split == 1) and split <= die.at + 1:
            found.setdefault(heads * split, (heads * split, heads, split))
            split *= 2
    return [found[count] for count in sorted(found)]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A die, planned.

    design              the machine: array, formats, buffers
    tiles               of the grid
    engines             of attention: (all, groups of K/V heads, parts of positions)
    cycles              {phase: cycles} of a pass at the position, one token of each user. The array waits for its sums
                        to leave (a vector lane takes one a cycle), and at the beginning of a matrix; the rest are
                        latencies, the embedding, RoPE, the gate, the head's choice
    rom, sram           {what: bits}
    transistors         {part: how many}
    """
    die: Die
    design: Design
    tiles: int
    engines: tuple[int, int, int]
    cycles: dict[str, int]
    rom: dict[str, int]
    sram: dict[str, int]
    transistors: dict[str, float]

    @property
    def multipliers(self) -> int:
        return self.design.hw.lanes * self.design.hw.columns

    @property
    def total(self) -> float:
        return sum(self.transistors.values())

    @property
    def per_weight(self) -> float:
        return self.total / self.die.model.parameter_count

    @property
    def pass_cycles(self) -> int:
        return sum(self.cycles.values())

    @property
    def speed(self) -> float:
        """Tokens a second of each user, with the adapters' time."""
        return self.die.clock_ghz * 1e9 * (1 - self.die.adapter_time * bool(self.die.adapters)) / self.pass_cycles

    @property
    def read(self) -> int:
        """Weights that a token is multiplied with."""
        return read(self.die.model)

    @property
    def mm2(self) -> float:
        return self.total / self.die.density / 1e6

    @property
    def binds(self) -> tuple[str, str]:
        """What to change for a faster one, and for a smaller one."""
        return (max(self.cycles, key=lambda part: self.cycles[part]),
                max(self.transistors, key=lambda part: self.transistors[part]))


# -- bits

def _rom(die, design):
    """{what: bits}, with padding to whole tiles. Matrices are as `hwgen.units.rom_grid.word_layout` says: rows' offsets
    in each word."""
    found = {}

    def add(what, bits):
        if bits:
            found[what] = found.get(what, 0) + bits
    for section in design.stream:
        if section.matmul is None:
            add("norms, exponents", 16 * (section.granules or design.record_header_granules) * design.hw.vector_lanes)
            continue
        matmul, tiling = section.matmul, section.tiling
        what = {HEAD: "LM head", EMBEDDING: "embedding"}.get(section.name, "matrices" if section.layer is not None
                                                             else section.name)
        add(what, matmul.rows * matmul.cols * matmul.codes * (4 if tiling.narrow else 8))
        inputs, in_words = matmul.cols * matmul.codes, what in ("matrices", "LM head")
        add("offsets of blocks and rows", 4 * matmul.rows * ((inputs // BLOCK if tiling.block_steps else 0)
                                                             + (-(-inputs // die.tile_lanes) if in_words else 1)
                                                             * bool(tiling.row_tiles)))
    add("tables", sum(memory.width * memory.depth for memory in memories(design) if memory.rom
                      and memory.unit != "weights"))
    return found


def _adapter_weights(die):
    return die.adapter_rank * sum(rows + cols
                                  for rows, cols in die.model.matrices().values()) * die.model.num_hidden_layers


def _sram(die, design, tiles, heads):
    bits = die.adapter_bits or design.array_format.bits
    found = {"keys and values": 0, "adapters": round(_adapter_weights(die) * bits) * die.adapters * die.users,
             "buffers": 0}
    for memory in memories(design):
        if not memory.rom:
            # each group of heads has scores of its own; those of the parts are parts of them
            each = heads if memory.unit == "attention" else 1
            found["keys and values" if memory.unit == "kv_cache" else "buffers"] += each * memory.width * memory.depth
    entries = design.hw.entries
    sums = max(2, entries) + (entries if entries > 1 else 0)        # of a column
    found["buffers"] += tiles * die.tile_columns * design.acc_bits * sums
    return {what: bits for what, bits in found.items() if bits}


# -- plan

def _cycles(die, design, base, choice):
    """{phase: cycles} of a pass, of which the golden model's timeline says ``base``."""
    sums = 1 if design.hw.lanes > die.tile_lanes else 0        # a register behind the rows of tiles, for each matrix
    grid = sums * (1 + design.layers * len(design.block.of(Project)))
    array, waits = base["mac_busy"], base["mac_starved"] + base["mac_blocked"]
    rest = base["cycles"] + GAP - base["attention"] - base["norm"] - array - waits
    return {"array": array, "array's waits": waits, "attention": _attention(die, design, *choice[1:]),
            "norms": base["norm"], "the rest": rest + grid}


def _planned(die, design, cycles, choice):
    engines, heads, _ = choice
    tiles = -(-design.hw.lanes // die.tile_lanes) * -(-design.hw.columns // die.tile_columns)
    rom, sram = _rom(die, design), _sram(die, design, tiles, heads)
    transistors = {"ROM": sum(rom.values()) * die.rom_transistors * (1 + die.rom_overhead),
                   **{f"SRAM, {what}": bits * die.sram_transistors * (1 + die.sram_overhead)
                      for what, bits in sram.items()},
                   **logic(die, design, tiles, engines)}
    return Plan(die=die, design=design, tiles=tiles, engines=choice, cycles=cycles, rom=rom, sram=sram,
                transistors=transistors)


def plan(die: Die) -> Plan:
    """The `Plan` with the fewest transistors among arrays of powers of two of the two smallest sizes that are fast
    enough.

    Raises
    ------
    ValueError              if none is: the pass's latencies alone take longer
    """
    model, lowest, found, fastest = die.model, max(2, die.tile_lanes // 8), [], None
    longest = max(max(rows, cols) for rows, cols in (*model.matrices().values(), (model.vocab_size, model.hidden_size)))
    most = min(4096, 1 << (longest - 1).bit_length())
    first = max(2 * lowest.bit_length() - 2, math.ceil(math.log2(max(1, read(model) * die.users / die.budget))))
    for size in range(first, 2 * most.bit_length() - 1):
        for lanes in (1 << k for k in range(size // 2 - 1, size // 2 + 3)):
            columns = (1 << size) // lanes
            if not (lowest <= lanes <= most and lowest <= columns <= most):
                continue
            design = die.design(lanes, columns)
            base = pass_timeline(design, [die.at] * die.users, [True] * die.users).counters
            for choice in _engines(die, design):        # the fewest that are fast enough
                cycles = _cycles(die, design, base, choice)
                count = sum(cycles.values())
                if fastest is None or count < fastest[0]:
                    fastest = count, cycles
                if count <= die.budget:
                    found.append(_planned(die, design, cycles, choice))
                    break
        if found and size > min(p.multipliers for p in found).bit_length() - 1:
            break
    if not found:
        users = f"{die.users:,} user{'s' * (die.users > 1)} at {die.clock_ghz:g} GHz"
        if fastest is None:
            raise ValueError(f"Tokens a second must be fewer than {die.tokens:,.0f} for {users}: no array of {most} x "
                             f"{most} is that fast")
        count, cycles = fastest
        binds = max(cycles, key=cycles.get)
        raise ValueError(f"Tokens a second must be at most {die.tokens * die.budget / count:,.0f} for {users} "
                         f"({binds}: {cycles[binds]:,} of {count:,} cycles), not {die.tokens:,.0f}")
    return min(found, key=lambda p: p.total)


def die(model: ModelShape, text: str = "", **asked: Any) -> Die:
    """The `Die` of a request, and of assumptions as ``field=value`` pairs. ValueError with one line."""
    return Die(model=model, **asked, **parsed(Die, text))
