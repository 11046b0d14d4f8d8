"""Single wrong bits, in weights, KV memory and constants: what a self-test injects into a simulation, and what it looks
for."""
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ...golden.admission import admit_pass
from ...golden.kv_cache import KvBlocks
from ...golden.kv_port import row_beat
from ...lib.layouts import EXP_BITS
from ...lib.wires import registers
from ...models.adapter_codes import QuantizedAdapter
from ...models.wires import matrix_name
from ...params.adapters import AdapterPlace
from ...params.block import Project
from ...params.design import Design
from ...params.kv_port import EXPONENT_BYTES
from ...params.secded import check_bits, pieces
from ...params.stream import HEAD
from ...params.tables import changed
from ...params.wired import FixedMatrix
from ...plan.stream_map import describe
from ..links.link import EccState, Entry, KvAnswer, Link, PassResult
from .constants import constants, rope_entry

__all__ = ["AdapterFault", "ConstantFault", "Fault", "FlippingLink", "KvFault", "WeightFault", "WireFault",
           "parse_fault", "rewired"]

KV_MEMORIES = ("k_codes", "v_codes", "k_exps", "v_exps")
SPELLINGS = {"weight": "weight:BEAT:BYTE:BIT", "kv": "kv:MEMORY:WORD:BIT", "constant": "constant:TABLE:ENTRY:BIT",
             "wire": "wire:MATRIX.WORD:BIT:VALUE", "adapter": "adapter:BEAT:BYTE:BIT"}


def parse_fault(text: str, design: Design) -> "Fault":
    """A fault from its spelling. ValueError if that is not one of the design's."""
    kind, *words = text.split(":")
    name, numbers = ([], words) if kind in ("weight", "adapter") else (words[:1], words[1:])
    if kind not in SPELLINGS or len(words) != 3 or not all(n.isdecimal() for n in numbers):
        raise ValueError(f"Fault must be {SPELLINGS.get(kind) or ' or '.join(SPELLINGS.values())}, not {text!r}")
    fault = {"weight": WeightFault, "kv": KvFault, "constant": ConstantFault,
             "wire": WireFault, "adapter": AdapterFault}[kind](*name, *map(int, numbers))
    fault.check(design)
    return fault


def _check(noun, value, count):
    if not 0 <= value < count:
        raise ValueError(f"{noun} must be 0 to {count - 1}, not {value}")


@dataclass(frozen=True)
class WeightFault:
    """A flipped bit of the weight stream that the machine reads."""
    beat: int
    byte: int
    bit: int
    unit = "weights"

    def check(self, design: Design) -> None:
        describe(design, self.beat, self.byte)
        _check("Bit of a byte", self.bit, 8)

    def where(self, design: Design) -> str:
        return f"weight beat {self.beat}, byte {self.byte}, bit {self.bit}: {describe(design, self.beat, self.byte)}"

    def apply(self, path: Path, design: Design) -> None:
        """Flip it in a file: a memory image (one beat a line, in hexadecimal, byte 0 last) or the stream's bytes."""
        size = design.hw.beat_bytes
        with open(path, "r+b") as file:
            if path.suffix == ".hex":
                file.seek(self.beat * (2 * size + 1) + 2 * (size - 1 - self.byte))
                value = int(file.read(2), 16)
                file.seek(-2, os.SEEK_CUR)
                file.write(b"%02x" % (value ^ 1 << self.bit))
            else:
                file.seek(self.beat * size + self.byte)
                value = file.read(1)[0]
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([value ^ 1 << self.bit]))


