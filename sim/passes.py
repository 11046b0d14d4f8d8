"""Random models and random histories of passes and KV operations, for tests of whole decoders."""
import dataclasses
import random
from typing import NamedTuple

import numpy as np

from hwgen.golden.admission import admit_pass
from hwgen.golden.kv_cache import KvBlocks
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry
from hwgen.models.checkpoint import Checkpoint, random_checkpoint
from hwgen.models.quantize import Layer, quantize
from hwgen.params.errors import ErrorCode, KvOp
from hwgen.params.stream import HEAD


#: A sampler's configuration in which its noise counts.
SAMPLING = dict(inv_temperature=300, seed=12345)


class Operation(NamedTuple):
    """Arguments of `Link.operate`."""
    op: KvOp
    slot: int
    other: int = 0
    length: int = 0


def random_model(design, seed=1, clipped=None):
    """A quantized model of random weights. If they are to be ``clipped`` the residual is too small for some of its
    numbers. By default that is so with more than 20 fraction bits."""
    clipped = design.hw.residual_fraction > 20 if clipped is None else clipped
    checkpoint, limit = random_checkpoint(design.model, seed), 2.0 ** (31 - design.hw.residual_fraction)

    def loud(name):
        """Embeddings, and what is added to them, about a third of the limit."""
        values = checkpoint.tensor(name)
        if name.startswith("model.embed"):
            return values * np.float32(limit / 3 * design.model.hidden_size ** 0.5)
        return values * np.float32(limit / 3) if name.endswith(("o_proj.weight", "down_proj.weight")) else values

    return scattered(quantize(Checkpoint(design.model, "loud", loud) if clipped else checkpoint, design.recipe), seed)


