"""Continuous batching: what is answered depends on the request alone, whatever the schedule."""
import random

import pytest

from hwgen.host.serving.drafts import Drafter, LinkDrafter, NgramDrafter
from hwgen.host.driver import generate
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.serving.policies import ORDERS, Policy
from hwgen.host.serving.scheduler import Request, Scheduler
from hwgen.host.links.timing_link import TimingLink
from sim.designs import small_design
from sim.passes import random_model

DESIGN = small_design(entries=5, slots=3, context=32, kv_block=4, sampler="gumbel")
MODEL = random_model(DESIGN)


@pytest.fixture(scope="module")
def links():
    """A link for each temperature, by inverse temperature."""
    found = {inverse: GoldenLink(DESIGN, MODEL) for inverse in (0, 300)}
    for inverse, link in found.items():
        link.configure(inverse, 7)
    return found


def requests(seed, count=6, longest=DESIGN.hw.context):
    rng = random.Random(seed)
    out = []
    for i in range(count):
        prompt = tuple(rng.randrange(DESIGN.model.vocab_size) for _ in range(rng.randint(1, longest - 1)))
        out.append(Request(prompt, rng.randint(1, longest - len(prompt)),
                           arrival=rng.choice([0, rng.randrange(40_000)]), seed=i,
                           stop=(3,) if rng.random() < 0.3 else (), name=str(i)))
    return out


def alone(link, request):
    """A request by itself, an entry a pass: the plainest schedule there is."""
    scheduler = Scheduler(link, Policy(chunk=1))
    scheduler.add(Request(request.prompt, request.max_tokens, seed=request.seed, stop=request.stop))
    return scheduler.run()[0].output


class Chaos(Scheduler):
    """Any slot, any chunks, any neighbours, and anyone may be thrown out at any time."""

    def __init__(self, link, seed, **more):
        super().__init__(link, **more)
        self.rng = random.Random(seed)

    def _choose_slot(self):
        return self._free_slots.pop(self.rng.randrange(len(self._free_slots)))

    def _plan(self):
        while len(self.running) > 1 and self.rng.random() < 0.15:
            self.preempt(self.rng.choice(self.running))
        room, plan = self.link.design.hw.entries, []
        for s in self.rng.sample(self.running, len(self.running)):
            count = self.rng.randint(0, min(s.wanted, room))
            if count:
                plan.append((s, count))
                room -= count
        return plan or [(self.running[0], 1)]


class Guesser(Drafter):
    """Guesses of which some are right, in runs: it knows the answer."""

    def __init__(self, seed, answers):
        self.rng, self.answers = random.Random(seed), answers

    def propose(self, sequence, count):
        right = self.answers[sequence.number][len(sequence.output):][:count]
        return [t if self.rng.random() < 0.7 else self.rng.randrange(DESIGN.model.vocab_size)
                for t in right] + [1] * (count - len(right))


@pytest.mark.parametrize("inverse", [0, 300])
@pytest.mark.parametrize("seed", range(3))
def test_batch_invariance(links, seed, inverse):
    link, wanted = links[inverse], requests(seed)
    expected = [alone(link, r) for r in wanted]
    rng = random.Random(seed)
    blocks = rng.choice([None, 8, 11])
    plain = Scheduler(link, Policy(rng.choice(list(ORDERS)), rng.choice([None, 1, 3]), rng.choice([None, 2]),
                                   rng.choice(["recompute", "keep"])),
                      blocks=blocks)
    chaos = Chaos(link, seed, blocks=blocks)
    drafts = Chaos(link, seed, blocks=blocks, drafter=Guesser(seed, expected), draft_tokens=rng.randint(1, 4))
    for scheduler in (plain, chaos, drafts):
        for request in wanted:
            scheduler.add(request)
        assert [s.output for s in scheduler.run()] == expected
    assert sum(s.preempted for s in chaos.done) > 0
    assert sum(part[5] for record in drafts.passes for part in record.parts) > 0


def test_as_generate(links):
    """One request alone is what the driver generates, up to a full context."""
    for request in requests(9, 4):
        more = {"stop": request.stop}
        assert list(generate(links[0], request.prompt, 99, **more)) == alone(links[0],
                                                                             Request(request.prompt, 99, **more))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("full", ["recompute", "keep"])
def test_the_memory_is_never_overdrawn(links, order, full):
    scheduler = Scheduler(links[0], Policy(order, full=full), blocks=8)
    sequences = [scheduler.add(r) for r in requests(2, 8)]
    while scheduler.step():
        assert scheduler._free_blocks() >= 0
        assert len({s.slot for s in scheduler.running}) == len(scheduler.running) <= DESIGN.hw.slots
        assert all(s.slot is None for s in scheduler.waiting + scheduler.done)
    assert all(s.finished(DESIGN.hw.context) for s in sequences)
    assert any(s.preempted for s in sequences) and all(bool(s.recomputed) == bool(s.preempted) for s in sequences)


@pytest.mark.parametrize("full", ["recompute", "keep"])
@pytest.mark.parametrize("window, blocks", [(3, 5), (7, 6), (8, 12)])
def test_blocks_behind_a_window(window, blocks, full):
    """The scheduler knows which blocks are free, wrong drafts or not; texts may be longer than the memory."""
    design = small_design(entries=5, slots=3, context=32, kv_block=4, kv_blocks=blocks, sliding_window=window)
    wanted, link = requests(4, 8), TimingLink(design)
    expected = [alone(link, r) for r in wanted]
    scheduler = Chaos(link, 1, policy=Policy(full=full), drafter=Guesser(1, expected), draft_tokens=4)
    for request in wanted:
        scheduler.add(request)
    while record := scheduler.step():
        assert scheduler._free_blocks() == link.blocks.free_blocks
        link.blocks.check()
        assert record.kept <= design.hw.blocks * design.hw.kv_block
    assert [s.output for s in sorted(scheduler.done, key=lambda s: s.number)] == expected
    assert blocks == 12 or max(len(s.tokens) for s in scheduler.done) > blocks * design.hw.kv_block