@dataclass(frozen=True)
class AdapterFault:
    """A bit of the adapters' memory that flips once, when its adapter has been loaded. ``beat``: of the whole
    memory."""
    beat: int
    byte: int
    bit: int
    unit = "adapters"

    @classmethod
    def of_exponent(cls, design: Design, number: int, place: AdapterPlace, bit: int) -> Self:
        """Of the exponent of an `AdapterPlace` of an adapter."""
        return cls((number - 1) * design.adapter_map.beats + place.address, *divmod(bit, design.adapter_map.code_bits))

    @classmethod
    def of_code(cls, design: Design, number: int, place: AdapterPlace, which: str, row: int, column: int,
                bit: int) -> Self:
        """Of a code of "a" or "b" of an `AdapterPlace`."""
        matmul: Any
        hw, (address, matmul) = design.hw, (place.a_address, place.a) if which == "a" else (place.b_address, place.b)
        tile = row // hw.columns * matmul.k_tiles + column // hw.lanes
        beat, byte = divmod(row % hw.columns * hw.lanes + column % hw.lanes, hw.beat_bytes)
        return cls((number - 1) * design.adapter_map.beats + address + tile * hw.tile_beats + beat, byte, bit)

    def number_in(self, design: Design) -> int:
        """The number of its adapter."""
        return 1 + self.beat // design.adapter_map.beats

    def check(self, design: Design) -> None:
        if not design.hw.adapters:
            raise ValueError("Faults of adapters must be of a machine that has some: add adapters=1 to --shape")
        _check("Beat of the adapters' memory", self.beat, design.hw.adapters * design.adapter_map.beats)
        _check("Byte of a beat", self.byte, design.hw.beat_bytes)
        _check("Bit of a byte", self.bit, design.adapter_map.code_bits)

    def kept(self, design: Design) -> int:
        """Which bit of the memory's word it is."""
        return design.adapter_map.code_bits * self.byte + self.bit

    def where(self, design: Design) -> str:
        hw, at = design.hw, self.beat % design.adapter_map.beats
        place = next(place for place in design.adapter_map if at < place.end)
        matrices = next(project.matrices for project in design.block.of(Project) if project.name == place.project)
        if at == place.address:
            what = f"exponent, bit {self.kept(design)}" if self.kept(design) < 16 else "unused"
        else:
            in_a = at < place.b_address
            matmul, beat = (place.a, at - place.a_address) if in_a else (place.b, at - place.b_address)
            tile, inside = divmod(beat * hw.beat_bytes + self.byte, hw.columns * hw.lanes)
            row = tile // matmul.k_tiles * hw.columns + inside // hw.lanes
            column = tile % matmul.k_tiles * hw.lanes + inside % hw.lanes
            matrix, rank = divmod(row if in_a else column, hw.adapter_rank)
            what = (f"{'A' if in_a else 'B'} of {matrices[matrix]}, rank {rank}, {'input' if in_a else 'output'} "
                    f"{column if in_a else row}, bit {self.bit}" if matrix < len(matrices) else "unused")
        return (f"adapter memory, beat {self.beat}, byte {self.byte}, bit {self.bit}: adapter "
                f"{self.number_in(design)}, "
                f"layer {place.layer}, {place.project}, {what}")


