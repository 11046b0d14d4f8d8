"""Random models and random passes for tests of whole decoders."""
import random

from hwgen.host.golden_link import GoldenLink
from hwgen.host.link import Entry
from hwgen.models.checkpoint import random_checkpoint
from hwgen.models.quantize import quantize


def random_model(design, seed=1):
    """A quantized model of random weights."""
    return quantize(random_checkpoint(design.model, seed), design.recipe)


def random_passes(design, count, seed=1):
    """Lists of entries: decode, prefill and both mixed, over all slots, each slot's positions in order, until all are full."""
    rng, hw = random.Random(seed), design.hw
    positions = [0] * hw.slots
    for _ in range(count):
        entries = []
        for _ in range(rng.choice([1, hw.entries, rng.randint(1, hw.entries)])):
            slot = rng.randrange(hw.slots)
            if positions[slot] == hw.context:
                continue
            entries.append(Entry(slot, positions[slot], rng.randrange(design.model.vocab_size), rng.random() < 0.6))
            positions[slot] += 1
        if entries:
            yield entries


def expected_passes(design, quantized, passes):
    """What the golden model says of passes, as JSON-able dicts for `bench_decoder`."""
    golden = GoldenLink(design, quantized)
    for entries in passes:
        result = golden.run_pass(entries)
        yield {"entries": [[e.slot, e.position, e.token, int(e.want)] for e in entries], "tokens": result.tokens,
               "outcomes": result.outcome_cycles, "phases": result.phases, "counters": result.counters,
               "signatures": result.signatures}
