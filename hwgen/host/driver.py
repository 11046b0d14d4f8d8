"""Text through a decoder: prefill in chunks, one entry per decoded token, the same over every link."""
import contextlib
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..models.adapter_codes import QuantizedAdapter, random_adapter
from ..params.design import Design
from ..params.errors import KvOp
from ..params.counters import EVENTS
from .links.link import Entry, KvAnswer, Link, PassResult

__all__ = ["Mismatch", "CheckedLink", "Totals", "check_prompt", "compare", "generate", "inverse_temperature",
           "selftest", "why_ended"]


class Mismatch(Exception):
    """A decoder and the golden model differ; the message is one line that says where first.

    Attributes
    ----------
    layer, row      of the first signature that differs, or None
    number, runs    in a `selftest`: the pass, and (entries, result) of all its passes
    adapter         in a `selftest`: (number, `QuantizedAdapter`) of the entries', or None
    """
    layer: int | None = None
    row: int | None = None
    number: int | None = None
    adapter: tuple | None = None
    runs: list | None = None


def check_prompt(design: Design, prompt: Sequence[int], max_tokens: int) -> None:
    """Refuse prompts that do not fit. ValueError with one line."""
    if not prompt:
        raise ValueError("Prompt must have at least one token, not 0")
    if len(prompt) >= design.hw.context:
        raise ValueError(f"Prompt must be shorter than the context of {design.hw.context} tokens, not {len(prompt)}")
    if max_tokens < 1:
        raise ValueError(f"Token count must be at least 1, not {max_tokens}")


def inverse_temperature(design: Design, temperature: float) -> int:
    """What `Link.configure` takes for a temperature: 1 / temperature in units of 1/256, 0 for 0. ValueError with one
    line."""
    if temperature == 0:
        return 0
    if design.hw.sampler == "greedy":
        raise ValueError(f"Temperature must be 0, not {temperature:g}: this shape's sampler is greedy (add "
                         "sampler=gumbel to the shape)")
    if not 2.0 ** -8 < temperature <= 256:
        raise ValueError(f"Temperature must be 0, or above 1/256 and at most 256, not {temperature:g}")
    return round(256 / temperature)


@dataclass
class Totals:
    """Sums over the passes of a run, prefill and decode apart: passes, tokens, and each hardware counter."""
    passes: int = 0
    tokens: int = 0
    counters: dict = field(default_factory=dict)

    def add(self, result: PassResult, tokens: int) -> None:
        self.passes += 1
        self.tokens += tokens
        for name, value in result.counters.items():
            self.counters[name] = self.counters.get(name, 0) + value


def generate(link: Link, prompt: Sequence[int], max_tokens: int, *, slot: int = 0, stop: Collection[int] = (),
             prefilled: Callable[[int, int], None] | None = None, prefill: Totals | None = None,
             decode: Totals | None = None, adapter: int = 0) -> Generator[int, None, None]:
    """Generate after ``prompt`` (token ids) in a slot, which is emptied first; yields token ids until ``stop``,
    ``max_tokens`` or a full context.

    ``adapter``: the number of a loaded one. ``prefilled(done, all)`` is called after each chunk of the prompt;
    ``prefill`` and ``decode`` are Totals to add to.
    """
    design = link.design
    check_prompt(design, prompt, max_tokens)
    chunk = design.hw.entries
    token: Any = None       # a prompt is never empty
    link.free(slot)
    for start in range(0, len(prompt), chunk):
        part = prompt[start:start + chunk]
        final = start + len(part) == len(prompt)
        entries = [Entry(slot, start + i, t, final and i == len(part) - 1, adapter=adapter) for i, t in enumerate(part)]
        result = link.run_pass(entries).check()
        if prefill is not None:
            prefill.add(result, len(part))
        if prefilled is not None:
            prefilled(start + len(part), len(prompt))
        if final:
            token = result.tokens[len(part) - 1]
    if hasattr(link, "follow"):     # the machine goes on by itself: no wait for the line between tokens
        own: Any = link
        yield token
        room = min(max_tokens - 1, design.hw.context - len(prompt))
        if token not in stop and room:
            # closed here and not by the garbage collector, which would drop what goes wrong at the end
            with contextlib.closing(own.follow([Entry(slot, len(prompt), token, True, adapter=adapter)], room - 1,
                                                stop=min(stop, default=None))) as tokens:
                for _, token in tokens:
                    if decode is not None:
                        decode.add(PassResult(tokens={}, signatures=None), 1)
                    yield token
                    if token in stop:
                        break
            if decode is not None:          # what its last pass has clipped is still known
                decode.counters["saturated"] = dict(zip(EVENTS, own.counters()))["saturated"]
        return
    for position in range(len(prompt), design.hw.context):
        yield token
        max_tokens -= 1
        if token in stop or max_tokens == 0:
            return
        result = link.run_pass([Entry(slot, position, token, True, adapter=adapter)]).check()
        if decode is not None:
            decode.add(result, 1)
        token = result.tokens[0]
    yield token     # the context is full; this token still came out of it


def why_ended(output: Sequence[int], max_tokens: int, stop: Collection[int]) -> str:
    """Why a text has no more tokens: "stop" (its last one ends it), "length" (as many as wanted), or "context" (which
    is full)."""
    return "stop" if output[-1] in stop else "length" if len(output) >= max_tokens else "context"


