"""Threefry-2x32 with 13 rounds, in pipeline stages: random words from a counter, without a state.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011). Additions of 32 bits, two after each other in a
stage.
"""
from amaranth.hdl import Signal


__all__ = ["THREEFRY_STAGES", "threefry"]

THREEFRY_STAGES = 9
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def threefry(m, pipe, counters, seed, key, *, key_stays=False, name):
    """For each counter (up to 32 bits) the two words of block (counter, 0) under the key (seed, key), 9 stages later.

    Parameters
    ----------
    pipe : Pipeline        counters and key are values of one of its stages
    seed : Value           32 bits; stays while anything that was made with it is in the pipeline
    key : Value            32 bits, common to the counters
    key_stays : bool       whether ``key`` stays like ``seed``: saves registers
    """
    def early(value, what):
        """Part of the key schedule, 32 bits, a stage before it is used: it is common to all counters."""
        return pipe.reg(value[:32], name=f"{name}_{what}")

    k0, k1 = seed, [key]
    for stage in range(1, 8):
        k1.append(key if key_stays else pipe.reg(k1[-1], name=f"{name}_key_{stage}"))
    k2 = [k0 ^ k ^ _PARITY for k in k1]
    # the keys of the first sum, and those injected after rounds 4, 8 and 12
    k01 = early(k0 + k1[0], "k01")
    injected = ((early(k1[2], "k1"), early(k2[2] + 1, "k2_1")), (early(k2[4], "k2"), early(k0 + 2, "k0_2")),
                (k0, early(k1[7] + 3, "k1_3")))
    return [_rounds(m, pipe, pipe.reg(counter, name=f"{name}_counter{i}"), k1[1], k01, injected, f"{name}{i}")
            for i, counter in enumerate(counters)]


def _rounds(m, pipe, counter, k1, k01, injected, name):
    x0, x1 = None, k1

    def turn(index, total=None):
        nonlocal x0, x1
        after = Signal(32, name=f"{name}_round{index}")
        m.d.comb += after.eq(x0 + x1 if total is None else total)
        x0, x1 = after, x1.rotate_left(_ROTATIONS[index % 8]) ^ after

    def inject(index):
        nonlocal x0, x1
        x0, x1 = ((x + k)[:32] for x, k in zip((x0, x1), injected[index]))

    def register(stage):
        nonlocal x0, x1
        x0, x1 = pipe.reg((x0, x1), name=f"{name}_{stage}")

    turn(0, counter + k01), turn(1), register(2)
    turn(2), turn(3), register(3)
    inject(0), turn(4), register(4)
    turn(5), turn(6), register(5)
    turn(7), inject(1), register(6)
    turn(8), turn(9), register(7)
    turn(10), turn(11), register(8)
    inject(2), turn(12), register(9)
    return x0, x1
