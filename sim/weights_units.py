"""Source and dispatcher in one component, together or each on its own, so that one build serves all tests."""
import hashlib

import numpy as np

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hwgen.lib.rom import hex_lines
from hwgen.top import make
from sim.runner import ROOT


class Weights(wiring.Component):
    """``apart`` = 0: the dispatcher reads the ROM. 1: the dispatcher's source is ``requests``/``data``, the ROM's user
    ``rom_*``.

    ``waits`` and ``takes`` are what a counter would count of the dispatcher's source.
    """

    def __init__(self, design, file):
        self._design, self._file = design, file
        self._dispatcher = make.dispatcher(design)
        ports = dict(self._dispatcher.signature.members)
        request, beats = ports.pop("req"), ports.pop("beats")
        super().__init__({"apart": In(1), "requests": request, "data": beats, "rom_req": request.flip(),
                          "rom_beats": beats.flip(), "waits": Out(1), "takes": Out(1), **ports})

    def elaborate(self, platform):
        m = Module()
        m.submodules.dispatcher = dispatcher = self._dispatcher
        m.submodules.rom = rom = make.rom_source(self._design, file=str(self._file))
        m.submodules.port = port = make.stream_port(self._design)
        connect(m, port.requests, flipped(self.requests))
        connect(m, flipped(self.data), port.data)
        for name, member in dispatcher.signature.members.items():
            if member.is_port:
                m.d.comb += getattr(self, name).eq(getattr(dispatcher, name))
            elif name == "cmd":
                connect(m, flipped(self.cmd), dispatcher.cmd)
            elif name not in ("req", "beats"):
                connect(m, getattr(dispatcher, name), flipped(getattr(self, name)))

        beats = dispatcher.beats
        m.d.comb += [self.waits.eq(beats.ready & ~beats.valid), self.takes.eq(beats.ready & beats.valid)]

        def feed(target, source):
            m.d.comb += [target.valid.eq(source.valid), target.payload.eq(source.payload),
                         source.ready.eq(target.ready)]

        with m.If(self.apart):
            feed(port.req, dispatcher.req)
            feed(dispatcher.beats, port.beats)
            feed(rom.req, self.rom_req)
            feed(self.rom_beats, rom.beats)
        with m.Else():
            feed(rom.req, dispatcher.req)
            feed(dispatcher.beats, rom.beats)
        return m


def random_stream(design, seed=0):
    """A stream of random bytes: the dispatcher must not care what they are."""
    return np.random.default_rng(seed).integers(0, 256, (design.stream_beats, design.hw.beat_bytes), np.uint8)


def image(rows):
    """A ``$readmemh`` image of rows, in the build folder."""
    text = hex_lines(rows)
    file = ROOT / "build" / "sim" / "images" / f"{hashlib.sha256(text).hexdigest()[:16]}.hex"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or file.read_bytes() != text:
        file.write_bytes(text)
    return file
