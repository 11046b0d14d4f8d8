"""Operations on a memory that come before an earlier one's result is stored: which, and what was there then."""
from amaranth.hdl import Mux, Signal, Value

__all__ = ["before", "register", "same_address"]


def register(m, value, name):
    """``value`` in the next stage."""
    value = Value.cast(value)
    held = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += held.eq(value)
    return held


def same_address(m, line, behind):
    """({back: in stage 2}, {back: in stage 3}): whether the operation so many places ahead is at the same address.

    ``line.valid`` and ``line.op`` are lists by stage; ``behind`` are the places that matter.
    """
    valid, op = line
    same2 = {back: Signal(name=f"same{back}_2", reset_less=True) for back in behind}
    same3 = {back: Signal(name=f"same{back}_3", reset_less=True) for back in behind}
    for back in behind:
        m.d.sync += [same2[back].eq(valid[1 + back] & (op[1].address == op[1 + back].address)),
                     same3[back].eq(same2[back])]
    return same2, same3


def before(m, name, op, same, fetched, result):
    """What a number was before, in stage 3: as fetched, or the ``result`` of an operation that is not stored yet; 0
    where it is set. ``same`` is of `same_address`."""
    (same2, same3), old = same, fetched
    if 3 in same2:
        old = Mux(same2[3], register(m, result, f"{name}_result5"), old)
    if 2 in same2:
        old = Mux(same2[2], result, old)
    old = register(m, Mux(op[2].set, 0, old).as_signed(), f"{name}_before")
    return Mux(same3[1] & ~op[3].set, result, old).as_signed() if 1 in same3 else old
