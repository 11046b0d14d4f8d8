"""Bench of KvCache with error correction: bits of its memories are flipped from outside, as radiation would; needs the
design's internals."""
from itertools import combinations

import cocotb

from hwgen.golden.secded import stored_bits
from hwgen.lib.layouts import EXP_BITS, kv_fault_layout
from hwgen.params.errors import KvOp
from sim.kv_bench import DESIGN, HW, LANES, WORDS, addresses, cache
from sim.stream_bench import unpack, value_of

#: Memories, and the data bits of their words.
MEMORIES = {"k_codes": 8 * LANES, "v_codes": 8 * LANES, "k_exps": EXP_BITS, "v_exps": EXP_BITS}


def word(c, name, slot, position):
    """The stored word of the last layer and head (and part) of a position."""
    block, size = c.blocks.tables[slot][position // HW.kv_block], HW.kv_block
    row = ((DESIGN.layers * DESIGN.kv_heads - 1) * HW.blocks + block) * size + position % size
    return getattr(c.dut, name).memory.rows[row if name.endswith("exps") else row * WORDS + WORDS - 1]


async def flip(c, handle, *bits):
    handle.value = value_of(handle) ^ sum(1 << bit for bit in bits)
    await c.clock.edge()


async def read(c, slot, position, right=True):
    """Read the word's K and V; how many were (corrected, failed) by that."""
    before = state(c)
    at = addresses(slot, position)[-1]
    if right:
        await c.check({name: [at] for name in c.sinks})
    else:
        for name, sink in c.sinks.items():
            sink.clear()
            c.read(name, [at])
        for sink in c.sinks.values():
            await sink.wait(1)
    return tuple(now - old for now, old in zip(state(c), before))


def state(c):
    return value_of(c.dut.corrected), value_of(c.dut.failed)


def fault(c):
    return unpack(kv_fault_layout(slots=DESIGN.hw.slots, context=DESIGN.hw.context), value_of(c.dut.fault))


async def filled(dut):
    c = await cache(dut)
    for slot, length in ((1, 3), (0, 2), (1, HW.context - 3)):
        for _ in range(length):
            await c.admit(slot)
    await c.write(c.places())
    assert await read(c, 1, 4) == (0, 0)
    return c


@cocotb.test()
async def every_single_flip(dut):
    c = await filled(dut)
    for name, bits in MEMORIES.items():
        handle = word(c, name, 1, 4)
        for bit in range(stored_bits(bits)):
            await flip(c, handle, bit)
            assert await read(c, 1, 4) == (1, 0), (name, bit)
            await flip(c, handle, bit)
    assert await read(c, 1, 4) == (0, 0)


@cocotb.test()
async def double_flips(dut):
    """All of an exponent, and a sample of a word of codes (`bench_secded` has them all); the first is where `fault`
    says."""
    c, last = await filled(dut), HW.context - 1
    for name, bits in MEMORIES.items():
        pairs = list(combinations(range(stored_bits(bits)), 2))
        for pair in pairs if bits == EXP_BITS else c.rng.sample(pairs, 60):
            handle = word(c, name, 1, last)
            await flip(c, handle, *pair)
            assert await read(c, 1, last, right=False) == (0, 1), (name, pair)
            await flip(c, handle, *pair)
    await flip(c, word(c, "k_codes", 0, 1), 0, 1)
    assert await read(c, 0, 1, right=False) == (0, 1)
    assert fault(c) == {"slot": 1, "position": last}
    assert await read(c, 1, last) == (0, 0)


@cocotb.test()
async def a_copy_keeps_errors(dut):
    """Copying a block corrects nothing, so an error that is beyond correction is not made to look right."""
    c = await filled(dut)
    await flip(c, word(c, "v_codes", 1, 4), 7)
    await flip(c, word(c, "k_exps", 1, 4), 3, 4)
    await c.operate(KvOp.FREE, 0)
    await c.operate(KvOp.FORK, 1, 0, 5)
    await c.admit(0)
    assert c.blocks.tables[0][-1] != c.blocks.tables[1][-1]
    assert await read(c, 0, 4, right=False) == (1, 1)
    assert fault(c) == {"slot": 0, "position": 4}


@cocotb.test()
async def what_a_slot_does_not_have_is_no_error(dut):
    c = await filled(dut)
    await flip(c, word(c, "k_codes", 1, 4), 7, 8)
    await c.operate(KvOp.TRUNCATE, 1, length=4)
    assert await read(c, 1, 4) == (0, 0)
