"""What a user chooses: the hardware shape and the number formats."""
from dataclasses import dataclass

from .checks import check_int, check_power_of_two
from .formats import E3M4, E4M3, Fp8

__all__ = ["HwShape", "Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Number formats. ``head`` is ``"single"`` (one code per LM-head weight) or ``"pair"`` (hi + lo, two passes)."""
    weight_format: Fp8 = E3M4
    activation_format: Fp8 = E3M4
    kv_format: Fp8 = E3M4
    p_format: Fp8 = E4M3
    head: str = "single"

    def __post_init__(self):
        for field in ("weight_format", "activation_format", "kv_format", "p_format"):
            if not isinstance(getattr(self, field), Fp8):
                raise TypeError(f"{field} must be one of the FP8 formats e3m4 and e4m3, not {getattr(self, field)!r}")
        if self.head not in ("single", "pair"):
            raise ValueError(f"Head must be 'single' or 'pair', not {self.head!r}")

    @property
    def codes_per_head_weight(self):
        return 2 if self.head == "pair" else 1


@dataclass(frozen=True, kw_only=True)
class HwShape:
    """The hardware shape. Everything else is derived from it and from the model by `Design`.

    Parameters
    ----------
    lanes, columns      the MAC array: ``columns`` exact dot products of ``lanes`` products each, per cycle
    entries             T, entries of one pass
    halves              1, or 2: two half-batches of T / 2 entries that alternate on the array, each weight read once for each
    slots               S, sequences whose keys and values are kept
    context             positions kept for each slot
    dsp_columns         columns of the array whose products are made by an FPGA's multipliers, in fixed point, and not by logic: the same
                        values in the same cycles, ``lanes`` multipliers each
    vector_lanes        elements per cycle of norm, RoPE, SwiGLU, residual; even, at most lanes and columns
    attention_lanes     elements of a K or V row per cycle
    tile_beats          cycles in which one weight tile arrives; 1 = a whole tile each cycle
    kv_block            positions in a KV block
    kv_blocks           blocks of the KV memory, which slots take as they need them; 0 = enough for all slots to be full.
                        A single slot always has all that it can fill, and needs no block table
    kv_ecc              single errors of the KV memory are corrected, double errors reported (SECDED)
    residual_fraction   fraction bits of the 32-bit fixed-point residual
    source              where the weights come from: "rom" (memory image) or "stream" (ports)
    sampler             "greedy", or "gumbel" (greedy and temperature)
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

    def __post_init__(self):
        for noun, field in (("Lane count", "lanes"), ("Column count", "columns"), ("Vector lane count", "vector_lanes"),
                            ("Attention lane count", "attention_lanes"), ("Beats per tile", "tile_beats"),
                            ("KV block size", "kv_block")):
            check_power_of_two(noun, getattr(self, field))
        for noun, field in (("Entry count", "entries"), ("Slot count", "slots"), ("Context", "context")):
            check_int(noun, getattr(self, field), 1)
        if not isinstance(self.halves, int) or self.halves not in (1, 2):
            raise ValueError(f"Half-batch count must be 1 or 2, not {self.halves!r}")
        if self.entries % self.halves:
            raise ValueError(f"Entry count must be even where two half-batches alternate, not {self.entries}")
        if self.vector_lanes < 2:
            raise ValueError(f"Vector lane count must be at least 2 (RoPE and SwiGLU work on pairs), not {self.vector_lanes}")
        for noun, field in (("lane", "lanes"), ("column", "columns"), ("attention lane", "attention_lanes")):
            if self.vector_lanes > getattr(self, field):
                raise ValueError(f"Vector lane count {self.vector_lanes} must be at most the {noun} count {getattr(self, field)}")
        check_int("Column count with multipliers", self.dsp_columns)
        if not 0 <= self.dsp_columns <= self.columns:
            raise ValueError(f"Column count with multipliers must be 0 to the column count {self.columns}, not {self.dsp_columns}")
        if self.tile_beats > self.columns:
            raise ValueError(f"Beats per tile {self.tile_beats} must be at most the column count {self.columns}")
        if self.beat_bytes < 2 * self.vector_lanes:
            raise ValueError(f"Bytes per beat {self.beat_bytes} (lanes * columns / tile_beats) must be at least twice the "
                             f"vector lane count {self.vector_lanes}")
        if not 0 <= self.residual_fraction <= 24:
            raise ValueError(f"Residual fraction must be 0 to 24 bits, not {self.residual_fraction}")
        if self.source not in ("rom", "stream"):
            raise ValueError(f"Weight source must be 'rom' or 'stream', not {self.source!r}")
        if self.sampler not in ("greedy", "gumbel"):
            raise ValueError(f"Sampler must be 'greedy' or 'gumbel', not {self.sampler!r}")
        check_int("KV block count", self.kv_blocks)
        full = self.slots * self.blocks_per_slot
        if not 0 <= self.kv_blocks <= full:
            raise ValueError(f"KV block count must be 1 to {full} (all that {self.slots} slots can fill), or 0 for that, not {self.kv_blocks}")
        if not self.paged and self.kv_blocks not in (0, full):
            raise ValueError(f"KV block count of a single slot must be all that it can fill, {full}, not {self.kv_blocks}")
        if not isinstance(self.kv_ecc, bool):
            raise TypeError(f"KV ECC must be True or False, not {self.kv_ecc!r}")

    @property
    def beat_bytes(self):
        return self.lanes * self.columns // self.tile_beats

    @property
    def blocks_per_slot(self):
        """Blocks of a full slot."""
        return -(-self.context // self.kv_block)

    @property
    def blocks(self):
        """Blocks of the KV memory."""
        return self.kv_blocks or self.slots * self.blocks_per_slot

    @property
    def paged(self):
        """Slots share the blocks of the KV memory through a block table. A single slot has them to itself."""
        return self.slots > 1
