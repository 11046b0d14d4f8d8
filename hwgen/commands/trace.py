"""hwgen trace: many requests through a machine, and synthetic ones."""
import json
import os
from pathlib import Path

from ..host import terminal
from ..host.inputs import InputError, checked_input, try_to_write, write_text, writing
from ..models import load
from ..models.adapter_codes import quantize_adapter
from ..params.checks import shown
from ..plan.summary import summary
from .common import (adapters_of, add_adapter, add_clock, add_command, add_machine, add_sampling, add_speculation, check_adapters,
                     check_drafts, check_sampling,
                     drafter_of, loaded, quantized_of, warn_clipped)
from .links import check_simulator, open_link

__all__ = ["add_trace"]


def add_trace(commands):
    traces = commands.add_parser("trace", help="Play many requests through a machine (run), or write a trace of requests (make).",
                                 description="Continuous batching: see docs/serving.md.")
    actions = traces.add_subparsers(dest="action", metavar="run|make", required=True)
    sub = add_command(actions, "trace run", run_trace,
                      "Play a trace of requests, batched continuously, and report throughput and latencies.",
                      "hwgen trace run --synthetic requests=12,prompt=8:64,output=8 --shape demo,entries=4,slots=4 --link golden\n"
                      "  hwgen trace run trace.jsonl --shape demo,entries=4,slots=4 --check --picture timeline.svg")
    sub.add_argument("file", nargs="?", metavar="TRACE", help="JSON lines, one request each (docs/serving.md)")
    sub.add_argument("--synthetic", metavar="SPEC",
                     help="instead of a file: requests=N,prompt=LENGTH,output=LENGTH,rate=PER_SECOND,longest=N,"
                     "seed=N; a LENGTH is N, LOW:HIGH or ~MEAN")
    add_machine(sub, option="demo")
    sub.add_argument("--policy", default="", metavar="P",
                     help="fcfs, decode-first, prefill-first or fair, and budget=N, chunk=N, full=recompute "
                     "or full=keep (default: decode-first)")
    sub.add_argument("--blocks", type=int, metavar="N", help="KV blocks that may be in use at once (default: all)")
    sub.add_argument("--turnaround", type=int, default=3, metavar="CYCLES", help="between a pass's last result and the next pass's first "
                     "entry (default: 3, the machine's own)")
    add_sampling(sub, 0.0)
    add_speculation(sub)
    add_adapter(sub, many=True)
    sub.add_argument("--link", choices=("verilator", "golden", "timing"), default="verilator",
                     help="verilator simulates the emitted Verilog; golden is numpy, with predicted cycles; timing is the cycle model "
                          "alone")
    sub.add_argument("--check", action="store_true", help="compare every token, signature and cycle with the golden model")
    sub.add_argument("--json", metavar="FILE", help="write the report, each request and each pass")
    sub.add_argument("--picture", metavar="FILE.svg", help="write a timeline of engines and slots")
    add_clock(sub)
    sub = add_command(actions, "trace make", run_trace_make, "Write a synthetic trace: Poisson arrivals, lengths from distributions.",
                      "hwgen trace make requests=32,prompt=32:128,output=~8,rate=200 -o trace.jsonl", shapes=False)
    sub.add_argument("spec", metavar="SPEC", help="requests=N,prompt=LENGTH,output=LENGTH,rate=PER_SECOND,longest=N,seed=N; a LENGTH is N, "
                     "LOW:HIGH or ~MEAN; rate=0: all arrive at once")
    sub.add_argument("-o", "--output", required=True, metavar="FILE", help="the file")


