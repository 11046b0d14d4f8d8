"""Whose tiles go to the array in a pass in which rows have adapters (docs/adapters.md)."""
from functools import reduce
from operator import and_, or_

from amaranth.hdl import Signal

from .steps import numbered

__all__ = ["TileOrder", "TileSource"]

#: In this order: A's of each run; then, for each n-tile, the base's but the last (MOST), B's of each run, and the
#: base's last one (REST). ALL: the base's, of the LM head or of a pass without adapters. WAIT: none, until the next
#: command. A half-batch without runs beside one with some has MOST and REST. A base that is logic has no tiles.
TileSource = numbered("TileSource", ["wait", "a", "most", "b", "rest", "all"])


class TileOrder:
    """Registers that say whose tile is the next one, and what is left of each loop: all count down to 0.

    Parameters
    ----------
    entries : int       T
    places : dict       {matrix: its `AdapterPlace`}
    runs : View         `hwgen.lib.layouts.runs_layout`
    counts : list       of runs of the pass: of each half-batch
    head                the LM head's matrix
    logic : set         matrices whose base is logic
    """

    def __init__(self, *, entries, places, runs, counts, head, logic=()):
        def register(name, shape):
            return Signal(shape, name=name, reset_less=True)

        self._places, self._runs, self._of_halves, self._logic = places, runs, counts, logic
        self._head = head if len(counts) == 2 else None
        of_base = {key: place.a.k_tiles for key, place in places.items()}      # as many as A has
        self._counts = {key: {TileSource.A: place.a.tiles, TileSource.B: place.b.k_tiles,
                              TileSource.MOST: of_base[key] - 1, TileSource.REST: 1} for key, place in places.items()}
        most = max(max(place.a.tiles, of_base[key]) for key, place in places.items())
        self._source = Signal(TileSource, name="source")
        self._tiles_left = register("tiles_left", range(most))      # of the run's, or of the base's
        self._runs_left = register("runs_left", range(entries))
        self._n_tiles = register("n_tiles", range(max(place.b.n_tiles for place in places.values())))
        self._matrix = register("of_matrix", type(next(iter(places))))

    def is_base(self):
        """The base's tile is the next one."""
        source = self._source
        none = reduce(and_, (count == 0 for count in self._of_halves))
        return (none | (source == TileSource.MOST) | (source == TileSource.REST)
                | (source == TileSource.ALL))

    def is_adapter(self):
        """An adapter's tile is the next one."""
        some = reduce(or_, (count != 0 for count in self._of_halves))
        return some & ((self._source == TileSource.A) | (self._source == TileSource.B))

    def follow(self, m, *, clear, start, adapted, matrix, taken):
        """Go on with each tile that is ``taken``; begin with a pass (``clear``), and with a command (``start``) of a
        ``matrix``, for whose part of adapters there are rows if it is ``adapted``."""
        source = self._source
        with m.If(clear):
            m.d.sync += source.eq(TileSource.WAIT)
        with m.Elif(adapted):
            m.d.sync += self._matrix.eq(matrix)
            for key in self._each(m, matrix):
                m.d.sync += self._n_tiles.eq(self._places[key].b.n_tiles - 1)
                self._enter(m, TileSource.A, key)
        with m.Elif(start):
            m.d.sync += source.eq(TileSource.ALL)
            if self._head is not None:      # the next command's may be another's
                with m.If(matrix != self._head):
                    m.d.sync += self._matrix.eq(matrix)
                    for key in self._each(m, matrix):
                        m.d.sync += self._n_tiles.eq(self._places[key].b.n_tiles - 1)
                        self._enter(m, TileSource.MOST, key)
        with m.Elif(taken & (source != TileSource.ALL) & (source != TileSource.WAIT)):
            m.d.sync += self._tiles_left.eq(self._tiles_left - 1)
            with m.If(self._tiles_left == 0):
                self._next(m)

    def _next(self, m):
        """The last tile of a run, or of the base's turn, is taken."""
        with m.Switch(self._source):
            for state, follows in ((TileSource.A, TileSource.MOST), (TileSource.B, TileSource.REST)):
                with m.Case(state):
                    for key in self._each(m, self._matrix):
                        with m.If(self._runs_left == 0):
                            if key in self._logic:
                                self._next_of_logic(m, state, key)
                            else:
                                self._enter(m, follows, key)
                        with m.Else():
                            self._enter(m, state, key)
                            m.d.sync += self._runs_left.eq(self._runs_left - 1)
            with m.Case(TileSource.MOST):
                for key in self._each(m, self._matrix):
                    self._enter(m, TileSource.B, key)
                    if self._head is not None:
                        with m.If(self._runs.count == 0):
                            self._enter(m, TileSource.REST, key)
            with m.Case(TileSource.REST):
                m.d.sync += self._n_tiles.eq(self._n_tiles - 1)
                for key in self._each(m, self._matrix):
                    self._enter(m, TileSource.MOST, key)
                with m.If(self._n_tiles == 0):
                    m.d.sync += self._source.eq(TileSource.WAIT)

    def _next_of_logic(self, m, state, key):
        """Behind A's tiles, and behind B's of each n-tile but the last, those of B of an n-tile."""
        self._enter(m, TileSource.B, key)
        if state is TileSource.B:
            m.d.sync += self._n_tiles.eq(self._n_tiles - 1)
            with m.If(self._n_tiles == 0):
                m.d.sync += self._source.eq(TileSource.WAIT)

    def _each(self, m, matrix):
        """A case for each matrix that has a place in adapters, one after the other."""
        with m.Switch(matrix):
            for key in self._places:
                with m.Case(key):
                    yield key

    def _enter(self, m, state, key):
        """Begin the turn of a source, of a matrix."""
        m.d.sync += [self._source.eq(state), self._tiles_left.eq(self._counts[key][state] - 1),
                     self._runs_left.eq(self._runs.count - 1)]
