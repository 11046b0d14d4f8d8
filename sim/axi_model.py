"""A machine on buses as a Verilator model in a process of its own (axi_main.cpp), driven as a host drives it: by its
registers."""
import contextlib
from pathlib import Path

from hwgen.host.links.frames import Read
from hwgen.host.links.link import EccState, LinkError
from hwgen.host.links.register_link import RegisterLink
from hwgen.host.links.verilated import (KEEP, KV_BUS, KV_MEMORY, VerilatedLink, compiled, kept, kv_bus_header,
                                        kv_header, texts)
from hwgen.params.axi import PAGE
from hwgen.params.registers import RESULT, command_fields, register_map

__all__ = ["AxiLink", "AxiPort", "axi_link", "build_axi"]

MAIN = Path(__file__).with_name("axi_main.cpp")


def build_axi(verilog, top, design, axi, *, opt="-O1", images=(), headers=False):
    """As `hwgen.host.links.verilated.build_model`, of an `AxiDecoder`."""
    header = kv_header(f"{top}__DOT__decoder", design) + kv_bus_header(design)
    header += "".join(f"#define {name} {int(value)}\n" for name, value in (
        ("HAS_BUS", design.hw.source == "stream"), ("HAS_STREAMS", axi.host == "stream"),
        ("WORD_BYTES", axi.word_bytes), ("OUTSTANDING", axi.outstanding)))

    def make(work):
        (work / "design.v").write_text(verilog)
        return [compiled(work, [work / "design.v"], top, MAIN, header, opt=opt, headers=headers), *images]

    return kept(top, (verilog, header, KEEP, texts(MAIN, KV_MEMORY, KV_BUS, *images), opt), make)


class AxiPort(VerilatedLink):
    """The model's buses. It is a port of a `RegisterLink`; ``give`` and ``take`` are its streams."""

    def transact(self, operations):
        """As `hwgen.host.links.frames.FramePort.transact`."""
        return [self.read(op.address, op.count) if isinstance(op, Read) else self._all(op) for op in operations]

    def _all(self, operation):
        for i, word in enumerate(operation.words):
            self.write(operation.address + 4 * i * (not operation.fixed), word)

    def _done(self, text):
        answer = self._ask(text)
        if "refused" in answer:
            raise LinkError(f"The machine refused {text.strip()} with SLVERR")
        return answer

    def read(self, address, count=1):
        return self._done(f"read {address} {count}\n")["words"]

    def write(self, address, value):
        self._done(f"write {address} {value}\n")

    def memory(self, latency, stall, base, kv_base):
        """How the memories behave, and where weights, and keys and values, are."""
        self._ask(f"memory {latency} {stall} {base} {kv_base}\n")

    def give(self, word, last):
        self._ask(f"give {word % 2**64} {word >> 64} {int(last)}\n")

    def take(self):
        """Results on the stream."""
        return self._ask("take\n")["results"]


class AxiLink(RegisterLink):
    """A `RegisterLink` that knows streams of commands and results too, and passes of more entries than a queue has room
    for."""

    def __init__(self, port, design, axi, quantized):
        self._axi, self._space = axi, min(128, max(axi.queue, design.hw.entries))
        super().__init__(port, design, axi, quantized, patience=300)

    def reset(self):
        super().reset()
        if self._axi.host == "stream":
            self._port.take()       # those of before

    def _give(self, entries):
        if self._axi.host == "queue" and len(entries) <= self._space:
            super()._give(entries)
            return
        fields = command_fields(self.design)
        for index, e in enumerate(entries):
            values = dict(token=e.token, position=e.position, slot=e.slot, want=int(e.want),
                          last=int(index == len(entries) - 1), key=e.key,
                          adapter=e.adapter)
            word = sum(values[field.name] << field.lsb for field in fields)
            if self._axi.host == "stream":
                self._port.give(word, values["last"])
                continue
            self._wait(lambda: self._port.read(self._register("QUEUE"))[0] & 0xFF, "its queue")
            for name, part in (("COMMAND_LO", word), ("COMMAND_KEY", word >> 64), ("COMMAND_ADAPTER", word >> 96),
                               ("COMMAND_HI", word >> 32)):
                if name in self._map:
                    self._port.write(self._register(name), part & 0xFFFFFFFF)

    def _pop(self, entries):
        if self._axi.host == "queue":
            return super()._pop(entries)
        return [{field.name: word >> field.lsb & (1 << field.width) - 1 for field in RESULT}
                for word in self._port.take()]

    def flip(self, memory, word, bit):
        """As `VerilatedLink.flip`."""
        self._port.flip(memory, word, bit)

    def ecc(self):
        corrected, failed, fault = (self._port.read(self._register(name))[0]
                                    for name in ("KV_CORRECTED", "KV_FAILED", "KV_FAULT"))
        return EccState(corrected, failed, (fault >> 20, fault & 0xFFFFF) if failed else None)


@contextlib.contextmanager
def axi_link(design, axi, quantized, model, *, weights=None, latency=0, stall=0.0, seed=1):
    """An `AxiLink` to what `build_axi` made. Weights, and keys and values in a memory of their own, are at the last
    page from which they fit."""
    def last_page(size):
        return ((1 << axi.address_width) - size) // PAGE * PAGE

    with AxiPort(design, model, weights=weights, stall=stall, seed=seed) as port:
        bases = {"WEIGHT": last_page(design.stream_beats * design.hw.beat_bytes) if weights else 0,
                 "KV": last_page(design.kv_places.size) if design.hw.kv_port else 0}
        port.memory(latency, stall, *bases.values())
        registers = register_map(design, axi)
        for of, base in bases.items():
            for name, part in ((f"{of}_BASE_LO", base & 0xFFFFFFFF), (f"{of}_BASE_HI", base >> 32)):
                if name in registers:
                    port.write(registers[name].offset, part)
        yield AxiLink(port, design, axi, quantized)
