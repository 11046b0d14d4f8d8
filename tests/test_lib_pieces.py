"""The hardware's walk through the pieces of a pass, against the golden model's."""
import pytest
from amaranth.sim import Simulator

from hwgen.golden.weights import pieces, request_list
from hwgen.lib.pieces import Pieces
from hwgen.params.stream import FINAL_NORM, HEAD
from sim.designs import small_design

BLOCKS = {"llama": dict(), "sandwich": dict(norms="sandwich"), "post": dict(norms="post"),
          "parallel": dict(parallel=True)}
PASSES = [(both, (a, b)) for both in (False, True) for a in (False, True) for b in (False, True) if both or not b]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_walk(block, layers):
    design = small_design(num_hidden_layers=layers, halves=2, block=block)
    dut = Pieces(block=design.block, layers=layers)

    # its record is as a first one's
    steps = {step.name: step for step in design.block.steps} | {FINAL_NORM: design.block.steps[0]}

    def kind(name):
        return dut.kinds[steps.get(name, name)]

    async def bench(ctx):
        for both, head in PASSES:
            expected = list(pieces(design, both, head))
            ctx.set(dut.both, both)
            ctx.set(dut.head, head[0] | head[1] << 1)
            for i, piece in enumerate(expected):
                shown = ctx.get(dut.kind), ctx.get(dut.half), ctx.get(dut.final)
                assert shown == (kind(piece.name), piece.half, piece.name == FINAL_NORM), (both, head, i)
                if piece.name not in (FINAL_NORM, HEAD):
                    assert ctx.get(dut.layer) == piece.layer
                last = i == len(expected) - 1
                assert ctx.get(dut.last) == last
                if not last:
                    assert ctx.get(dut.after) == kind(expected[i + 1].name)
                ctx.set(dut.restart if last else dut.step, 1)
                await ctx.tick()
                ctx.set(dut.restart, 0), ctx.set(dut.step, 0)
                if i % 3 == 0 and not last:
                    await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_pieces_are_the_stream():
    """Both half-batches read all of it, each piece once, and one alone reads it in the order of the addresses."""
    design = small_design(num_hidden_layers=3, entries=4, halves=2)
    whole = [design.body_address, design.head_address + design.head_matmul.tiles * design.hw.tile_beats]
    alone = request_list(design, [0, 0], (True, False))[3:]
    assert [a for a, *_ in alone] + whole[1:] == whole[:1] + [a + n for a, n, _ in alone]
    both = request_list(design, [0, 0, 0], (True, True))[4:]
    assert sorted(both) == sorted(alone + alone)
