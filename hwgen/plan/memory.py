"""The clocked memories of a machine on a board, and how Yosys maps them to block RAM, which can be counted exactly.

Memories that are read without a clock (queues, block tables) are not here: they become LUTs, with the logic of their
units.
"""
from dataclasses import dataclass

from ..lib.layouts import EXP_BITS
from ..lib.norm import tree_stages
from ..lib.secded import stored_bits
from ..params.block import Project
from ..params.counters import EVENTS
from ..params.design import Design
from ..params.kv_port import kv_axi
from ..params.tables import ROPE_BLOCK, SCORE_BITS

__all__ = ["BLOCKS", "Blocks", "Memory", "Placed", "memories", "place"]


@dataclass(frozen=True)
class Memory:
    """``depth`` rows of ``width`` bits, which are written ``granule`` bits at a time. ``rom``: not written at all."""
    unit: str
    width: int
    depth: int
    granule: int = 0
    rom: bool = False


@dataclass(frozen=True)
class Placed:
    """The resources of a memory: blocks, LUTs (of distributed memory and of multiplexers between blocks),
    flip-flops."""
    blocks: int = 0
    luts: int = 0
    ffs: int = 0


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A family's memories, with Yosys' costs of them.

    rows : dict         {bits of a block's word: its rows}
    byte : int          bits of a word that are written together, at least
    cost : int          of a block ...
    lutram : float      ... of a 16 x 4 RAM in LUTs (0: there is none), which takes so many ``luts`` and ``ffs`` of the
                        chip ...
    bit : float         ... and of a bit in flip-flops
    """
    rows: dict[int, int]
    byte: int
    cost: int
    lutram: float = 0
    luts: int = 4
    ffs: int = 0
    bit: float = 1


def _rows(bits, *widths):
    return {width: bits // (width // 9 * 8 if width % 9 == 0 else width) for width in widths}


BLOCKS = {
    "ecp5": Blocks(rows=_rows(16384, 1, 2, 4, 9, 18, 36), byte=9, cost=128, lutram=4, luts=6),
    "gowin": Blocks(rows=_rows(16384, 1, 2, 4, 9, 18, 36), byte=9, cost=128, lutram=4, luts=8, ffs=6),
    "gowin5": Blocks(rows=_rows(16384, 1, 2, 4, 9, 18, 36), byte=9, cost=128, lutram=4, luts=8),
    "xilinx7": Blocks(rows=_rows(16384, 1, 2, 4, 9, 18, 36), byte=9, cost=128, lutram=4),
    "ice40": Blocks(rows=_rows(4096, 2, 4, 8, 16), byte=1, cost=64),
}


def memories(design: Design) -> list[Memory]:
    """The `Memory` list of a board's machine."""
    hw, head = design.hw, design.padded_head_dim
    v, rows = hw.vector_lanes, design.half_batch().hw.entries
    made = [Memory("weights", 8 * hw.beat_bytes, design.stream_beats, rom=True)] if hw.inside else []

    kept = stored_bits if hw.kv_ecc else lambda bits: bits
    positions = design.layers * design.kv_heads * hw.blocks * hw.kv_block
    words = positions * head // hw.attention_lanes
    if hw.kv_port:
        made.append(Memory("kv_bus", hw.kv_port + 1, kv_axi(hw).fifo_words))
    else:
        made += 2 * hw.attention_rows * [Memory("kv_cache", kept(8 * hw.attention_lanes), words // hw.attention_rows),
                                         Memory("kv_cache", kept(EXP_BITS), positions // hw.attention_rows)]
    counts = hw.attention_rows * (hw.attention_rows > 1)        # bits that say which rows count
    groups = min(-(-hw.context // hw.attention_rows), (design.rows_seen() - 2) // hw.attention_rows + 2)
    made += [Memory("attention", bits, 2 * groups)
             for bits in (*design.group * [hw.attention_rows * SCORE_BITS], hw.attention_rows * EXP_BITS + counts)]

    def buffer(unit, rows, length, lanes, granule):
        return Memory(unit, 16 * lanes, rows * length // lanes, 0 if granule == lanes else 16 * granule)

    made += [buffer("xa", hw.entries, design.padded_hidden_size, hw.lanes, v),
             buffer("xo", rows, design.padded_attention_size, hw.lanes, v),
             buffer("xh", rows, design.padded_intermediate_size, hw.lanes, v // (1 + design.block.gated)),
             buffer("qkv", rows * design.qkv_heads, head, hw.attention_lanes, v)]
    if hw.adapters:
        inner = max(design.adapter_matmuls(project)[1].cols for project in design.block.of(Project))
        made += [Memory("adapters", design.adapter_map.kept_bits, hw.adapters * design.adapter_map.beats),
                 buffer("xz", rows, inner, hw.lanes, v)]
    made += hw.halves * [Memory("residual", 32 * v, rows * design.padded_hidden_size // v)] + _of_block(design)
    made.append(Memory("rmsnorm", 16 * v, max(2, design.padded_hidden_size // v)))
    ropes = len(design.model.ropes())
    if ropes:
        pairs, words = ropes * (design.model.head_dim
                                // 2), hw.entries << (head // v - 1).bit_length() + (ropes - 1).bit_length()
        made += [Memory("rope", 32 * v // 2, max(2, words), 0 if v == 2 else 32),
                 Memory("rope", 36, ROPE_BLOCK * pairs, rom=True),
                 Memory("rope", 36, -(-hw.context // ROPE_BLOCK) * pairs, rom=True)]
    made += [Memory("counters", 32, len(EVENTS)), Memory("decoder", 32, design.layers * hw.entries)]
    return made + 2 * [Memory("bridge", 8, 256)]


def _of_block(design):
    """Those that a block has and Llama's has not: of sums that are normed, of biases, of the norm of queries and
    keys."""
    hw, block = design.hw, design.block
    v, rows, made = hw.vector_lanes, design.half_batch().hw.entries, []

    def biases(projects):
        return sum(design.matmul(project.name).rows // v for project in projects if block.biased(project))

    if block.post_norms:
        made += hw.halves * [Memory("sums", 32 * v, rows * design.padded_hidden_size // v)]
    if depth := biases(block.converted):
        made.append(Memory("convert", 16 * v, max(2, hw.halves * depth)))
    if depth := biases(block.added):
        # as fixed-point numbers; and whether one was clipped
        made += hw.halves * [Memory("sums" if block.post_norms else "residual", 33 * v, depth)]
    if block.qk_norm:
        parts = design.padded_head_dim // v
        vectors = [parts * (count if block.qk_norm.span == "projection" else 1)
                   for count in (design.kv_heads, design.heads)]
        made += [Memory("qk_norm", 16 * v, depth) for depth in (
            rows * (design.kv_heads + design.heads) * parts, max(vectors) + 9 + tree_stages(v),
            hw.halves * sum(vectors))]
    return made


def _select(width, inputs):
    """LUTs of a multiplexer."""
    return width * (inputs - 1 - (inputs >= 4))


def _in_blocks(memory, blocks):
    """(blocks, words that are read side by side) with the cheapest width of a block's word."""
    found = []
    for width, rows in blocks.rows.items():
        stacks = -(-memory.depth // rows)
        # What a stack leaves of its last block holds a part of the next: any bits of a ROM, whole bytes of what is
        # written.
        byte, granule = (1, memory.width) if memory.rom else (min(blocks.byte, width), memory.granule or memory.width)
        bits = memory.width // granule * -(-granule // byte) * byte
        count = -(-stacks * bits // width)
        found.append((blocks.cost * count + memory.width * (stacks - 1), count, stacks))
    return min(found, key=lambda each: each[0])[1:]


def place(memory: Memory, family: str) -> Placed:
    """How Yosys makes a memory: by the least of its costs, as a `Placed`."""
    blocks = BLOCKS[family]
    count, stacks = _in_blocks(memory, blocks)
    bits, words = memory.width * memory.depth, -(-memory.depth // 16)
    if memory.rom:
        if blocks.cost * count > bits / 16:
            return Placed()         # logic, which the costs of its unit have
        return Placed(count, _select(memory.width, stacks), stacks.bit_length())
    lutrams = -(-memory.width // 4) * words
    if memory.depth == 1 or blocks.cost * count > (blocks.lutram * lutrams if blocks.lutram else blocks.bit * bits):
        if memory.depth > 1 and blocks.lutram:
            return Placed(0, blocks.luts * lutrams + _select(memory.width, words), memory.width + blocks.ffs * lutrams)
        return Placed(0, _select(memory.width, memory.depth), memory.width * (memory.depth + 1))
    # A row that is read and written in one cycle is read as it was: a register holds it beside the block.
    return Placed(count, _select(memory.width, stacks) + memory.width, 2 * memory.width)