def compare(entries: Sequence[Entry], result: PassResult, expected: PassResult, where: str) -> None:
    """Raise Mismatch where a pass gave other errors, signatures or tokens than expected."""
    assert result.signatures is not None and expected.signatures is not None
    got, want = ({index: error.code.name for index, error in r.errors.items()} for r in (result, expected))
    if got != want:
        raise Mismatch(f"{where}: the refused entries are {got}, golden {want}")
    entries = [e for index, e in enumerate(entries) if index not in expected.errors]        # those with rows
    for layer, (got, want) in enumerate(zip(result.signatures, expected.signatures)):
        for index, (g, w) in enumerate(zip(got, want)):
            if g != w:
                e = entries[index]
                mismatch = Mismatch(f"{where}: layer {layer}, entry {index} (slot {e.slot}, position {e.position}, "
                                    f"token {e.token}) is the first whose signature differs: {g:#010x}, golden "
                                    f"{w:#010x}")
                mismatch.layer, mismatch.row = layer, index
                raise mismatch
    if result.tokens != expected.tokens:
        raise Mismatch(f"{where}: all layers agree, but the tokens are {result.tokens}, golden {expected.tokens}")


class CheckedLink(Link):
    """Runs every pass on a link and on the golden model, and raises Mismatch where they differ.

    Tokens, signatures and what the residual clipped always; phases, cycles and counters too unless ``values_only`` (a
    link with stalls).
    """

    def __init__(self, link: Link, golden: Link, *, values_only: bool = False) -> None:
        self.link, self.golden, self.values_only = link, golden, values_only
        self.design = link.design
        self.passes = 0

    def configure(self, inv_temperature: int, seed: int) -> None:
        self.link.configure(inv_temperature, seed)
        self.golden.configure(inv_temperature, seed)

    def load_adapter(self, number: int, quantized: QuantizedAdapter) -> None:
        self.link.load_adapter(number, quantized)
        self.golden.load_adapter(number, quantized)

    def reset(self) -> None:
        self.link.reset()
        self.golden.reset()

    def run_pass(self, entries: Sequence[Entry]) -> PassResult:
        result, expected = self.link.run_pass(entries), self.golden.run_pass(entries)
        where = f"pass {self.passes}"
        self.passes += 1
        compare(entries, result, expected, where)
        if not self.values_only:
            assert expected.phases is not None        # the golden model knows all
            for got, want in zip(result.phases or (), expected.phases):
                if got != want:
                    raise Mismatch(f"{where}: (cycle, phase, layer) {got} instead of {want}")
            for name in ("phases", "outcome_cycles", "cycles"):
                if getattr(result, name) not in (None, getattr(expected, name)):      # a link may not know
                    raise Mismatch(f"{where}: {name} are {getattr(result, name)}, golden {getattr(expected, name)}")
        for name, want in expected.counters.items():
            # a link may not know
            if (name == "saturated" or not self.values_only) and result.counters.get(name, want) != want:
                raise Mismatch(f"{where}: counter {name} is {result.counters[name]}, golden {want}")
        return result

    def operate(self, op: int, slot: int, other: int = 0, length: int = 0) -> KvAnswer:
        answer, expected = self.link.operate(op, slot, other, length), self.golden.operate(op, slot, other, length)
        if answer.error != expected.error or not self.values_only and answer.cycles not in (None, expected.cycles):
            name = KvOp(op).name
            raise Mismatch(f"after pass {self.passes - 1}: {name} of slot {slot} gave {answer}, golden {expected}")
        return answer

    def close(self) -> None:
        self.link.close()
        self.golden.close()


def selftest(link: Link, golden: Link, totals: Totals | None = None) -> int:
    """Run fixed entries through a link and the golden model; the number of passes, all of which agreed. Raises
    Mismatch, of the first that did not. The machine's counters are added to ``totals``, if given.

    Where the machine has adapters, all are loaded with random ones then, and the same runs again with each.

    The prompt is made of the model's own vocabulary by a fixed rule, so that every model has one: it fills all entries
    of a pass, uses two slots, and is long enough for attention to have something to choose from.
    """
    passes = _selftest(link, golden, totals, None)
    adapters = [(number, random_adapter(link.design, number)) for number in range(1, link.design.hw.adapters + 1)]
    for adapter in adapters:
        for of in (link, golden):
            of.load_adapter(*adapter)
    for adapter in adapters:
        for of in (link, golden):
            of.reset()
        passes += _selftest(link, golden, totals, adapter)
    return passes


def _selftest(link, golden, totals, adapter):
    """The self-test of all entries with an adapter, (number, `QuantizedAdapter`), or with none."""
    design, number = link.design, adapter[0] if adapter else 0
    vocab, entries, slots = design.model.vocab_size, design.hw.entries, design.hw.slots
    length = min(design.hw.context, max(8, 3 * entries))
    runs, found = [], None
    for slot in range(min(slots, 2)):
        tokens = [(7 + 31 * slot + 1009 * i) % vocab for i in range(length)]
        for start in range(0, length, entries):
            group = [Entry(slot, p, tokens[p], True, adapter=number)
                     for p in range(start, min(start + entries, length))]
            result, expected = link.run_pass(group), golden.run_pass(group)
            try:
                compare(group, result, expected, f"adapter {number}, " * bool(number) + f"pass {len(runs)}")
            except Mismatch as mismatch:
                if found is None:
                    found, mismatch.number = mismatch, len(runs)
            runs.append((group, result))
            if totals is not None:
                totals.add(result, len(group))
    if found:
        found.runs, found.adapter = runs, adapter
        raise found
    return len(runs)