def run_trace(options, screen):
    from ..host.serving.picture import timeline_svg
    from ..host.serving.policies import Policy
    from ..host.serving.scheduler import Scheduler
    from ..host.serving.report import Report, play
    from ..host.serving.trace import Synthetic, read_trace, requests_of
    checkpoint, design = loaded(options, screen)
    if (options.file is None) == (options.synthetic is None):
        raise InputError("Trace must be a file or --synthetic SPEC, one of them")
    with checked_input():
        _check_files(options)
        lines = list(Synthetic.parse(options.synthetic).lines()) if options.file is None else read_trace(options.file)
        inverse, policy, drafts = check_sampling(options, design), Policy.parse(options.policy), check_drafts(options, design)
        tokenizer = load(options.model).tokenizer if any("text" in line for line in lines) else None
        requests = requests_of(lines, design.model, options.clock, tokenizer, context=design.hw.context, adapters=len(options.adapter))
        check_adapters(options.adapter, design)
        _check_play(options)
        _check_answerable(design, policy, options.blocks, requests)
    adapters = adapters_of(options.adapter, checkpoint, design)
    for path in filter(None, (options.json, options.picture)):
        with writing(path):
            try_to_write(Path(path))
    if options.link == "verilator":
        check_simulator()
    screen.say(summary(design))
    quantized = None
    if options.link != "timing":
        design, quantized = quantized_of(options, screen, checkpoint, design)
    codes = [quantize_adapter(adapter, quantized, design) for adapter in adapters] if quantized else adapters
    with open_link(screen, options, design, quantized) as link:
        for number, adapter in enumerate(codes, 1):
            link.load_adapter(number, adapter)
        if inverse:
            link.configure(inverse, options.seed)
        scheduler = Scheduler(link, policy, blocks=options.blocks, drafter=drafter_of(options, screen, checkpoint, design, drafts),
                              draft_tokens=options.speculate, turnaround=options.turnaround)
        with screen.bar("playing") as progress:
            sequences = play(scheduler, requests, progress)
    report = Report(scheduler, sequences, options.clock)
    terminal.result(report.table())
    warn_clipped(screen, design, scheduler.passes)
    if full := sum(s.why_ended() == "context" for s in sequences):
        screen.say(f"{full} of {len(sequences)} requests ended early: the context of {design.hw.context} tokens is full")
    if options.check:
        screen.say("every token and signature, cycle and counter equals the golden model's")
    for path, text in ((options.json, lambda: json.dumps(report.json(), indent=1) + "\n"), (options.picture, lambda: timeline_svg(report))):
        if path:
            write_text(path, text())
            screen.say(f"written: {path}")


def _check_files(options):
    files = [os.path.realpath(path) for path in (options.file, options.json, options.picture) if path]
    if len(set(files)) < len(files):
        raise ValueError("Trace, report and picture must be different files: one would replace another")


def _check_play(options):
    if options.link != "verilator" and options.check:
        raise ValueError(f"Link {options.link} has no --check: it is the golden model's own prediction")
    if not 0 <= options.turnaround < 2**31:
        raise ValueError(f"Turnaround must be 0 to 2**31 - 1 cycles, not {shown(options.turnaround)}")
    if options.picture and not options.picture.endswith(".svg"):
        raise ValueError(f"Picture must be a .svg file, not {options.picture!r}")


def _check_answerable(design, policy, blocks, requests):
    """Refuse requests that can never be answered, before anything is built."""
    from ..host.serving.scheduler import Scheduler
    from ..host.links.timing_link import TimingLink
    trial = Scheduler(TimingLink(design), policy, blocks=blocks)
    for request in requests:
        try:
            trial.add(request)
        except ValueError as error:
            raise ValueError(f"{request.name}: {error}") from None


def run_trace_make(options, screen):
    from ..host.serving.trace import Synthetic, write_trace
    with checked_input():
        synthetic = Synthetic.parse(options.spec)
    lines = list(synthetic.lines())
    write_trace(options.output, lines)
    print(f"{options.output}: {len(lines)} requests, {sum(line['prompt_length'] for line in lines):,} tokens in, "
          f"{sum(line['output_length'] for line in lines):,} out, the last arrives after {lines[-1]['arrival']:g} s")
