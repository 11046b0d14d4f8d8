"""The elastic pipeline of units: registers under one enable, and the handshake between two of them."""
from amaranth.hdl import Signal, Value

__all__ = ["Link", "Pipeline", "Registers"]


class Link:
    """Handshake between two pipelines inside a unit."""

    def __init__(self, name):
        self.valid, self.ready = Signal(name=f"{name}_valid"), Signal(name=f"{name}_ready")


class Registers:
    """Registers of a module under an enable: everything moves in the cycles in which ``advance``."""

    def __init__(self, m, advance):
        self._m, self.advance = m, advance

    def reg(self, value, *, name, stages=1):
        """``value`` after ``stages`` more stages. A data register: not reset. Tuples and lists register each part."""
        if isinstance(value, (tuple, list)):
            fields = getattr(value, "_fields", range(len(value)))
            parts = [self.reg(part, name=f"{name}_{field}", stages=stages) for field, part in zip(fields, value)]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        for k in range(stages):
            shape = value.shape() if hasattr(value, "shape") else Value.cast(value).shape()
            register = Signal(shape, reset_less=True, name=f"{name}_{k + 1}" if stages > 1 else name)
            with self._m.If(self.advance):
                self._m.d.sync += register.eq(value)
            value = register
        return value


class Pipeline(Registers):
    """Registers of an elastic unit: ``stages`` of them from ``i`` to ``o``, all under one enable.

    The unit's stream ``i`` is taken, and everything moves one stage, in each cycle in which ``advance``: unless an
    offer at ``o`` waits. So the latency is exactly ``stages`` cycles without a stall, and the throughput one per cycle.
    Drives ``i.ready`` and ``o.valid``; ``o.payload`` is for the unit to drive, from values of the last stage::

        pipe = Pipeline(m, self.i, self.o, stages=2)
        product = pipe.reg(self.i.payload.a * self.i.payload.b, name="product")             # in stage 1
        total = pipe.reg(product + pipe.reg(self.i.payload.c, name="c"), name="total")     # in stage 2
        m.d.comb += self.o.payload.eq(total)

    Parameters
    ----------
    i, o : streams          ``i`` may be anything with ``valid``, ``ready`` and ``payload``
    stages : int            at least 1
    take : Value            an item of ``i`` that is taken enters the pipeline only where this is 1 (drops the others)
    wait : Value            nothing moves where this is 1: a stage needs what has not come yet (what is at ``o`` is
                            taken with ``advance``)

    Attributes
    ----------
    advance : Signal        everything moves
    valid : list of Signal  ``valid[k]``: stage k holds an item; ``valid[0]`` is what enters now
    """

    def __init__(self, m, i, o, *, stages, take=1, wait=0, name="pipe"):
        if stages < 1:
            raise ValueError(f"Pipeline must have at least 1 stage, not {stages}")
        super().__init__(m, Signal(name=f"{name}_advance"))
        self.stages = stages
        enter = Signal(name=f"{name}_enter")
        self.valid = [enter, *(Signal(name=f"{name}_valid{k + 1}") for k in range(stages - 1)), o.valid]
        m.d.comb += [self.advance.eq((~o.valid | o.ready) & ~Value.cast(wait)), i.ready.eq(self.advance),
                     enter.eq(i.valid & take)]
        with m.If(self.advance):
            m.d.sync += [after.eq(before) for before, after in zip(self.valid, self.valid[1:])]
