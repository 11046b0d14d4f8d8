"""The registers of an `AxiDecoder`: RTL, golden model, C header, SystemVerilog, SystemRDL and pages use this one
description."""
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .axi import AXI_EVENTS, AxiShape
from .card import CARD_MEANINGS
from .errors import MEANINGS, OPERATIONS
from .loader import LOAD_MEANINGS
from .counters import EVENTS

if TYPE_CHECKING:
    from .design import Design

__all__ = ["ACCESS", "Field", "IRQS", "Register", "RegisterMap", "RESULT", "RESULT_ERRORS", "command_fields",
           "design_id", "register_map", "word_bits"]

VERSION = 2             # of this map: another number, another driver
MAGIC = 0x4E475748      # "HWGN", lowest byte first

#: What software may do with a field.
ACCESS = {
    "const": "read; always the same",
    "ro": "read",
    "rw": "read, write",
    "w1c": "read; writing 1 clears the bit",
    "pulse": "writing 1 does it; reads as 0",
    "push": "writing does it, with the value; reads as 0",
}


@dataclass(frozen=True, kw_only=True)
class Field:
    """Bits ``lsb`` to ``lsb + width - 1``. ``reset`` is a constant's value, or the first value of an rw field."""
    name: str
    lsb: int
    width: int
    access: str
    text: str
    reset: int = 0

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.lsb


@dataclass(frozen=True, kw_only=True)
class Register:
    """32 bits at a byte offset, or, for a ``window`` on a memory, ``count`` of them side by side.

    A window has one "ro" field, and its offset is a multiple of its size rounded up to a power of two.
    """
    name: str
    offset: int
    text: str
    fields: tuple[Field, ...]
    count: int = 1
    window: bool = False


@dataclass(frozen=True, kw_only=True)
class RegisterMap:
    """All registers, by rising offset."""
    registers: tuple[Register, ...]

    @property
    def address_width(self) -> int:
        """Bits of a byte address."""
        last = self.registers[-1]
        return max(12, (last.offset + 4 * last.count - 1).bit_length())

    def __getitem__(self, name: str) -> Register:
        return {register.name: register for register in self.registers}[name]

    def __contains__(self, name: object) -> bool:
        return any(register.name == name for register in self.registers)


def _field(name, lsb, width, access, text, reset=0) -> Field:
    return Field(name=name, lsb=lsb, width=width, access=access, text=text, reset=reset)


#: An entry of a pass.
_COMMAND = (
    _field("token", 0, 32, "rw", "the token"),
    _field("position", 32, 20, "rw", "its position in the sequence, from 0"),
    _field("slot", 52, 10, "rw", "the sequence"),
    _field("want", 62, 1, "rw", "the token after it is wanted"),
    _field("last", 63, 1, "rw", "it closes the pass, and starts it"),
)
_KEY = _field("key", 64, 32, "rw", "makes the noise of the token after it, together with SEED: another one for each "
                                   "token of a text")
_ADAPTER = _field("adapter", 96, 3, "rw", "the number of its adapter, which is loaded, or 0")


def _value(access, text, width=32, reset=0):
    """The field of a register that is one number."""
    return _field("value", 0, width, access, text, reset)


def command_fields(design: "Design") -> tuple[Field, ...]:
    """Fields of an entry of a pass, which has `word_bits` of them."""
    return (*_COMMAND, *[_KEY] * (design.hw.sampler == "gumbel"), *[_ADAPTER] * bool(design.hw.adapters))


def word_bits(fields: Iterable[Field]) -> int:
    """Bits of a stream's word that holds the fields: a power of two."""
    return 1 << (max(f.lsb + f.width for f in fields) - 1).bit_length()


