"""A trace played through a scheduler, and what came of it: throughput, latencies, occupancy, utilization."""
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from .scheduler import Request, Scheduler, Sequence

__all__ = ["ENGINES", "Report", "play", "percentile"]

#: Engine -> the hardware counter of its cycles.
ENGINES = {"MAC array": "mac_busy", "attention": "attention", "norm": "norm", "embedding": "embed"}


def percentile(values: Collection[float], share: float) -> float:
    """The smallest value that at least so large a share of them does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _spread(values, scale):
    """Mean, median and 99th percentile."""
    if not values:
        return None
    return {"mean": scale * sum(values) / len(values), "p50": scale * percentile(values, 0.5),
            "p99": scale * percentile(values, 0.99)}


def play(scheduler: Scheduler, requests: Iterable[Request],
         progress: Callable[[int, int], object] | None = None) -> list[Sequence]:
    """Run requests to their end. ``progress``: called with (answered, all). Returns the sequences, in the requests'
    order."""
    sequences = [scheduler.add(request) for request in requests]
    while scheduler.step() is not None:
        if progress:
            progress(len(scheduler.done), len(sequences))
    return sequences


@dataclass(frozen=True)
class Report:
    """What a run of a scheduler was like; times at a clock (MHz) that is an assumption, so all seconds are
    projected."""
    scheduler: Any
    sequences: list
    clock: float

    @property
    def cycles(self) -> int:
        last = self.scheduler.passes[-1]
        return last.start + last.cycles

    def facts(self) -> dict[str, Any]:
        """Everything as JSON has it; seconds are projected at the clock, cycles are the link's."""
        scheduler, passes, hw = self.scheduler, self.scheduler.passes, self.scheduler.link.design.hw
        second = 1 / (self.clock * 1e6)
        seconds = self.cycles * second
        prompt = sum(len(s.request.prompt) for s in self.sequences)
        output = sum(len(s.output) for s in self.sequences)
        proposed, accepted = (sum(part[i] for p in passes for part in p.parts) for i in (4, 5))
        capacity = scheduler.blocks * hw.kv_block
        busy = sum(p.cycles for p in passes)
        beats = sum(p.counters["weight_beats"] for p in passes)

        def average(values):        # over time: each pass's by its length
            return sum(v * p.cycles for v, p in zip(values, passes)) / busy

        return {
            "kind": "projected", "clock_mhz": self.clock, "policy": str(scheduler.policy), "cycles": self.cycles,
            "seconds": seconds, "requests": len(self.sequences), "prompt_tokens": prompt, "output_tokens": output,
            "passes": len(passes),
            "tokens_per_second": (prompt + output) / seconds, "output_tokens_per_second": output / seconds,
            "requests_per_second": len(self.sequences) / seconds,
            "time_to_first_token": _spread([s.times[0] - s.request.arrival for s in self.sequences], second),
            "time_per_output_token": _spread([b - a for s in self.sequences for a, b in zip(s.times, s.times[1:])],
                                             second),
            "time_to_last_token": _spread([s.times[-1] - s.request.arrival for s in self.sequences], second),
            "entries_per_pass": sum(p.entries for p in passes) / len(passes), "entries": hw.entries,
            "queue": {"mean": average([p.waiting for p in passes]), "largest": max(p.waiting for p in passes)},
            "slots_in_use": {"mean": average([len(p.parts) for p in passes]), "of": hw.slots},
            "kv_positions": {"mean": average([p.kept for p in passes]), "largest": max(p.kept for p in passes),
                             "of": capacity},
            "utilization": {**{engine: sum(p.counters[counter] for p in passes) / self.cycles
                               for engine, counter in ENGINES.items()},
                            "no pass under way": 1 - busy / self.cycles},
            "weight_bytes_per_token": beats * hw.beat_bytes / (prompt + output),
            "preemptions": sum(s.preempted for s in self.sequences),
            "recomputed_tokens": sum(s.recomputed for s in self.sequences),
            "drafts": {"proposed": proposed, "accepted": accepted},
        }

    def json(self) -> dict[str, Any]:
        """`facts`, with each request and each pass (times in cycles)."""
        return self.facts() | {
            "each_request": [{"name": s.request.name, "arrival": s.request.arrival, "started": s.started,
                              "prompt": len(s.request.prompt), "output": s.output, "times": s.times,
                              "ended": s.why_ended(), "preempted": s.preempted}
                              for s in self.sequences],
            "each_pass": [{"start": p.start, "cycles": p.cycles, "waiting": p.waiting, "kv_positions": p.kept,
                           "counters": p.counters,
                           "parts": [dict(zip(("slot", "request", "prefill", "decode", "drafts", "accepted"), part))
                                     for part in p.parts]}
                          for p in self.scheduler.passes]}

    def table(self) -> Table:
        """For a person."""
        facts = self.facts()
        table = Table("", f"at {self.clock:g} MHz, projected", box=None, header_style="bold", padding=(0, 2))

        def row(label, text):
            table.add_row(label, text)

        def times(label, spread):
            row(label, "-" if spread is None
                else "mean {mean}, p50 {p50}, p99 {p99}".format(**{k: _time(v) for k, v in spread.items()}))

        row("requests", f"{facts['requests']:,}: {facts['prompt_tokens']:,} tokens in, {facts['output_tokens']:,} out")
        row("time", f"{facts['cycles']:,} cycles, {_time(facts['seconds'])}, {facts['passes']:,} passes")
        row("throughput", f"{facts['tokens_per_second']:,.0f} tokens/s in and out, "
                          f"{facts['output_tokens_per_second']:,.0f} out only")
        times("to the first token", facts["time_to_first_token"])
        times("per output token", facts["time_per_output_token"])
        times("to the last token", facts["time_to_last_token"])
        row("entries in a pass", f"{facts['entries_per_pass']:.2f} of {facts['entries']}")
        row("queue", f"mean {facts['queue']['mean']:.1f}, largest {facts['queue']['largest']}")
        row("KV positions in use", "mean {mean:,.0f}, largest {largest:,} of {of:,}".format(**facts["kv_positions"]))
        row("busy", ", ".join(f"{engine} {share:.1%}" for engine, share in facts["utilization"].items()))
        if facts["preemptions"]:
            row("put off", f"{facts['preemptions']:,} times, {facts['recomputed_tokens']:,} tokens computed again")
        if facts["drafts"]["proposed"]:
            row("drafts", draft_text(facts["drafts"]))
        return table


def draft_text(drafts: Mapping[str, int]) -> str:
    """Proposed and accepted drafts in words."""
    proposed, accepted = drafts["proposed"], drafts["accepted"]
    share = accepted / max(1, proposed)
    return f"{accepted:,} of {proposed:,} accepted ({share:.0%}), each of them a pass less for its slot"


def _time(seconds):
    for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            break
    return f"{seconds * scale:,.3g} {unit}"
