"""Continuous batching: requests are admitted and retired at every pass, and each pass mixes prompts with decoding.

Over any `Link`: a pass is the same command whether its entries are of one text or of many. What a request is answered
with depends on nothing but the request: not on its slot, its neighbours, the chunks of its prompt, or how often it was
put off (tests/test_host_scheduler.py). Time is the machine's, in cycles.
"""
import bisect
from collections.abc import Callable
from dataclasses import dataclass, field

from ...params.design import up_to
from ...params.errors import KvOp
from ..driver import check_prompt, why_ended
from ..links.link import Entry, KvError, Link, noise_key
from .drafts import Drafter
from .policies import Policy

__all__ = ["PassRecord", "Request", "Scheduler", "Sequence", "TURNAROUND"]

#: Cycles from a pass's last result to the first entry of the next, if the host has it ready: the sequencer's own.
TURNAROUND = 3


@dataclass(frozen=True)
class Request:
    """What somebody wants.

    Parameters
    ----------
    prompt : tuple of int       tokens
    max_tokens : int            at most so many come back
    arrival : int               cycle
    seed : int                  of the noise of its tokens, where the link has a temperature
    stop : tuple of int         tokens after which it ends
    adapter : int               the number of a loaded one, or 0
    """
    prompt: tuple
    max_tokens: int
    arrival: int = 0
    seed: int = 0
    stop: tuple = ()
    name: str = ""
    adapter: int = 0


@dataclass(eq=False)
class Sequence:
    """A request under way.

    tokens      prompt and output so far
    kept        of these, how many the slot has run: their keys and values are there, or behind the window
    reached     the most that the slot has had at once, drafts that were wrong included
    slot        None while it waits
    times       cycle of each output token
    started     cycle of its first pass
    """
    request: Request
    number: int
    tokens: list
    kept: int = 0
    reached: int = 0
    slot: int | None = None
    times: list = field(default_factory=list)
    started: int | None = None
    last_pass: int = -1
    preempted: int = 0
    recomputed: int = 0     # positions whose keys and values were there before
    drafts: tuple = ()
    furthest: int = 0       # positions that have ever been computed

    @property
    def output(self) -> list[int]:
        return self.tokens[len(self.request.prompt):]

    @property
    def prefilling(self) -> bool:
        """Whether more than the next token is to be computed."""
        return len(self.tokens) - self.kept > 1

    @property
    def wanted(self) -> int:
        """Tokens that it would run in the next pass."""
        return len(self.tokens) - self.kept + len(self.drafts)

    def finished(self, context: int) -> bool:
        return bool(self.output) and (self.why_ended() != "context" or len(self.tokens) > context)

    def why_ended(self) -> str:
        """Of one that has: as `hwgen.host.driver.why_ended`."""
        return why_ended(self.output, self.request.max_tokens, self.request.stop)


@dataclass(frozen=True)
class PassRecord:
    """What a pass did: for reports.

    start, cycles       when, and until its last result
    parts               [(slot, request number, tokens of the prompt or computed again, of the output, drafts, drafts
                        accepted)]
    waiting             requests that have arrived and have no slot
    kept                positions in the KV memory after the pass
    """
    start: int
    cycles: int
    parts: tuple
    waiting: int
    kept: int
    counters: dict

    @property
    def entries(self) -> int:
        return sum(prefill + decode + drafts for _, _, prefill, decode, drafts, _ in self.parts)