#: A result, 64 bits.
RESULT = (
    _field("token", 0, 32, "ro", "the token after the entry"),
    _field("entry", 32, 16, "ro", "number of the entry in its pass, from 0"),
    _field("error", 48, 8, "ro", "why the entry was refused; "
           + "; ".join(f"{code.value}: {text}" for code, text in MEANINGS.items() if code)),
    _field("bus_error", 56, 1, "ro", "weights of this pass could not be read: its tokens, and what it wrote into "
                                     "slots, are of no use"),
    _field("none", 62, 1, "ro", "a result of no entry: the only one of a pass in which none wanted output, or an "
                                "error of the pass itself"),
    _field("last", 63, 1, "ro", "the last result of the pass"),
)

#: Codes of ERROR.code.
RESULT_ERRORS = {
    "none": "nothing",
    "slave": "the memory answered SLVERR",
    "decode": "nothing answers at that address (DECERR)",
    "protocol": "a burst's last word came early, late or unasked",
    "timeout": "no word came for TIMEOUT cycles",
}

#: Bits of IRQ_STATUS and IRQ_ENABLE.
IRQS = {
    "done": "a pass has ended: its last result is there",
    "result": "a result is there",
    "error": "weights could not be read: see ERROR and ERROR_ADDRESS. Clearing it clears those",
    "kv": "the operation on the KV memory was answered: see KV_ANSWER",
    "dropped": "an entry from the stream had a number that the machine has no bits for: it was left out of its pass",
}


def design_id(design: "Design", axi: AxiShape) -> int:
    """32 bits that tell shapes of machines apart."""
    return zlib.crc32(repr((design.model, design.hw, design.recipe, axi)).encode())


