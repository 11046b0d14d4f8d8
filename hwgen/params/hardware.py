"""The hardware shape and the number formats, which a user chooses."""
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .block import Block, Project
from .checks import check_int, check_power_of_two, later, without_unused
from .formats import E2M1, E2M5, E3M1, E3M4, E4M1, E4M3, FORMATS, WIDE, Fp8
from .stream import HEAD

if TYPE_CHECKING:
    from .model import ModelShape

__all__ = ["ALL", "HwShape", "MAX_HEAD_ROW", "MAX_ROW", "MOST_FRACTION", "Override", "Recipe", "block_ranges"]

#: The largest offset of a row's exponent; and of the LM head's and of tables', whose rows' sums are compared with each
#: other.
MAX_ROW, MAX_HEAD_ROW = 15, 7

#: A shape's ``wire_matrices`` where all are.
ALL = "all"

#: The largest residual_fraction: for models whose residual is some 10^-5.
MOST_FRACTION = 32


@dataclass(frozen=True)
class Override:
    """A format of some matrices: of ``project`` (a `Project`'s name, or "head"; "" are all), in ``layers`` (first,
    last) or, if None, everywhere."""
    format: Fp8
    project: str = ""
    layers: tuple | None = None

    def covers(self, project: str, layer: int | None) -> bool:
        """Whether it is of a section of the stream. ``layer``: None of the LM head."""
        return self.project in ("", project) and (self.layers is None or layer is not None
                                                  and self.layers[0] <= layer <= self.layers[1])

    def replaces(self, other: "Override") -> bool:
        """Whether nothing is left of another one that came before."""
        if self.project not in ("", other.project):
            return False
        return (self.layers is None or other.layers is not None and self.layers[0] <= other.layers[0]
                and other.layers[1] <= self.layers[1])

    def __str__(self):
        layers = "" if self.layers is None else "layers.{}-{}".format(*self.layers)
        return f"{'.'.join(filter(None, (layers, self.project))) or 'weights'}={self.format}"


