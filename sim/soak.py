"""Long random histories on the RTL: every pass and every operation compared with the golden model."""
from collections import Counter

from hwgen.params.errors import ErrorCode
from sim.decoders import BLOCKS, SHAPES, checked
from sim.designs import small_design
from sim.passes import History, Operation, run_step

#: Shapes that sim/test_decoder.py builds too: five slots share 13 blocks of 4 positions, with error correction ...
DESIGN = small_design(source="stream", **SHAPES["mixed_formats"])
#: ... and two half-batches, with a temperature.
HALVES = small_design(source="stream", **SHAPES["gumbel"])
#: ... and KV blocks behind a window, which are given back.
WINDOW = small_design(source="stream", **BLOCKS["parallel"])


def soak(folder, passes, seed, stall=0.0, progress=lambda done: None, design=DESIGN):
    """``passes`` random passes with entries and operations right and wrong, then an end that would show a lost block.

    With ``stall``, weights, entries and results are held back at random: values are compared, and no cycles. Raises
    Mismatch. Returns
    counts: passes, entries let in, operations, refusals by code.
    """
    history, counts = History(design, seed, operations=0.5, wrong=0.08), Counter()
    with checked(design, folder, stall=stall, seed=seed) as link:
        if design.hw.sampler == "gumbel":
            link.configure(300, seed)
        for steps in (history.steps(passes), history.end()):
            for step in steps:
                result = run_step(link, step)
                assert link.golden.decoder.blocks.tables == history.blocks.tables
                if isinstance(step, Operation):
                    counts["operations"] += 1
                    codes = [result.error] if result.error else []
                else:
                    counts["passes"] += 1
                    progress(counts["passes"])
                    codes = [error.code for error in result.errors.values()]
                    counts["entries"] += len(step) - len(codes)
                counts.update(ErrorCode(code).name for code in codes)
        assert not design.hw.kv_ecc or link.link.ecc() == (0, 0, None)
    return counts
