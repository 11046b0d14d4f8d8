"""Admission with the KV memory that it asks, wired as in the decoder."""
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from hwgen.top import make

PORTS = ("command", "outcome", "kv_command", "kv_answer", "entry", "result")
SIGNALS = ("opens", "opened")


class AdmissionToMemory(wiring.Component):
    """Admission's ports but those to the memory, whose own are left alone."""

    def __init__(self, design):
        self._design = design
        members = make.admission(design).signature.members
        super().__init__({name: members[name] for name in PORTS + SIGNALS})

    def elaborate(self, platform):
        m = Module()
        m.submodules.admission = admission = make.admission(self._design)
        m.submodules.cache = cache = make.kv_cache(self._design)
        for name in PORTS:
            ours, theirs = flipped(getattr(self, name)), getattr(admission, name)
            connect(m, ours, theirs)
        connect(m, admission.ask, cache.ask)
        m.d.comb += [admission.error.eq(cache.error), *(getattr(self, name).eq(getattr(admission, name))
                                                        for name in SIGNALS)]
        return m