def _split(fields, word, access):
    """The fields of an entry or a result that are in its 32 bits number ``word``, as a register has them."""
    return tuple(_field(f.name, f.lsb - 32 * word, f.width, access, f.text) for f in fields if f.lsb // 32 == word)


def _bus_registers(register, axi):
    """Registers of the bus that weights come over."""
    register(0x040, "WEIGHT_BASE_LO", "where the weights are, change it between passes only",
             _field("value", 12, min(20, axi.address_width - 12), "rw",
                    "address of their first byte, a multiple of 4096"))
    if axi.address_width > 32:
        register(0x044, "WEIGHT_BASE_HI", "upper bits",
                 _value("rw", "upper bits of the address", axi.address_width - 32))
    register(0x048, "ERROR", "the first error on the bus since IRQ_STATUS.error was cleared",
             _field("code", 0, 3, "ro", "; ".join(f"{i}: {text}" for i, text in enumerate(RESULT_ERRORS.values()))),
             _field("count", 16, 16, "ro", "errors, 65535 at most"))
    register(0x04C, "ERROR_ADDRESS_LO", "its address",
             _value("ro", "of the word that failed (timeout: that is owed)", min(32, axi.address_width)))
    if axi.address_width > 32:
        register(0x050, "ERROR_ADDRESS_HI", "upper bits",
                 _value("ro", "upper bits of the address", axi.address_width - 32))
    register(0x054, "TIMEOUT", "of reads",
             _value("rw", "cycles without a word, while some are owed, that are an error; 0: never"))


def _loader_registers(register):
    """Registers of the loader of the weights' memory, for which LOAD_ADDRESS is written first."""
    register(0x0B0, "LOAD_ADDRESS", "of the next block",
             _value("rw", "address of its first byte: of a whole word of the memory"))
    never = ("Answered with an error while a pass or another block is under way, the memory is not ready, or the block "
             "is empty or goes beyond the addresses")
    register(0x0B4, "LOAD", "a block comes: the next bytes of the line go into the memory, and no frame is "
                            f"understood before the block is whole, or the line was silent. {never}",
             _value("push", "bytes of the block"))
    register(0x0B8, "CHECK", f"a block is read back, for its CRC. {never}", _value("push", "bytes of the block"))
    register(0x0BC, "LOAD_STATUS", "of the memory and the latest block",
             _field("busy", 0, 1, "ro", "the block is under way"),
             _field("ready", 1, 1, "ro", "the memory's start-up is over"),
             _field("failed", 2, 1, "ro", "the memory's start-up has failed"),
             _field("loaded", 3, 1, "ro", "weights are there, as SEAL says"),
             _field("error", 8, 3, "ro", "; ".join(f"{code.value}: {text}" for code, text in LOAD_MEANINGS.items())))
    register(0x0C0, "LOAD_COUNT", "of the latest block", _value("ro", "bytes that came, or were read"))
    register(0x0C4, "LOAD_CRC", "of the latest block", _value("ro", "CRC-32 of these bytes (IEEE 802.3, as zlib's)"))
    register(0x0C8, "SEAL", "weights are there: from now on passes run, until a block comes. Answered with an error "
             "if the latest block was not a whole stream of weights at WEIGHT_BASE, checked, without an error and "
             "with this CRC", _value("push", "CRC-32 of all weights"))
    register(0x0CC, "WEIGHTS_CRC", "which weights are there", _value("ro", "what SEAL said of them; 0: none are"))


def _adapter_registers(register, design):
    """Registers of the adapters' memory."""
    words = design.adapter_map.beats * design.hw.beat_bytes // 4
    register(0x0D0, "ADAPTER_WORDS", "of an adapter", _value("const", "words of 32 bits", reset=words))
    register(0x0D4, "ADAPTER_LOAD", "an adapter comes, in words for ADAPTER_DATA: until all are there, entries that "
             "name it are refused. Answered with an error if the machine has no room of that number, or entries that "
             "name it wait or run", _field("number", 0, 3, "push", "which one it is from now on, from 1 on"))
    register(0x0D8, "ADAPTER_DATA", "the next word. Answered with an error if none is wanted",
             _value("push", "four bytes, the first lowest"))
    register(0x0DC, "ADAPTER_STATUS", "of the adapters' memory",
             _field("loaded", 0, design.hw.adapters, "ro", "a bit for each adapter, the first lowest: it is there"),
             _field("missing", 8, 24, "ro", "words that are still to come"))


def _card_registers(register):
    """Registers of the weights that come from a card."""
    register(0x0E0, "CARD", "of the card, which is read once, when the memory is ready",
             _field("busy", 0, 1, "ro", "it is not over; LOAD, CHECK and SEAL are answered with an error"),
             _field("error", 8, 4, "ro", "; ".join(f"{code.value}: {text}" for code, text in CARD_MEANINGS.items())))
    register(0x0E4, "CARD_BLOCK", "of the card", _value("ro", "block of 512 bytes that is read, or was the last"))


def _machine_registers(register, design, axi):
    """Which machine it is."""
    model, hw = design.model, design.hw
    register(0x000, "ID", "what this is", _value("const", '"HWGN", lowest byte first', reset=MAGIC))
    register(0x004, "VERSION", "of this register map", _value("const", "the version", reset=VERSION))
    register(0x008, "DESIGN_ID", "which machine this is",
             _value("const", "tells shapes, formats and buses apart", reset=design_id(design, axi)))
    register(0x00C, "WEIGHTS_ID", "which weights were read",
             _value("ro", "from the header of the latest pass's weights; 0 before"))
    register(0x010, "ARRAY", "the multipliers", _field("lanes", 0, 16, "const", "lanes of a column", hw.lanes),
             _field("columns", 16, 16, "const", "columns", hw.columns))
    register(0x014, "CAPACITY", "of a pass and of the memory of keys and values",
             _field("entries", 0, 16, "const", "entries of a pass, at most", hw.entries),
             _field("slots", 16, 16, "const", "sequences", hw.slots))
    register(0x018, "CONTEXT", "positions of a slot", _value("const", "positions", reset=hw.context))
    register(0x01C, "VOCABULARY", "tokens", _value("const", "tokens", reset=model.vocab_size))
    register(0x020, "LAYERS", "of the model", _value("const", "layers", reset=design.layers))
    register(0x024, "WEIGHT_BYTES", "of the stream of weights",
             _value("const", "bytes, modulo 2^32", reset=design.stream_beats * hw.beat_bytes & 0xFFFFFFFF))


def _control_registers(register, hw):
    """Run, reset, and interrupts."""
    irqs = {name: text for name, text in IRQS.items() if hw.source == "stream" or name != "error"}
    if hw.adapters:
        irqs["dropped"] = irqs["dropped"].replace(" no bits for:", " no bits for, or an adapter that is not there:")
    register(0x030, "CONTROL", "what the machine is to do",
             _field("run", 0, 1, "rw", "take commands; what was taken is finished in any case"),
             _field("reset", 1, 1, "pulse", "forget everything but these registers, slots included; STATUS.resetting "
                                            "says until when"))
    register(0x034, "STATUS", "what the machine does",
             _field("busy", 0, 1, "ro", "a pass is under way, from its first entry to its last result"),
             _field("resetting", 1, 1, "ro", "a reset is under way: it waits for words that the bus owes"),
             _field("phase", 8, 4, "ro", "of the pass, by number"), _field("layer", 16, 16, "ro", "of the pass"))
    register(0x038, "IRQ_ENABLE", "which causes raise irq", *(_field(name, i, 1, "rw", text)
                                                              for i, (name, text) in enumerate(irqs.items())))
    register(0x03C, "IRQ_STATUS", "what has happened", *(_field(name, i, 1, "w1c", text)
                                                         for i, (name, text) in enumerate(irqs.items())))


def _sampler_registers(register):
    """Of a machine that samples."""
    register(0x058, "INV_TEMPERATURE", "of the sampler",
             _value("rw", "1 / temperature, in units of 1/256; 0: the likeliest token", 16))
    register(0x05C, "SEED", "of the sampler's noise", _value("rw", "any"))


def _queue_registers(register, hw):
    """Entries and results, where software writes and reads them."""
    register(0x060, "COMMAND_LO", "the next entry of a pass, bits 31..0", *_split(_COMMAND, 0, "rw"))
    if hw.sampler == "gumbel":
        register(0x064, "COMMAND_KEY", "bits 95..64", *_split((_KEY,), 2, "rw"))
    register(0x068, "COMMAND_HI", "bits 63..32, to be written last: that gives the entry to the machine, or is "
                                  "answered with an error: if QUEUE.space is 0, or the machine has no bits "
                                  "for a number" + ", or its adapter is not there" * bool(hw.adapters),
             *_split(_COMMAND, 1, "push"))
    register(0x06C, "RESULT_LO", "the oldest result, bits 31..0", *_split(RESULT, 0, "ro"))
    register(0x070, "RESULT_HI", "bits 63..32", *_split(RESULT, 1, "ro"))
    register(0x074, "QUEUE", "of entries and of results", _field("space", 0, 8, "ro", "entries that may be given"),
             _field("results", 8, 8, "ro", "results that are there"),
             _field("pop", 16, 1, "pulse", "the oldest result was read: show the next"))


def _kv_registers(register, ecc):
    """Operations on the KV memory, and its errors where they are corrected (``ecc``)."""
    register(0x078, "KV_LENGTH", "of the next operation on the KV memory",
             _field("value", 0, 20, "rw", "positions: those that a fork copies, or that a truncated slot keeps"))
    register(0x07C, "KV_COMMAND", "an operation on the KV memory: it waits for the end of the pass. Answered with an "
             "error while one is under way, or if the machine has no bits for a "
             "number", _field("op", 0, 4, "push", "; ".join(f"{op.value}: {text}" for op, text in OPERATIONS.items())),
             _field("slot", 4, 10, "push", "the sequence"),
             _field("other", 16, 10, "push", "the sequence that a fork makes"))
    register(0x080, "KV_ANSWER", "of the latest operation", _field("busy", 0, 1, "ro", "it is under way"),
             _field("error", 8, 8, "ro", "why it was refused, as numbered for results; 0: done"))
    if ecc:
        register(0x084, "KV_CORRECTED", "errors of the KV memory",
                 _value("ro", "rows in which an error was corrected, since reset"))
        register(0x088, "KV_FAILED", "errors of the KV memory",
                 _value("ro", "rows in which an error could not be corrected, since reset"))
        register(0x08C, "KV_FAULT", "where the first of these was", _field("position", 0, 20, "ro", "position"),
                 _field("slot", 20, 10, "ro", "slot"))


def _kv_port_registers(register, design, axi):
    """Registers of the port to keys and values."""
    first = design.kv_base
    register(0x0E8, "KV_BASE_LO", f"where keys and values are, {design.kv_places.size} bytes: write it while no slot "
                                  "has a position",
             _field("value", 12, min(20, axi.address_width - 12), "rw",
                    "address of the first byte, a multiple of 4096; at first behind weights that begin at 0",
                    (first & 0xFFFFFFFF) >> 12))
    if axi.address_width > 32:
        register(0x0EC, "KV_BASE_HI", "upper bits",
                 _value("rw", "upper bits of the address", axi.address_width - 32, first >> 32))


def _loop_registers(register, hw):
    """Passes that the machine goes on with by itself; and what a fourth word of an entry says."""
    register(0x090, "LOOP", "a text that goes on by itself",
             _field("count", 0, 16, "push", "so many passes follow, of the entries that gave tokens, each "
                                            "with its token"),
             _field("left", 16, 16, "ro", "of them"))
    register(0x094, "STOP", "where it ends", _field("token", 0, 31, "rw", "behind this token"),
             _field("enable", 31, 1, "rw", "there is such a token"))
    if hw.adapters:
        register(0x098, "COMMAND_ADAPTER", "bits 127..96 of the next entry", *_split((_ADAPTER,), 3, "rw"))


def _name_registers(register, model):
    """The first 16 characters of the model's name."""
    name = model.encode("ascii", "replace")[:16].ljust(16, b"\0")
    for i in range(4):
        register(0x0A0 + 4 * i, f"NAME{i}", "of the model",
                 _value("const", "four characters, the first lowest",
                        reset=int.from_bytes(name[4 * i:4 * i + 4], "little")))


def _result_registers(register, design, events):
    """Counters and signatures of the latest pass."""
    register(0x100, "COUNTER", "cycles of the latest pass in which "
             + "; ".join(f"[{i}] {name}: {text}" for i, (name, text) in enumerate(events.items())),
             _value("ro", "cycles"), count=len(events), window=True)
    rows = design.layers * design.hw.entries
    register(max(0x1000, 1 << (4 * rows - 1).bit_length()), "SIGNATURE",
             f"[layer * {design.hw.entries} + row] the residual after a layer; rows are the entries that were "
             "not refused", _value("ro", "CRC-32"), count=rows, window=True)


def register_map(design: "Design", axi: AxiShape) -> RegisterMap:
    """The `RegisterMap` of an `AxiDecoder` of ``design`` and ``axi``. Without a bus for the weights it has no registers
    of that."""
    hw, bus = design.hw, design.hw.source == "stream"
    found = []

    def register(offset, name, text, *fields, **window):
        found.append(Register(name=name, offset=offset, text=text, fields=fields, **window))

    _machine_registers(register, design, axi)
    _control_registers(register, hw)
    if bus:
        _bus_registers(register, axi)
    if hw.sampler == "gumbel":
        _sampler_registers(register)
    if axi.host == "queue":
        _queue_registers(register, hw)
    _kv_registers(register, hw.kv_ecc)
    if axi.host == "queue":
        _loop_registers(register, hw)
    if axi.loader:
        _loader_registers(register)
    _name_registers(register, design.model.name)
    if hw.adapters:
        _adapter_registers(register, design)
    if axi.card:
        _card_registers(register)
    if hw.kv_port:
        _kv_port_registers(register, design, axi)
    _result_registers(register, design, {**EVENTS, **(AXI_EVENTS if bus else {})})
    return RegisterMap(registers=tuple(found))
