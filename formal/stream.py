"""Properties of streams: the contract of valid, ready and payload, and what a queue does."""
from types import SimpleNamespace

from amaranth.hdl import Mux, Signal, Value

__all__ = ["gives", "passes", "queues", "takes"]


def _kept(h, stream):
    """Of the cycle before: an offer was not taken. And whether it has changed, and whether it was withdrawn."""
    offered = h.before(stream.valid & ~stream.ready)
    payload = Value.cast(stream.payload)
    return offered, offered & stream.valid & (payload != h.before(payload)), offered & ~stream.valid


def takes(h, stream):
    """Assume of a unit's input that who offers keeps the contract: an offer stays, as it is, until it is taken. Returns
    that one had not been taken."""
    offered, changed, withdrawn = _kept(h, stream)
    h.assume(~changed & ~withdrawn)
    return offered


def gives(h, stream, name):
    """A unit's output keeps the contract."""
    _, changed, withdrawn = _kept(h, stream)
    h.never(f"{name}_withdrawn", withdrawn)
    h.never(f"{name}_changed", changed)


def passes(h, i, o, most, latency):
    """What comes out has gone in: each item at most once, in order, as it was; nothing else does. Returns ``count``,
    how many are inside, of at most ``most``, and of the item
    that is watched: ``watching`` (it is inside), ``ahead`` (so many leave before it), ``watched`` (its payload).

    One item, any, is watched. It is enough to watch one, in a queue that does not look at what it holds, but the
    payload is compared in full, so that this needs no such argument (that argument: P. Wolper, Expressing Interesting
    Properties of Programs in Propositional Temporal Logic, POPL 1986): the n-th item that comes out is the n-th that
    went in, for every n.

    ``latency`` 0: an item may leave in the cycle in which it comes; 1: not before the next.
    """
    m = h.m
    pick, coming, going = h.free("pick", 1), Value.cast(i.payload), Value.cast(o.payload)
    count = Signal(range(most + 2), name="inside_count")
    watching, ahead, watched = Signal(), Signal(range(most + 2)), Signal(len(coming))
    came, went = i.valid & i.ready, o.valid & o.ready
    m.d.sync += count.eq(count + came - went)
    through = came & (count == 0)            # to the output at once, if it is taken
    with m.If(came & pick & ~watching & ~(through & went)):
        m.d.sync += [watching.eq(1), watched.eq(coming), ahead.eq(count - went)]
    with m.Elif(went & watching):
        m.d.sync += [ahead.eq(ahead - 1), watching.eq(ahead != 0)]
    h.never("invented", went & (count == 0) & ~(came if latency == 0 else 0))
    h.never("altered", Mux(watching, went & (ahead == 0) & (going != watched), through & went & (going != coming)))
    return SimpleNamespace(count=count, watching=watching, ahead=ahead, watched=watched)


def queues(h, i, o, capacity, latency):
    """What goes in comes out, as `passes` says, and nothing is lost.

    Parameters
    ----------
    capacity : int      items that are inside when the input is not ready; with fewer it is
    latency : int       0: an item may leave in the cycle in which it comes; 1: not before the next, but then it may
    """
    count = passes(h, i, o, capacity, latency).count
    h.never("overfull", (count > capacity) | (count == capacity) & i.ready)
    h.never("hidden", (count != 0) & ~o.valid)
    h.never("refused", (count < capacity) & ~i.ready)