@dataclass(frozen=True)
class KvFault:
    """A bit of the KV memory that flips once, when its word has first been written.

    ``memory`` is one of "k_codes", "v_codes", "k_exps" and "v_exps", each of words as `hwgen.units.kv_cache` has them.
    """
    memory: str
    word: int
    bit: int
    unit = "kv_cache"

    @classmethod
    def at(cls, design: Design, memory: str, layer: int, head: int, block: int, offset: int, element: int | None,
           bit: int) -> Self:
        """Of an element of a head's row (exponents have none), in the block of its position."""
        hw, lanes = design.hw, design.hw.attention_lanes
        row = ((layer * design.kv_heads + head) * hw.blocks + block) * hw.kv_block + offset
        if memory.endswith("exps"):
            return cls(memory, row, bit)
        assert element is not None
        return cls(memory, row * (design.padded_head_dim // lanes) + element // lanes, element % lanes * 8 + bit)

    def place(self, design: Design) -> tuple[int, int, int, int, int]:
        """(layer, head, block, offset, part of the row)."""
        hw = design.hw
        row, part = divmod(self.word, self._shape(design)[1])
        line, position = divmod(row, hw.blocks * hw.kv_block)
        return *divmod(line, design.kv_heads), *divmod(position, hw.kv_block), part

    def check(self, design: Design) -> None:
        if self.memory not in KV_MEMORIES:
            raise ValueError(f"KV memory must be one of {', '.join(KV_MEMORIES)}, not {self.memory!r}")
        width, parts = self._shape(design)
        check = sum(check_bits(n) for _, n in pieces(width)) if design.hw.kv_ecc else 0
        rows = design.layers * design.kv_heads * design.hw.blocks * design.hw.kv_block
        _check(f"Word of {self.memory}", self.word, rows * parts)
        _check(f"Bit of a word of {self.memory}", self.bit, width + check)

    def _shape(self, design):
        """(bits of a word, words of a head's row)."""
        lanes = design.hw.attention_lanes
        return (EXP_BITS, 1) if self.memory.endswith("exps") else (8 * lanes, design.padded_head_dim // lanes)

    def outside(self, design: Design) -> tuple[int, int]:
        """(byte, bit) where keys and values are outside, from their first byte on."""
        layer, head, block, offset, part = self.place(design)
        places, value = design.kv_places, int(self.memory == "v_codes")
        beat = row_beat(design, layer * design.kv_heads + head, block, offset, value)
        if self.memory.endswith("codes"):
            beat += part + (0 if value else places.head_beats)
        behind = EXPONENT_BYTES * (self.memory == "v_exps")     # both exponents are in front of the K row
        return beat * places.beat_bytes + behind + self.bit // 8, self.bit % 8

    def where(self, design: Design) -> str:
        (layer, head, block, offset, part), (width, _) = self.place(design), self._shape(design)
        if self.bit >= width:
            what = "a check bit"
        elif self.memory.endswith("exps"):
            what = f"exponent, bit {self.bit}"
        else:
            what = f"element {part * design.hw.attention_lanes + self.bit // 8}, bit {self.bit % 8}"
        outside = "outside, byte {}, bit {}, which is ".format(*self.outside(design)) if design.hw.kv_port else ""
        return (f"KV memory {outside}{self.memory}, word {self.word}, bit {self.bit}: layer {layer}, "
                f"{self.memory[0].upper()} head {head}, position {offset} of block {block}, {what}")


@dataclass(frozen=True)
class ConstantFault:
    """A wrong bit of a constant in the Verilog: of an entry of one of the tables that `constants` names."""
    table: str
    entry: int
    bit: int

    def check(self, design: Design) -> None:
        known = constants(design)
        if self.table not in known:
            raise ValueError(f"Table of constants must be one of {', '.join(known)}, not {self.table!r}")
        table = known[self.table]
        _check(f"Entry of {self.table}", self.entry, len(table.entries))
        _check(f"Bit of an entry of {self.table}", self.bit, table.bits)
        if table.flipped(self.entry, self.bit) is None:
            raise ValueError(f"Entry {self.entry} of {self.table} cannot have bit {self.bit} wrong: its unit has no "
                             "bits for what comes out")

    def where(self, design: Design) -> str:
        table = constants(design)[self.table]
        if not self.table.startswith("rope"):
            return f"constant {self.table}, entry {self.entry}, bit {self.bit}: of {table.unit}"
        position, rope, pair, part = rope_entry(design, self.entry)
        which = f" of RoPE {rope}" if len(design.model.ropes()) > 1 else ""
        return (f"constant {self.table}, entry {self.entry}, bit {self.bit}: of {table.unit}, "
                f"{('cosine', 'sine')[part]} of pair {pair}{which} at "
                + (f"positions that are {position} modulo 64" if self.table == "rope_low"
                   else f"positions {64 * position} to {64 * position + 63}"))

    def changed(self, design: Design) -> contextlib.AbstractContextManager[None]:
        """Context manager: within it tables are those of the faulty machine."""
        table = constants(design)[self.table]
        return table.changed(table.flipped(self.entry, self.bit))


@dataclass(frozen=True)
class WireFault:
    """A register of a matrix that is logic, which keeps one value: bit ``bit`` of ``word``, as "gate_up_0.c12"
    (`hwgen.lib.wires.registers`)."""
    word: str
    bit: int
    value: int
    unit = "wired"

    @property
    def matrix(self) -> str:
        return self.word.partition(".")[0]

    def check(self, design: Design) -> None:
        if not design.hw.wired:
            raise ValueError("Faults of wires must be of matrices that are logic: add source=wired to --shape")
        keys = [*((project.name, layer) for layer in range(design.layers) for project in design.block.of(Project)),
                (HEAD, None)]
        names = [matrix_name(*key) for key in keys if design.hw.is_logic(key[0])]
        if self.matrix not in names:
            raise ValueError(f"Matrix of a wire must be one of {', '.join(names)}, not {self.matrix!r}")
        _check("Value of a register", self.value, 2)

    def check_in(self, wires: Mapping[tuple[str, int | None], FixedMatrix]) -> None:
        """ValueError if a register is none of a machine's matrices: {(name, layer): `FixedMatrix`}."""
        words = next(registers(matrix.plan) for key, matrix in wires.items() if matrix_name(*key) == self.matrix)
        word = self.word.partition(".")[2]
        if word not in words:
            kinds = {letter: len([name for name in words if name[0] == letter]) for letter in "crqd"}
            names = ", ".join(f"{letter}0 to {letter}{count - 1}" for letter, count in kinds.items() if count)
            raise ValueError(f"Word of registers of {self.matrix} must be one of {names}, not {word!r}")
        _check(f"Bit of {self.word}", self.bit, len(words[word]))

    def where(self, design: Design) -> str:
        return f"register {self.word}, bit {self.bit}, is always {self.value}"

    def changed(self, design: Design) -> contextlib.AbstractContextManager[None]:
        """Context manager: within it the matrix has that register."""
        return changed("stuck_register", (self.word.partition(".")[2], self.bit, self.value), self.matrix)


#: Any of them.
Fault = WeightFault | AdapterFault | KvFault | ConstantFault | WireFault


@contextlib.contextmanager
def rewired(design: Design, faults: Iterable[Fault]) -> Iterator[None]:
    """Within it, Verilog is emitted with the faults of constants and registers in it."""
    with contextlib.ExitStack() as stack:
        for fault in faults:
            if isinstance(fault, (ConstantFault, WireFault)):
                stack.enter_context(fault.changed(design))
        yield


class FlippingLink(Link):
    """A link to a simulated machine, bits of whose memories flip: of the KV memory between passes, each once, when its
    word has been written; and of an adapter's once it has been loaded.

    Parameters
    ----------
    link                    has ``flip(memory, word, bit)``; that of a board with a memory ``control`` too
    faults : list           those that are `KvFault` or `AdapterFault`
    """

    def __init__(self, link: Link, faults: Sequence[AdapterFault | KvFault]) -> None:
        self.design = link.design
        self._link: Any = link
        self._faults, self._blocks = [f for f in faults if isinstance(f, KvFault)], KvBlocks(link.design)
        self._of_adapters = [f for f in faults if isinstance(f, AdapterFault)]

    def __getattr__(self, name):
        return getattr(self._link, name)

    def run_pass(self, entries: Sequence[Entry]) -> PassResult:
        result = self._link.run_pass(entries)
        admit_pass(self.design, self._blocks, [(e.slot, e.position, e.token) for e in entries])
        for fault in [f for f in self._faults if self._holds(f)]:
            self._flip(fault)
            self._faults.remove(fault)
        return result

    def _flip(self, fault):
        if not self.design.hw.kv_port:
            self._link.flip(fault.memory, fault.word, fault.bit)
            return
        byte, bit = fault.outside(self.design)
        if hasattr(self._link, "control"):      # of a board: in the memory of the weights, behind them
            self._link.control(f"memory flip {self.design.kv_base + byte} {bit}")
        else:
            self._link.flip("outside", byte, bit)

    def load_adapter(self, number: int, quantized: QuantizedAdapter) -> None:
        self._link.load_adapter(number, quantized)
        for fault in self._of_adapters:
            if fault.number_in(self.design) == number:
                self._link.flip("adapters", fault.beat, fault.kept(self.design))

    def _holds(self, fault):
        hw, (_, _, block, offset, _) = self.design.hw, fault.place(self.design)
        tables = self._blocks.tables if hw.paged else [range(hw.blocks)]
        return any(block in table and table.index(block) * hw.kv_block + offset < length
                   for table, length in zip(tables, self._blocks.lengths))

    def operate(self, op: int, slot: int, other: int = 0, length: int = 0) -> KvAnswer:
        answer = self._link.operate(op, slot, other, length)
        self._blocks.operate(op, slot, other, length)
        return answer

    def reset(self) -> None:
        self._link.reset()
        self._blocks = KvBlocks(self.design)

    def configure(self, inv_temperature: int, seed: int) -> None:
        self._link.configure(inv_temperature, seed)

    def ecc(self) -> EccState:
        return self._link.ecc()