def block_ranges() -> dict[Fp8, int]:
    """Array's format -> the largest offset of a block: an E2M1 value times 2**0 ... 2**that is one of its values, in
    units that suit."""
    return {fmt: fmt.max_shift - E2M1.max_shift + fmt.man_bits - E2M1.man_bits
            for fmt in (E2M1, E3M1, E4M1, E3M4, E4M3, E2M5)}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Number formats.

    weight_format       of tables of embeddings, and of the matrices that no override is of
    head                "single" (one code per LM-head weight) or "pair" (hi + lo, two passes)
    scales              "matrix": a matrix has one exponent; "row": and each of its outputs an offset to it
    overrides           of `Override`, in ``weight_format`` or E2M1; the last one that covers a matrix counts
    block_range         the largest offset of a block of E2M1 weights to its row's exponent, 0: there are none; None:
                        what the array has room for
    """
    weight_format: Fp8 = E3M4
    activation_format: Fp8 = E3M4
    kv_format: Fp8 = E3M4
    p_format: Fp8 = E4M3
    head: str = "single"
    scales: str = later("matrix")
    overrides: tuple = later(())
    block_range: int | None = later(None)

    def __repr__(self):
        return f"Recipe({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in without_unused(self))})"

    def __post_init__(self) -> None:
        for field in ("weight_format", "activation_format", "kv_format", "p_format"):
            known = (WIDE if field in ("weight_format", "kv_format") else FORMATS).values()
            if not isinstance(getattr(self, field), Fp8) or getattr(self, field) not in known:
                raise TypeError(f"{field} must be one of the FP8 formats {' and '.join(map(str, known))}, not "
                                f"{getattr(self, field)!r}")
        if self.head not in ("single", "pair"):
            raise ValueError(f"Head must be 'single' or 'pair', not {self.head!r}")
        if self.scales not in ("matrix", "row"):
            raise ValueError(f"Scales must be 'matrix' or 'row', not {self.scales!r}")
        for override in self.overrides:
            if override.format not in (self.weight_format, E2M1):
                raise ValueError(f"Format of weights must be {self.weight_format}, as the others of 8 bits, or e2m1, "
                                 f"not {override.format}")
            if override.layers is not None and (override.project == HEAD
                                                or not 0 <= override.layers[0] <= override.layers[1]):
                raise ValueError("Layers of a format must be of a layer's matrices, the first one before the last, "
                                 f"not {override}")
        if self.block_range is not None:
            check_int("Block range", self.block_range, 0, max(block_ranges().values()))

    def check(self, model: "ModelShape") -> None:
        """ValueError if a `ModelShape` lacks a matrix or layer that the recipe names, or cannot be in these formats."""
        names = [project.name for project in model.block.of(Project)]
        for override in self.overrides:
            if override.project not in ("", HEAD, *names):
                raise ValueError(f"Format must be of {', '.join(names)} or head, not {override}")
            if override.layers is not None and override.layers[1] >= model.num_hidden_layers:
                raise ValueError(f"Layers of a format must be 0 to {model.num_hidden_layers - 1} with {model.name}, "
                                 f"not {override}")
        if self.format_of(HEAD) == E2M1:
            for wrong, why in ((self.head == "pair", "which is in pairs"), (model.head_bias, "which has a bias")):
                if wrong:
                    raise ValueError(f"Format of the LM head, {why}, must be of 8 bits, not e2m1: "
                                     f"add head={self.weight_format} to --formats")
        if self.block_range is not None:
            if E2M1 not in self.formats(model):
                raise ValueError("Block range must be left out where no matrix is in e2m1")
            if self.block_range > (most := block_ranges()[self.array_format(model)]):
                raise ValueError(f"Block range must be at most {most} in an array of {self.array_format(model)}, not "
                                 f"{self.block_range}")

    def format_of(self, project: str, layer: int | None = None) -> Fp8:
        """The format of a `Project` of a layer, or of the LM head ("head")."""
        found = [override.format for override in self.overrides if override.covers(project, layer)]
        return found[-1] if found else self.weight_format

    def ties(self, model: "ModelShape") -> bool:
        """Whether the LM head of a `ModelShape` is its embedding table in the machine too: it is in the model, and has
        no format of its own."""
        return model.tie_word_embeddings and self.format_of(HEAD) == self.weight_format

    def row_offsets(self, name: str) -> int:
        """The largest offset of a row of a matrix; of the LM head and of tables if ``name`` is "head". 0: there are
        none."""
        return 0 if self.scales == "matrix" else MAX_HEAD_ROW if name == HEAD else MAX_ROW

    def formats(self, model: "ModelShape") -> set[Fp8]:
        """Those of all that goes through the array, of a `ModelShape`: a set."""
        return {self.format_of(HEAD)} | {self.format_of(project.name, layer) for project in model.block.of(Project)
                                         for layer in range(model.num_hidden_layers)}

    def array_format(self, model: "ModelShape") -> Fp8:
        """The format of the array's weights: ``weight_format``, or if all are in E2M1, the narrowest that holds those
        of all blocks."""
        if self.formats(model) != {E2M1}:
            return self.weight_format
        wanted = block_ranges()[E3M1] if self.block_range is None else self.block_range
        # where none is wide enough, `check` says how much the widest has
        return next((fmt for fmt in (E2M1, E3M1, E4M1, self.weight_format) if block_ranges()[fmt] >= wanted), E4M1)

    def largest_block(self, model: "ModelShape") -> int:
        """The largest offset of a block; 0: blocks have none."""
        if E2M1 not in self.formats(model):
            return 0
        return block_ranges()[self.array_format(model)] if self.block_range is None else self.block_range

    @property
    def codes_per_head_weight(self) -> int:
        return 2 if self.head == "pair" else 1


@dataclass(frozen=True, kw_only=True)
class HwShape:
    """The hardware shape. Everything else is derived from it and from the model by `Design`.

    Parameters
    ----------
    lanes               products of a dot product at once, in each column of the MAC array
    columns             dot products at once, one in each column of the MAC array; their sums are exact
    entries             T, entries of one pass
    halves              1, or 2: two half-batches of T / 2 entries that alternate on the array, each weight read once
                        for each
    slots               S, sequences whose keys and values are kept
    context             positions kept for each slot
    dsp_columns         columns of the array that use an FPGA's multipliers, in fixed point, instead of logic: ``lanes``
                        multipliers each, the same values in the same cycles
    dsp_pairs           further pairs of columns that share multipliers, each of which makes a product for both columns:
                        ``lanes`` multipliers a pair, and logic that shifts the products; the same values in the same
                        cycles
    vector_lanes        elements per cycle of norm, RoPE, SwiGLU, residual; even, at most lanes and columns
    attention_lanes     elements of a K or V row per cycle
    attention_rows      rows of K, and of V, per cycle, where the lanes are those of a whole head: a power of two, at
                        most kv_block
    tile_beats          cycles in which one weight tile arrives; 1 = a whole tile each cycle
    kv_block            positions in a KV block
    kv_blocks           blocks of the KV memory, which slots take as they need them; 0 = enough for all slots to be
                        full. A single slot has a block table only with fewer blocks than a whole context needs, which a
                        model's sliding window allows
    kv_ecc              1: single errors of the KV memory are corrected, double errors reported (SECDED)
    kv_port             bits of the AXI4 port to a memory outside that has the keys and values, a power of two, 8 to
                        1024; 0: they are in the machine. Only with source "stream"
    residual_fraction   fraction bits of the 32-bit fixed-point residual; on a command line the default is auto, which
                        suits the model
    attention_hold      1: the sums of a job of attention (an entry's query heads of a K/V head) are held for their
                        division while the next job's are made; 0: they wait where they are, which takes a cycle for
                        each V of them, and saves a register of each
    source              source of the weights: "rom" (memory image), "stream" (ports), or "wired" (matrices are logic,
                        the rest is a memory image)
    wire_levels         adders behind each other in a cycle where matrices are logic: more adders need fewer registers
                        and cycles, and a slower clock
    wire_matrices       which matrices are logic with source "wired": all, or the names of some, with + between them
                        (qkv, o, gate_up, down: of all layers; head); the others go through an array, as adapters do
    sampler             "greedy", or "gumbel" (greedy and temperature)
    adapters            adapters that are resident at once: 0, 1, 3 or 7; each entry names one of them or none
    adapter_rank        the adapters' largest rank
    """
    lanes: int = 16
    columns: int = 16
    entries: int = 1
    halves: int = 1
    slots: int = 1
    context: int = 256
    vector_lanes: int = 4
    attention_lanes: int = 16
    tile_beats: int = 1
    kv_block: int = 16
    kv_blocks: int = 0
    kv_ecc: bool = False
    residual_fraction: int = 16
    source: str = "rom"
    sampler: str = "greedy"
    dsp_columns: int = 0
    adapters: int = later(0)
    adapter_rank: int = later(8)
    dsp_pairs: int = later(0)
    wire_levels: int = later(1)
    wire_matrices: str = later("all")
    kv_port: int = later(0)
    attention_hold: bool = later(True)
    attention_rows: int = later(1)

    def __repr__(self):
        return f"HwShape({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in without_unused(self))})"

    def __post_init__(self) -> None:
        for noun, field in (("Lane count", "lanes"), ("Column count", "columns"), ("Vector lane count", "vector_lanes"),
                            ("Attention lane count", "attention_lanes"), ("Beats per tile", "tile_beats"),
                            ("KV block size", "kv_block")):
            check_power_of_two(noun, getattr(self, field))
        for noun, field in (("Entry count", "entries"), ("Slot count", "slots"), ("Context", "context")):
            check_int(noun, getattr(self, field), 1)
        alone = not self.has_array
        for noun, value, most, bound in (("Entry count", self.entries, 1, self.wired),
                                         ("Half-batch count", self.halves, 1, self.wired),
                                         ("Column count with multipliers", self.dsp_columns, 0, alone),
                                         ("Column pair count with multipliers", self.dsp_pairs, 0, alone)):
            if bound and value != most:
                raise ValueError(f"{noun} must be {most} where matrices are logic, not {value}")
        if not isinstance(self.halves, int) or self.halves not in (1, 2):
            raise ValueError(f"Half-batch count must be 1 or 2, not {self.halves!r}")
        if self.entries % self.halves:
            raise ValueError(f"Entry count must be even where two half-batches alternate, not {self.entries}")
        if self.vector_lanes < 2:
            raise ValueError("Vector lane count must be at least 2 (RoPE and SwiGLU work on pairs), not "
                             f"{self.vector_lanes}")
        for noun, field in (("lane", "lanes"), ("column", "columns"), ("attention lane", "attention_lanes")):
            if self.vector_lanes > getattr(self, field):
                raise ValueError(f"Vector lane count {self.vector_lanes} must be at most the {noun} count "
                                 f"{getattr(self, field)}")
        check_int("Column count with multipliers", self.dsp_columns)
        if not 0 <= self.dsp_columns <= self.columns:
            raise ValueError(f"Column count with multipliers must be 0 to the column count {self.columns}, not "
                             f"{self.dsp_columns}")
        check_int("Column pair count with multipliers", self.dsp_pairs)
        if not 0 <= self.dsp_pairs <= (others := self.columns - self.dsp_columns) // 2:
            raise ValueError(f"Column pair count with multipliers must be 0 to {others // 2}, of the {others} columns "
                             f"without their own, not {self.dsp_pairs}")
        if self.tile_beats > self.columns:
            raise ValueError(f"Beats per tile {self.tile_beats} must be at most the column count {self.columns}")
        if self.beat_bytes < 2 * self.vector_lanes:
            raise ValueError(f"Bytes per beat {self.beat_bytes} (lanes * columns / tile_beats) must be at "
                             f"least twice the vector lane count {self.vector_lanes}")
        if not 0 <= self.residual_fraction <= MOST_FRACTION:
            raise ValueError(f"Residual fraction must be 0 to {MOST_FRACTION} bits, not {self.residual_fraction}")
        if self.source not in ("rom", "stream", "wired"):
            raise ValueError(f"Weight source must be 'rom', 'stream' or 'wired', not {self.source!r}")
        self._check_wires()
        if self.sampler not in ("greedy", "gumbel"):
            raise ValueError(f"Sampler must be 'greedy' or 'gumbel', not {self.sampler!r}")
        check_int("KV block count", self.kv_blocks)
        full = self.slots * self.blocks_per_slot
        if not 0 <= self.kv_blocks <= full:
            raise ValueError(f"KV block count must be 1 to {full} (all that {self.slots} slots can fill), or 0 "
                             f"for that, not {self.kv_blocks}")
        if not isinstance(self.kv_ecc, bool):
            raise TypeError(f"KV ECC must be True or False, not {self.kv_ecc!r}")
        if not isinstance(self.attention_hold, bool):
            raise TypeError(f"Attention's hold must be True or False, not {self.attention_hold!r}")
        self._check_kv_port()
        self._check_attention_rows()
        self._check_adapters()

    def _check_wires(self):
        check_int("Adders behind each other", self.wire_levels, 1, 64)
        if not self.wired and self.wire_levels != 1:
            raise ValueError("Adders behind each other must be 1 where no matrices are logic (source=wired), not "
                             f"{self.wire_levels}")
        if not isinstance(self.wire_matrices, str):
            raise TypeError(f"Matrices that are logic must be names with + between them, not {self.wire_matrices!r}")
        if not self.wired and self.wire_matrices != ALL:
            raise ValueError("Matrices that are logic must be all where none are (add source=wired), not "
                             f"{self.wire_matrices!r}")
        if len(set(self.named_matrices)) < len(self.named_matrices):
            raise ValueError(f"Matrices that are logic must be named once each, not {self.wire_matrices!r}")

    def check(self, block: Block) -> None:
        """ValueError if a `Block` lacks a matrix that the shape names, or has no other ones."""
        names = [*(project.name for project in block.of(Project)), HEAD]
        if unknown := [name for name in self.named_matrices if name not in names]:
            raise ValueError(f"Matrices that are logic must be some of {', '.join(names)}, with + between them, not "
                             f"{unknown[0]!r}")
        if len(self.named_matrices) == len(names):
            raise ValueError("Matrices that are logic must be some by name, or all if wire_matrices is left out, not "
                             f"{self.wire_matrices!r}")

    def _check_kv_port(self):
        check_int("KV port", self.kv_port)
        if not self.kv_port:
            return
        if not 8 <= self.kv_port <= 1024 or self.kv_port & (self.kv_port - 1):
            raise ValueError("KV port must be a power of two, 8 to 1024 bits, or 0 for keys and values in the machine, "
                             f"not {self.kv_port}")
        for noun, value, only in (("Weight source", self.source, "stream"), ("KV ECC", int(self.kv_ecc), 0),
                                  ("Half-batch count", self.halves, 1)):
            if value != only:
                raise ValueError(f"{noun} must be {only} where keys and values are outside (kv_port), not {value}")

    def _check_attention_rows(self):
        check_power_of_two("Attention row count", self.attention_rows)
        if self.attention_rows > self.kv_block:
            raise ValueError(f"Attention row count must be at most the KV block size {self.kv_block}, not "
                             f"{self.attention_rows}")
        for noun, value in (("KV ECC", int(self.kv_ecc)), ("KV port", self.kv_port)):
            if self.attention_rows > 1 and value:
                raise ValueError(f"{noun} must be 0 where attention reads several rows a cycle (attention_rows), not "
                                 f"{value}")

    def _check_adapters(self):
        check_int("Adapter count", self.adapters)
        if self.adapters not in (0, 1, 3, 7):
            raise ValueError("Adapter count must be 0, 1, 3 or 7 (with none they are numbers of whole bits), not "
                             f"{self.adapters}")
        check_int("Adapter rank", self.adapter_rank, 1, 256)

    @property
    def wired(self) -> bool:
        """Matrices are logic, all of them or some: nothing of these is in the stream."""
        return self.source == "wired"

    @property
    def named_matrices(self) -> tuple[str, ...]:
        """Names of the matrices that are logic, where only some are."""
        return () if self.wire_matrices == ALL else tuple(self.wire_matrices.split("+"))

    @property
    def has_array(self) -> bool:
        """Something goes through an array: matrices that are not logic, or adapters."""
        return not self.all_logic or self.adapters > 0

    @property
    def all_logic(self) -> bool:
        """All matrices are logic."""
        return self.wired and self.wire_matrices == ALL

    def is_logic(self, name: str) -> bool:
        """Whether the matrices of a `Project`, or the LM head ("head"), are logic."""
        return self.all_logic or self.wired and name in self.named_matrices

    @property
    def inside(self) -> bool:
        """Whether the machine reads its weights from a memory of its own."""
        return self.source != "stream"

    @property
    def beat_bytes(self) -> int:
        return self.lanes * self.columns // self.tile_beats

    @property
    def blocks_per_slot(self) -> int:
        """Blocks of a full slot."""
        return -(-self.context // self.kv_block)

    @property
    def blocks(self) -> int:
        """Blocks of the KV memory."""
        return self.kv_blocks or self.slots * self.blocks_per_slot

    @property
    def paged(self) -> bool:
        """Slots share the blocks of the KV memory through a block table. A single slot with all that it can fill has
        them in order."""
        return self.slots > 1 or self.blocks < self.blocks_per_slot