def scattered(model, seed):
    """A model whose rows and blocks, if they have offsets, have any: the random weights of a matrix need hardly more
    than one."""
    rng = np.random.default_rng(seed)

    def of(matrix, most_row):
        rows, blocks = (None if part is None else rng.integers(0, most + 1, part.shape).astype(np.uint8)
                        for part, most in ((matrix.rows, most_row), (matrix.blocks, most_block)))
        down = sum(most * 3 // 4 for part, most in ((rows, most_row), (blocks, most_block)) if part is not None)
        return dataclasses.replace(matrix, rows=rows, blocks=blocks, exponent=matrix.exponent - down)

    recipe, most_block = model.recipe, model.recipe.largest_block(model.shape)
    if recipe.scales == "matrix" and not most_block:
        return model
    layers = tuple(Layer(**vars(layer) | {name: of(matrix, recipe.row_offsets(name))
                                          for name, matrix in layer.matrices().items()})
                   for layer in model.layers)
    head = of(model.head, recipe.row_offsets(HEAD))
    return dataclasses.replace(model, layers=layers, head=head, embedding=head if recipe.ties(model.shape)
                               else of(model.embedding, recipe.row_offsets(HEAD)),
                               positions=model.positions and of(model.positions, recipe.row_offsets(HEAD)))


def most(limit):
    """The largest number that fits the bits of one below ``limit``."""
    return (1 << (limit - 1).bit_length()) - 1


class History:
    """Random passes, as lists of entries, and between them operations on the KV memory: decode, prefill and both mixed,
    over all slots.

    A slot's positions follow each other. Some slots are freed in the middle of a text, which another slot begins again
    later. With ``wrong``, the probability of each, entries and operations are such as the machine must refuse. Who owns
    the KV memory is followed by the golden model (`blocks`).
    """

    def __init__(self, design, seed=1, *, operations=0.3, wrong=0.0):
        self.design, self.rng, self.operations, self.wrong = design, random.Random(seed), operations, wrong
        self.blocks = KvBlocks(design)
        self.texts = [[] for _ in range(design.hw.slots)]           # tokens
        self.plans = [[] for _ in range(design.hw.slots)]           # tokens that a slot is to begin with
        self.put_off = []                                           # texts that were interrupted

    def steps(self, count):
        """``count`` passes, and the operations before each."""
        for _ in range(count):
            while self.rng.random() < self.operations:
                yield self._operate(self._operation())
            entries = self._entries()
            while not entries and not self.wrong:                   # all slots are full
                yield self._operate(Operation(KvOp.FREE, self.rng.randrange(self.design.hw.slots)))
                entries = self._entries()
            for row in admit_pass(self.design, self.blocks, [(e.slot, e.position, e.token) for e in entries]).rows:
                self.texts[entries[row].slot].append(entries[row].token)
            yield entries

    def end(self):
        """Operations and passes that show that no block is lost, and none has two owners: all are freed, and filled
        until none is left."""
        hw = self.design.hw
        for slot in range(hw.slots):
            yield self._operate(Operation(KvOp.FREE, slot))
        assert self.blocks.free_blocks == hw.blocks and not any(self.blocks.owners)
        places = [(slot, position) for slot in range(hw.slots) for position in range(hw.context)]
        self.rng.shuffle(places)
        places.sort(key=lambda place: place[1])
        while places:
            entries = [Entry(slot, position, self.rng.randrange(self.design.model.vocab_size), True)
                       for slot, position in places[:hw.entries]]
            errors = admit_pass(self.design, self.blocks, [(e.slot, e.position, e.token) for e in entries]).errors
            # an entry behind the one that was refused a block may give one back
            assert ErrorCode.NO_BLOCK not in errors.values() or self.blocks.free_blocks < len(entries)
            del places[:hw.entries]
            yield entries
        # where slots give blocks back, they may have fewer in the end than on the way
        assert (not self.blocks.free_blocks or hw.blocks >= hw.slots * self.design.most_blocks(hw.context)
                or self.design.positions_kept is not None)

    def _operate(self, operation):
        op, slot, other, length = operation
        error, _ = self.blocks.operate(*operation)
        self.blocks.check()
        if not error and op == KvOp.FORK:
            self.texts[other], self.plans[other] = self.texts[slot][:length], []
        elif not error:
            if op == KvOp.FREE and self.rng.random() < 0.5:
                self.put_off.append(self.texts[slot])
            self.texts[slot], self.plans[slot] = self.texts[slot][:length if op == KvOp.TRUNCATE else 0], []
        return operation

    def _operation(self):
        rng, hw = self.rng, self.design.hw
        slot, other = rng.randrange(hw.slots), rng.randrange(hw.slots)
        length = rng.randint(0, self.blocks.lengths[slot])
        # what is seen from there was given back
        if not self.wrong and self.blocks.refusal(KvOp.TRUNCATE, slot, length=length):
            length = self.blocks.lengths[slot]
        if rng.random() < self.wrong:
            slot, other, length = (rng.choice([value, rng.randint(0, most(limit))]) for value, limit in
                                   ((slot, hw.slots), (other, hw.slots), (length, hw.context + 1)))
            return Operation(rng.choice(list(KvOp)), slot, other, length)
        empty = [s for s in range(hw.slots) if s != slot and not self.blocks.lengths[s]]
        if empty and rng.random() < 0.6:
            return Operation(KvOp.FORK, slot, rng.choice(empty), length)
        return Operation(KvOp.TRUNCATE, slot, 0, length) if rng.random() < 0.5 else Operation(KvOp.FREE, slot)

    def _entries(self):
        rng, hw, entries, ahead = self.rng, self.design.hw, [], list(self.blocks.lengths)
        vocab = self.design.model.vocab_size
        one = rng.randrange(hw.slots) if rng.random() < 0.3 else None           # prefill of one slot
        count = rng.choice([1, hw.entries, rng.randint(1, hw.entries)])
        if rng.random() < self.wrong / 4:
            count = rng.choice([0, hw.entries + rng.randint(1, 3)])
        for _ in range(count):
            slot = rng.randrange(hw.slots) if one is None else one
            position, want = ahead[slot], rng.random() < 0.6
            if rng.random() < self.wrong:
                entries.append(Entry(*rng.choice([(most(hw.slots), 0, 0), (slot, rng.randint(0, most(hw.context)), 0),
                                                  (slot, min(position, most(hw.context)), most(vocab))]), want))
            elif position < hw.context:
                if not position and self.put_off and rng.random() < 0.5:
                    self.plans[slot] = self.put_off.pop(0)
                token = self.plans[slot][position] if position < len(self.plans[slot]) else rng.randrange(vocab)
                entries.append(Entry(slot, position, token, want))
                ahead[slot] += 1
        return entries


def corners(design):
    """Steps that chance seldom comes to, from a machine without texts back to one: a slot is filled with outputs in the
    first half alone, and goes on; operations at the edge of a block, on all positions, on none and on too many; slots
    and operations that are not there; and slots are filled as long as there are blocks, and a little longer. For a
    short context."""
    hw, edge = design.hw, design.hw.context // design.hw.kv_block * design.hw.kv_block

    def fill(slot):
        for at in range(0, hw.context, hw.entries):
            yield [Entry(slot, at + i, (at + i) % design.model.vocab_size, i < max(1, hw.entries // 2))
                   for i in range(min(hw.entries, hw.context - at))]
    yield from fill(0)
    yield [Entry(0, hw.context - 1, 0, True)]
    yield Operation(KvOp.TRUNCATE, 0, 0, hw.context)
    if hw.slots > 1:
        yield from (Operation(KvOp.FORK, 0, 1, length) for length in (min(1, edge - hw.kv_block), edge - 1))
        yield Operation(KvOp.FREE, 1)
        yield from (Operation(KvOp.FORK, 0, 1, length) for length in (edge, edge))
    yield from (Operation(KvOp.TRUNCATE, 0, 0, length) for length in (1, edge, 0, 1))
    yield Operation(max(KvOp) + 1, 0)
    if most(hw.slots) >= hw.slots:
        yield Operation(KvOp.FREE, most(hw.slots))
        yield [Entry(most(hw.slots), 0, 0, True)]
    for slot in range(2, hw.slots):
        yield from fill(0)
        yield from fill(slot)
    yield from (Operation(KvOp.FREE, slot) for slot in range(hw.slots))


def run_step(link, step):
    """A step of a `History`, on a link."""
    return link.operate(*step) if isinstance(step, Operation) else link.run_pass(step)


def expected_steps(design, quantized, steps):
    """What the golden model says of steps (none of which it refuses), as JSON-able dicts for `bench_decoder`."""
    golden = GoldenLink(design, quantized)
    for step in steps:
        result = run_step(golden, step)
        if isinstance(step, Operation):
            yield {"operation": {name: int(value) for name, value in step._asdict().items()},
                   "error": int(result.error),
                   "cycles": result.cycles}
        else:
            yield {"entries": [[e.slot, e.position, e.token, int(e.want)] for e in step],
                   "tokens": result.check().tokens,
                   "outcomes": result.outcome_cycles, "phases": result.phases, "counters": result.counters,
                   "signatures": result.signatures}


def bus_steps(design, quantized, steps, sampling=None, adapters=()):
    """The same for a machine behind registers, of steps of which some may be refused; a pass without entries cannot be
    given. ``adapters`` are loaded from 1 on."""
    golden = GoldenLink(design, quantized)
    for number, adapter in enumerate(adapters, 1):
        golden.load_adapter(number, adapter)
    if design.hw.sampler == "gumbel":
        golden.configure(**sampling)
    for step in steps:
        result = run_step(golden, step)
        if isinstance(step, Operation):
            yield {"operation": {name: int(value) for name, value in step._asdict().items()},
                   "error": int(result.error)}
        elif step:
            yield {"entries": [[e.slot, e.position, e.token, int(e.want), e.key, e.adapter] for e in step],
                   "tokens": result.tokens,
                   "errors": [int(error.code) for error in result.errors.values()],
                   "rows": len(step) - len(result.errors),
                   **{name: result.counters[name] for name in ("mac_busy", "saturated", "attention")
                      if name in result.counters},
                   "signatures": result.signatures}