def test_a_draft_model_with_a_window():
    """It goes back by more than a pass of its own, to what it has given back: then it begins again."""
    design = small_design(entries=5, slots=3, context=32, kv_block=4)
    drafts = TimingLink(small_design(entries=1, slots=3, context=32, kv_block=1, sliding_window=2))
    link, wanted = TimingLink(design), requests(5, 4)
    scheduler = Scheduler(link, drafter=LinkDrafter(drafts), draft_tokens=4)
    for request in wanted:
        scheduler.add(request)
    assert [s.output for s in scheduler.run()] == [alone(TimingLink(design), r) for r in wanted]


def parts(policy, lengths, passes, outputs=20):
    """(request, tokens) of each entry group of the first passes; all arrive at 0, prompts of these lengths."""
    scheduler = Scheduler(TimingLink(DESIGN), policy)
    for length in lengths:
        scheduler.add(Request((1,) * length, min(outputs, DESIGN.hw.context - length)))
    return [[(number, prefill + decode) for _, number, prefill, decode, *_ in scheduler.step().parts]
            for _ in range(passes)]


def test_policies():
    assert parts(Policy("fcfs"), (7, 3), 3) == [[(0, 5)], [(0, 2), (1, 3)], [(0, 1), (1, 1)]]
    # a decode takes its entry before any prompt, and after all of them
    assert parts(Policy("decode-first"), (3, 9), 3) == [[(0, 3), (1, 2)], [(0, 1), (1, 4)], [(0, 1), (1, 3)]]
    assert parts(Policy("prefill-first"), (3, 9), 3) == [[(0, 3), (1, 2)], [(1, 5), ], [(1, 2), (0, 1)]]
    assert parts(Policy("decode-first", budget=2), (3, 3), 3) == [[(0, 2)], [(0, 1), (1, 2)], [(0, 1), (1, 1)]]
    assert parts(Policy("fcfs", chunk=2), (3, 3, 3), 2) == [[(0, 2), (1, 2), (2, 1)], [(0, 1), (1, 1), (2, 2)]]
    assert parts(Policy("fair"), (5, 5), 3) == [[(0, 5)], [(1, 5)], [(0, 1), (1, 1)]]


def test_time():
    """A request waits for its arrival, a pass for the one before; tokens come when the machine gives them."""
    scheduler = Scheduler(TimingLink(DESIGN), turnaround=10)
    late = scheduler.add(Request((1, 2), 1, arrival=10**6))
    early = scheduler.add(Request((1, 2, 3), 2))
    first, second, third = (scheduler.step() for _ in range(3))
    assert scheduler.step() is None
    assert (first.start, second.start, third.start) == (0, first.cycles + 10, 10**6)
    assert early.times == [first.cycles, second.start + second.cycles] and late.times == [10**6 + third.cycles]


def test_ngram_drafter():
    class Text:
        def __init__(self, *tokens):
            self.tokens = list(tokens)
    drafter = NgramDrafter(2)
    assert drafter.propose(Text(1, 2, 3, 4, 9, 2, 3), 2) == [4, 9]
    assert drafter.propose(Text(1, 5, 2, 7, 2), 3) == [7, 2]
    assert drafter.propose(Text(1, 2, 3), 3) == []


@pytest.mark.parametrize("inverse", [0, 300])
def test_speculation(links, inverse):
    """Drafts of the model itself are right where it is greedy, and of another model sometimes; the answers stay."""
    wanted = requests(5, 4)
    expected = [alone(links[inverse], r) for r in wanted]
    saved = []
    for drafts in (links[0].__class__(DESIGN, MODEL), GoldenLink(DESIGN, random_model(DESIGN, 2))):
        scheduler = Scheduler(links[inverse], drafter=LinkDrafter(drafts), draft_tokens=3)
        for request in wanted:
            scheduler.add(request)
        assert [s.output for s in scheduler.run()] == expected
        proposed, accepted = (sum(part[i] for record in scheduler.passes for part in record.parts) for i in (4, 5))
        saved.append((proposed, accepted))
    (proposed, accepted), (_, fewer) = saved
    assert fewer < accepted
    if not inverse:
        # all but those of a last pass of which a stop token cut the rest
        assert accepted > 0.8 * proposed


@pytest.mark.parametrize("text, policy", [
    ("", Policy()), ("fcfs", Policy("fcfs")), ("fair,budget=8,full=keep", Policy("fair", 8, None, "keep")),
    ("chunk=3", Policy(chunk=3))])
def test_policy_text(text, policy):
    assert Policy.parse(text) == policy == Policy.parse(str(policy))


@pytest.mark.parametrize("text", ["random", "budget=0", "budget=x", "fcfs,fair", "full=drop", "size=3", "chunk=-1"])
def test_policies_that_are_none(text):
    with pytest.raises(ValueError, match="must"):
        Policy.parse(text)


@pytest.mark.parametrize("change, complaint", [
    ({"prompt": ()}, "at least one token"), ({"prompt": (1,) * 32}, "shorter than the context of 32"),
    ({"prompt": (37,)}, "vocabulary's size 37"),
    ({"max_tokens": 0}, "at least 1"), ({"max_tokens": 20}, "must fit into the KV memory of 4 blocks of 4"),
    ({"arrival": -1}, "Arrival")])
def test_requests_that_cannot_be(links, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        Scheduler(links[0], blocks=4).add(Request(**{"prompt": (1, 2), "max_tokens": 5, **change}))
