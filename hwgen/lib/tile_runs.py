"""Runs of tiles between the records of the weight stream, and what each is of. A part of the dispatcher."""
from functools import reduce
from operator import or_
from typing import NamedTuple

from amaranth.hdl import Array, Const, Mux, Signal

from ..params.block import Norm, Project
from ..params.stream import HEAD

__all__ = ["Runs", "is_one_of", "name_matrix", "runs"]


class Runs(NamedTuple):
    """What follows the record, or the run, that is being received. Held until ``step``.

    step        in: the record is over and nothing but another one follows it, or the run's last tile is taken
    tiles       of the run behind it, less 1
    empty       there is none; None if there always is one
    record      a record follows this run
    over        nothing does: it is the pass's last one
    norm        number of the record's norm in the block, behind them the final norm's if it has vectors
    of_final    the record is the final norm's, or the run the LM head's
    half        of which half-batch the record is
    pieces      the walk that says so, with two half-batches; else None
    """
    step: Signal
    tiles: Signal
    empty: object
    record: object
    over: object
    norm: object
    of_final: object
    half: object
    pieces: object = None


def is_one_of(value, numbers):
    """Whether a value is one of some numbers."""
    return reduce(or_, (value == number for number in numbers), Const(0))


def runs(m, params, current):
    """The `Runs` of a pass (`hwgen.lib.stream_requests.Pass`), of the stream of a `StreamParams`: one behind each
    record, or one for each piece of two half-batches."""
    step = Signal(name="run_step")
    return (_piece_runs if params.halves == 2 else _record_runs)(m, params, current, step)


def _record_runs(m, params, current, step):
    """A run is all matrices up to the next record."""
    block, names = params.block, [norm.name for norm in params.block.of(Norm)]
    norms = len(names)
    counts = [sum(_tiles(params, project.name) for project in block.projects(name)) for name in names]
    counts.append(_tiles(params, HEAD))
    lasts = [max(1, count) - 1 for count in counts]
    second, final = Signal(range(norms), name="second"), Signal(name="final")
    layer = Signal(range(params.layers))
    last = second if norms == 2 else (second == norms - 1) & ~final
    layers_end = last & (layer == params.layers - 1)
    tiles, over = Signal(range(max(counts)), name="tiles"), Signal(name="over")
    if norms == 2:
        of_layer = Mux(second, lasts[1], lasts[0])
    else:
        of_layer = Array(lasts[:-1])[second]
    m.d.comb += [tiles.eq(Mux(final, lasts[-1], of_layer)), over.eq(final | layers_end & ~current.wants_head)]
    with m.If(step):
        with m.If(~final):
            m.d.sync += second.eq(~second if norms == 2 else Mux(last, 0, second + 1))
        with m.If(last):
            m.d.sync += layer.eq(layer + 1)
        with m.If(layers_end):
            m.d.sync += [layer.eq(0), final.eq(current.wants_head)]
        with m.If(over):
            m.d.sync += final.eq(0)
    empty = None
    if params.wired:
        empty = Const(1)
    elif not all(counts):
        empty = ~final & is_one_of(second, [i for i, count in enumerate(counts[:-1]) if not count])
        if not counts[-1]:
            empty |= final
    norm = Mux(final, norms, second) if block.final_vectors else second
    return Runs(step, tiles, empty, record=Const(1), over=over, norm=norm, of_final=final, half=Const(0))


def _tiles(params, name):
    """Tiles of a project, or of the LM head, in a run. In a stream without any, where nothing asks for them, those that
    a stream would have."""
    return (params.head_matmul if name == HEAD else params.matmul(name)).tiles if params.wired else params.tiles(name)


def _piece_runs(m, params, current, step):
    """The same where each piece is a run of its own: ``tiles`` are those of the next piece, and ``record`` says that it
    is one."""
    block, names, vectors = params.block, [norm.name for norm in params.block.of(Norm)], params.vector_granules
    pieces = current.pieces(m, params, "received")
    matmuls = {pieces.kinds[project]: params.matmul(project.name) for project in block.of(Project)}
    matmuls[pieces.kinds[HEAD]] = params.head_matmul
    tiles = Signal(range(max(matmul.tiles for matmul in matmuls.values())), name="next_tiles")
    record = Signal(name="next_record")
    with m.Switch(pieces.after):
        for kind, matmul in matmuls.items():
            with m.Case(kind):
                m.d.comb += tiles.eq(matmul.tiles - 1)
        with m.Default():
            m.d.comb += record.eq(1)
    m.d.comb += pieces.step.eq(step)
    norm = Signal(range(len(vectors)), name="received_norm") if any(vectors) else Const(0)
    for kind, name in pieces.sections():
        if name in names and any(vectors):
            with m.If(pieces.kind == kind):
                m.d.comb += norm.eq(names.index(name))
    if block.final_vectors:
        with m.If(pieces.final):
            m.d.comb += norm.eq(len(names))
    empty = record | pieces.last if block.post_norms else None
    return Runs(step, tiles, empty, record, over=pieces.last, norm=norm, of_final=pieces.final, half=pieces.half,
                pieces=pieces)


def name_matrix(m, params, run, reader):
    """Tells a `hwgen.lib.tiles.TileReader` which matrix comes: that of the walk's piece, or of a count of its own."""
    projects = [project for project in params.block.of(Project) if params.tiles(project.name)]
    if run.pieces is not None:
        kinds, kind, layer = [run.pieces.kinds[project] for project in projects], run.pieces.kind, run.pieces.layer
        of_head = kind == run.pieces.kinds[HEAD]
    elif projects:
        kinds, kind = range(len(projects)), Signal(range(len(projects)), name="project")
        layer = Signal(range(params.layers), name="project_layer")
        of_head = run.of_final
        with m.If(reader.matrix_end & ~run.of_final):
            m.d.sync += kind.eq(kind + 1)
            with m.If(kind == len(projects) - 1):
                m.d.sync += [kind.eq(0), layer.eq(Mux(layer == params.layers - 1, 0, layer + 1))]

    def say(matmul, narrow):
        m.d.comb += [reader.matrix.steps.eq(matmul.k_tiles * matmul.codes - 1),
                     reader.matrix.n_tiles.eq(matmul.n_tiles - 1), reader.matrix.narrow.eq(narrow)]

    def say_head():
        say(params.head_matmul, params.stream[HEAD].tiling.narrow)

    def say_project():
        with m.Switch(kind):
            for number, project in zip(kinds, projects):
                with m.Case(number):
                    narrow = [params.stream[project.name, i].tiling.narrow for i in range(params.layers)]
                    of_layer = narrow[0] if len(set(narrow)) == 1 else Array(map(int, narrow))[layer]
                    say(params.matmul(project.name), of_layer)

    if not projects:
        say_head()
    elif not params.tiles(HEAD):
        say_project()
    else:
        with m.If(of_head):
            say_head()
        with m.Else():
            say_project()