class Scheduler:
    """Runs requests on a link, as many at a time as slots and KV memory hold. All slots are its own, and emptied first.

    Parameters
    ----------
    link : Link
    policy : Policy
    blocks : int            blocks of the KV memory that may be in use at once (default: all)
    drafter : Drafter       proposes tokens that are verified in one pass (`hwgen.host.serving.drafts`)
    draft_tokens : int      at most so many at a time
    turnaround : int        cycles between two passes
    on_token : callable     called with (sequence, token) as tokens come

    Deterministic: the same requests over the same design give the same passes.
    """

    def __init__(self, link: Link, policy: Policy = Policy(), *, blocks: int | None = None,
                 drafter: Drafter | None = None, draft_tokens: int = 0, turnaround: int = TURNAROUND,
                 on_token: Callable[[Sequence, int], object] | None = None) -> None:
        self.link, self.policy, self.turnaround, self.on_token = link, policy, turnaround, on_token
        hw = link.design.hw
        most = hw.blocks
        self.blocks = most if blocks is None else blocks
        if not 1 <= self.blocks <= most:
            raise ValueError(f"KV blocks must be 1 to {most}, not {self.blocks}")
        if drafter is not None and not 1 <= draft_tokens < hw.entries:
            raise ValueError(f"Drafts must be 1 to {hw.entries - 1} tokens with {hw.entries} entries a pass, not "
                             f"{draft_tokens}"
                             if hw.entries > 1 else "Drafts need more than 1 entry a pass: add entries=N to the shape")
        self.drafter, self.draft_tokens = drafter, draft_tokens
        self.now = 0
        self.future, self.waiting, self.running, self.done = [], [], [], []
        self.passes = []
        self._free_slots = list(range(hw.slots))
        self._busy = 0          # cycles of operations on the KV memory that have not passed yet
        for slot in self._free_slots:
            link.free(slot)

    # -- KV memory

    def _blocks(self, sequence, more=0):
        """Blocks that a sequence has, or at most at once while it grows by some positions."""
        design, kept, size = self.link.design, sequence.kept, self.link.design.hw.kv_block
        grows = range(up_to(kept, size) + 1, kept + more + 1, size)             # lengths at which it takes a block
        return max(-(-length // size) - design.given_back(max(sequence.reached, length)) for length in (kept, *grows))

    def _free_blocks(self):
        return self.blocks - sum(map(self._blocks, self.running))

    # -- requests

    def add(self, request: Request) -> Sequence:
        """Take a request on. Returns its `Sequence`. ValueError with one line if it can never be answered."""
        design = self.link.design
        check_prompt(design, request.prompt, request.max_tokens)
        if any(not 0 <= token < design.model.vocab_size for token in request.prompt):
            raise ValueError(f"Prompt's tokens must be below the vocabulary's size {design.model.vocab_size}, not "
                             f"{max(request.prompt)}")
        longest = min(len(request.prompt) + request.max_tokens - 1, design.hw.context)
        if design.most_blocks(longest) > self.blocks:
            raise ValueError(f"Request of {longest} positions must fit into the KV memory of {self.blocks} blocks of "
                             f"{design.hw.kv_block}")
        if request.arrival < self.now:
            raise ValueError(f"Arrival must not be before cycle {self.now}, not {request.arrival}")
        number = len(self.future) + len(self.waiting) + len(self.running) + len(self.done)
        sequence = Sequence(request, number, list(request.prompt))
        bisect.insort(self.future, sequence, key=self._age)
        return sequence

    def _age(self, sequence):
        return sequence.request.arrival, sequence.number

    def _choose_slot(self):
        return self._free_slots.pop(0)

    def _admit(self):
        while self.future and self.future[0].request.arrival <= self.now:
            self.waiting.append(self.future.pop(0))
        self.waiting.sort(key=self._age)
        def wants(s):
            return self.link.design.most_blocks(len(s.tokens))

        # what is running may still want blocks for tokens that it has; the rest is for others
        free = self.blocks - sum(map(wants, self.running))
        while self.waiting and self._free_slots and wants(self.waiting[0]) <= free:
            sequence = self.waiting.pop(0)
            free -= wants(sequence)
            sequence.slot = self._choose_slot()
            self.running.append(sequence)
        self.running.sort(key=self._age)

    def _release(self, sequence):
        self._operate(KvOp.FREE, sequence.slot)
        self._free_slots = sorted([*self._free_slots, sequence.slot])
        self.running.remove(sequence)
        sequence.slot = None

    def _operate(self, op, slot, length=0):
        answer = self.link.operate(op, slot, 0, length)
        if answer.error:
            raise KvError(op, slot, 0, length, answer.error)
        self._busy += answer.cycles or 0

    def preempt(self, sequence: Sequence) -> None:
        """Take a running sequence's slot and KV memory; it waits to compute them again."""
        self._release(sequence)
        sequence.kept, sequence.reached, sequence.drafts = 0, 0, ()
        sequence.preempted += 1
        self.waiting.append(sequence)

    # -- passes

    def _plan(self):
        return self.policy.plan(self.running, self.link.design.hw.entries)

    def _propose(self):
        for s in self.running:
            s.drafts = ()
            if self.drafter is not None and not s.prefilling and s.output:
                left = min(s.request.max_tokens - len(s.output), self.link.design.hw.context - len(s.tokens)) - 1
                count = min(self.draft_tokens, left)
                if count > 0:
                    s.drafts = tuple(self.drafter.propose(s, count))[:count]

    def _reserve(self, plan):
        """What of a plan the KV memory has room for. The oldest go first; a younger one gives way where the policy says
        so."""
        free, granted = self._free_blocks(), {}
        for sequence, count in sorted(plan, key=lambda p: self._age(p[0])):
            if sequence not in self.running:        # it gave way to an older one
                continue
            while True:
                has = self._blocks(sequence)
                room = next(n for n in range(count, -1, -1) if self._blocks(sequence, n) <= has + free)
                youngest = self.running[-1]
                must = self.policy.full == "recompute" or (not granted and room < 1)
                if room >= count or youngest is sequence or not must:
                    break
                free += self._blocks(youngest)
                self.preempt(youngest)
            if room:
                free -= self._blocks(sequence, room) - has
                granted[sequence] = room
        return [(s, granted[s]) for s, _ in plan if s in granted]

    def step(self) -> PassRecord | None:
        """Run one pass. Returns its `PassRecord`; None when all requests are answered."""
        self._admit()
        if not self.running:
            if not self.future:
                return None
            self.now = self.future[0].request.arrival
            self._admit()
        self._propose()
        plan = self._reserve(self._plan())
        if not plan:
            # in "keep", whoever would go on waits for blocks, and those that hold them are not in the plan
            self.preempt(self.running[-1])
            return self.step()
        entries = []
        for s, count in plan:
            run = [*s.tokens[s.kept:], *s.drafts][:count]
            last = len(s.tokens) - 1
            entries += [Entry(s.slot, p, token, p >= last, noise_key(s.request.seed, p), s.request.adapter)
                        for p, token in enumerate(run, s.kept)]
        self._settle()
        result = self.link.run_pass(entries).check()
        assert result.cycles is not None and result.outcome_cycles is not None      # the link knows its time
        when = dict(zip((i for i, e in enumerate(entries) if e.want), result.outcome_cycles))
        index, parts = 0, []
        for s, count in plan:
            parts.append(self._take(s, count, index, result.tokens, when))
            index += count
        design = self.link.design
        kept = sum(s.kept - design.given_back(s.reached) * design.hw.kv_block for s in self.running)
        record = PassRecord(self.now, result.cycles, tuple(parts), len(self.waiting), kept, result.counters)
        self.passes.append(record)
        self.now += result.cycles + self.turnaround
        for s in [s for s in self.running if s.finished(self.link.design.hw.context)]:
            self._release(s)
            self.done.append(s)
            if self.drafter is not None:
                self.drafter.forget(s)
        self._settle()
        return record

    def _settle(self):
        """Let the time of the operations on the KV memory pass."""
        self.now, self._busy = self.now + self._busy, 0

    def _take(self, s, count, first, tokens, when):
        """Book what a sequence's entries of a pass, from index ``first`` on, gave; its part of the record."""
        known = min(count, len(s.tokens) - s.kept)
        drafts, new = list(s.drafts[:count - known]), 0
        s.started = self.now if s.started is None else s.started
        s.last_pass = len(self.passes)
        s.recomputed += max(0, min(s.furthest, s.kept + known) - s.kept)
        decode = int(known == 1 and s.kept + 1 == len(s.tokens) and bool(s.output))
        s.reached = max(s.reached, s.kept + count)
        s.kept += known
        part = s.slot, s.number, known - decode, decode, len(drafts)
        if s.kept == len(s.tokens):
            # each right draft makes the token after it count
            for i in range(first + known - 1, first + count):
                s.tokens.append(tokens[i])
                s.times.append(self.now + when[i])
                if self.on_token:
                    self.on_token(s, tokens[i])
                if s.finished(self.link.design.hw.context) or not drafts or drafts.pop(0) != tokens[i]:
                    break
                new += 1
            s.kept += new
            if part[4] > new:
                self._operate(KvOp.TRUNCATE, s.slot, s.kept)
        s.furthest = max(s.furthest, s.kept)
        return *part, new

    def run(self) -> list[Sequence]:
        """Run until all requests are answered; the sequences in the order in which they were added."""
        while self.step() is not None:
            pass
        return sorted(self.done, key=lambda s: s.number)
