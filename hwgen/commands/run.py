"""hwgen run and demo: text from a simulated machine."""
import contextlib
import shlex
import time
from pathlib import Path

from ..host import terminal
from ..host.inputs import check_letters, checked_input, try_to_write, writing
from ..host.diagnosis.waves import KINDS, SIGNALS, Trace, Window
from ..lib import verilator
from ..models import load
from ..models.adapter_codes import quantize_adapter
from ..plan.summary import summary
from .common import (adapters_of, add_adapter, add_clock, add_command, add_machine, add_sampling, add_speculation,
                     check_adapters, check_drafts, check_sampling, design_of, drafter_of, loaded,
                     quantized_of, warn_clipped)
from .emit import emit_machine, output_folder
from .links import add_link, check_link, check_simulator, is_board_link, open_link, place

__all__ = ["BESIDE", "add_demo", "add_run"]

PROMPT = "She was"      # of the demo
BESIDE = ("My dear", "In the morning", "They were")     # what it writes at the same time
BESIDE_TOKENS = 24


def add_demo(commands):
    sub = add_command(commands, "demo", run_demo, "Emit the demo model's machine, simulate it, and compare it with "
                                                  "the golden model.",
                      'hwgen demo --prompt "It is a truth universally acknowledged"', shapes=False)
    sub.add_argument("--prompt", default=PROMPT, metavar="TEXT",
                     help=f"what the text starts with (default: {PROMPT!r})")
    sub.add_argument("--max-tokens", type=int, default=60, metavar="N", help="tokens to generate (default: 60)")
    add_sampling(sub, 0.6)
    sub.add_argument("-o", "--output", default="build/demo", metavar="DIR",
                     help="where the Verilog goes (default: build/demo)")
    sub.add_argument("--link", choices=("verilator", "golden"), default="verilator",
                     help="golden writes the same without Verilog and simulator")
    add_clock(sub)


def add_run(commands):
    sub = add_command(commands, "run", run_run, "Generate text on a simulated machine.",
                      'hwgen run demo --prompt "Mr. Darcy" --check\n'
                      '  hwgen run models/smollm2-135m-instruct.gguf --chat --prompt "What is the capital of France?" '
                      "--shape latency-32x32")
    add_machine(sub)
    sub.add_argument("--prompt", required=True, metavar="TEXT",
                     help="what the text starts with; with --chat a user's message")
    sub.add_argument("--chat", action="store_true", help="put the prompt into the model's chat template")
    sub.add_argument("--max-tokens", type=int, default=64, metavar="N", help="tokens to generate (default: 64)")
    add_sampling(sub, 0.0)
    add_link(sub)
    sub.add_argument("--check", action="store_true",
                     help="compare every token, signature and cycle with the golden model")
    add_speculation(sub)
    add_adapter(sub)
    sub.add_argument("--trace", metavar="FILE",
                     help="write a waveform (.vcd or .fst), and beside it files that open it in GTKWave and Surfer")
    sub.add_argument("--trace-signals", choices=SIGNALS,
                     help="what it holds: ports and registers with names, or all, twenty times as much "
                     "(default: named)")
    sub.add_argument("--trace-window", metavar="WINDOW",
                     help="when: cycles=LOW:HIGH, passes=LOW:HIGH, layers=LOW:HIGH, phases=NAME+NAME, "
                     "or several with commas (default: always)")
    sub.add_argument("--stall", type=float, default=0.0, metavar="P",
                     help="probability that a weight beat is late (source=stream)")
    add_clock(sub, board=True)


def run_run(options, screen):
    checkpoint, design = loaded(options, screen, need_tokenizer=True)
    with checked_input():
        check_letters("Prompt", options.prompt)
        encode = checkpoint.tokenizer.encode_chat if options.chat else checkpoint.tokenizer.encode
        prompt = encode(options.prompt)
        inverse = _check_text(options, design, prompt)
        drafts = check_drafts(options, design)
        if not 0 <= options.stall < 1:
            raise ValueError(f"Stall probability must be at least 0 and below 1, not {options.stall:g}")
        if options.stall and design.hw.source != "stream":
            raise ValueError("Stalls need weights that come from outside: add source=stream to --shape")
        if options.link == "golden" and (options.check or options.trace or options.stall):
            raise ValueError("Link golden is the golden model itself: it has no --check, --trace or --stall")
        if is_board_link(options.link) and (options.trace or options.stall):
            raise ValueError(f"Link {options.link} has no --trace and no --stall: take --link verilator")
        trace = _trace(options, design)
        check_adapters(options.adapter, design)
    adapters = adapters_of(options.adapter, checkpoint, design)
    check_link(options)
    if trace:
        if trace.path.suffix == ".fst":
            verilator.check_fst()
        with writing(trace.path):
            try_to_write(trace.path)
    screen.say(summary(design))
    design, quantized = quantized_of(options, screen, checkpoint, design)
    codes = [quantize_adapter(adapter, quantized, design) for adapter in adapters]
    with open_link(screen, options, design, quantized, **({"trace": trace} if trace else {})) as link:
        for number, adapter in enumerate(codes, 1):
            link.load_adapter(number, adapter)
        if inverse:
            link.configure(inverse, options.seed)
        drafter = drafter_of(options, screen, checkpoint, design, drafts)
        if drafter:
            _generate_drafted(screen, link, checkpoint.tokenizer, prompt, options, drafter)
        else:
            _generate(screen, link, checkpoint.tokenizer, prompt, options,
                      lambda: options.chat or screen.echo(options.prompt))
    if trace:
        screen.say(f"waveform: {trace.path} (gtkwave {shlex.quote(str(trace.path.with_suffix('.gtkw')))})")


def _trace(options, design):
    """The waveform that the options ask for, or None."""
    if not options.trace:
        if options.trace_signals or options.trace_window is not None:
            raise ValueError("Signals and window must be a waveform's: add --trace FILE")
        return None
    if Path(options.trace).suffix not in KINDS:
        raise ValueError(f"Waveform must be a .vcd or .fst file, not {options.trace!r}")
    window = Window() if options.trace_window is None else Window.parse(options.trace_window, design)
    return Trace(Path(options.trace), options.trace_signals or SIGNALS[0], window)



def run_demo(options, screen):
    options.shape, options.formats, options.head, options.check = "demo", None, None, options.link == "verilator"
    folder = output_folder(options.output, "demo") if options.check else None
    checkpoint = load("demo")
    design = design_of(options, checkpoint)
    with checked_input():
        check_letters("Prompt", options.prompt)
        prompt = checkpoint.tokenizer.encode(options.prompt)
        inverse = _check_text(options, design, prompt)
    if options.check:
        check_simulator()
    screen.say(summary(design))
    design, quantized = quantized_of(options, screen, checkpoint, design)
    if options.check:
        emit_machine(screen, design, quantized, folder, "demo")
    with open_link(screen, options, design, quantized, folder=folder) as link:
        if inverse:
            link.configure(inverse, options.seed)
        _generate(screen, link, checkpoint.tokenizer, prompt, options, lambda: terminal.write(options.prompt),
                  lambda: _beside(screen, link, checkpoint.tokenizer, options))


def _check_text(options, design, prompt):
    """Refuse what cannot be generated; the inverse temperature."""
    from ..host.driver import check_prompt
    check_prompt(design, prompt, options.max_tokens)
    return check_sampling(options, design)


def _generate_drafted(screen, link, tokenizer, prompt, options, drafter):
    """As `_generate`, with drafts."""
    from ..host.driver import Totals
    from ..host.serving.scheduler import Request, Scheduler
    from ..host.serving.report import draft_text
    prefill, decode, text = Totals(), Totals(), tokenizer.stream(after=prompt)
    began, proposed, accepted = time.monotonic(), 0, 0
    scheduler = Scheduler(link, drafter=drafter, draft_tokens=options.speculate,
                          on_token=lambda _, token: terminal.write(text.push(token)))
    scheduler.add(Request(tuple(prompt), options.max_tokens, stop=link.design.model.eos_token_ids,
                          adapter=int(bool(options.adapter))))
    if not options.chat:
        screen.echo(options.prompt)
    try:
        while record := scheduler.step():
            _, _, prompted, decoded, drafts, right = record.parts[0]
            (prefill if prompted else decode).add(record, prompted + decoded + right)
            proposed, accepted = proposed + drafts, accepted + right
    finally:
        terminal.write(text.end() + "\n")
    screen.table(terminal.speed_table({"prefill": prefill, "decode": decode}, options.clock))
    warn_clipped(screen, link.design, (prefill, decode))
    _say_end(screen, link.design, scheduler.done[0].why_ended(), options)
    screen.say(f"drafts: {draft_text({'proposed': proposed, 'accepted': accepted})}")
    screen.say(f"{len(scheduler.passes)} passes in {time.monotonic() - began:.1f} s on the {place(options)}")
    if options.check:
        _say_equal(screen, link)


def _say_equal(screen, link):
    """What a `CheckedLink` has compared."""
    screen.say("every token and signature" + ("" if link.values_only else ", cycle and counter")
               + " equals the golden model's")


def _say_end(screen, design, why, options):
    """Why the text has no more tokens."""
    screen.say({"stop": "ended by the model's end token",
                "length": f"ended after {options.max_tokens} tokens (--max-tokens)",
                "context": f"ended early: the context of {design.hw.context} tokens is full"}[why])


def _generate(screen, link, tokenizer, prompt, options, start, more=lambda: ({}, 0)):
    """Stream the text, and say how it went. ``start()`` is called when the prompt is in and the text comes, ``more()``
    when it has ended: it gives more columns of the table, and the passes that they took."""
    from ..host.driver import Totals, generate, why_ended
    prefill, decode = Totals(), Totals()
    text, stop, output = tokenizer.stream(after=prompt), link.design.model.eos_token_ids, []
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(start)
        bar = stack.enter_context(screen.bar("prefill"))
        try:
            tokens = generate(link, prompt, options.max_tokens, stop=stop, prefilled=bar, prefill=prefill,
                              decode=decode, adapter=int(bool(getattr(options, "adapter", None))))
            with contextlib.closing(tokens):
                for token in tokens:
                    stack.close()       # the bar is gone before the text comes
                    output.append(token)
                    terminal.write(text.push(token))
        finally:
            stack.close()
            terminal.write(text.end() + "\n")
    _say_end(screen, link.design, why_ended(output, options.max_tokens, stop), options)
    columns, passes = more()
    seconds = time.monotonic() - began
    screen.table(terminal.speed_table({"prefill": prefill, "decode": decode, **columns}, options.clock))
    warn_clipped(screen, link.design, (prefill, decode, *columns.values()))
    screen.say(f"{prefill.passes + decode.passes + passes} passes in {seconds:.1f} s on the {place(options)}")
    if options.check:
        _say_equal(screen, link)


def _beside(screen, link, tokenizer, options):
    """The text's beginning once more, batched with others: the same words, in another slot's company."""
    from ..host.driver import Totals
    from ..host.serving.scheduler import Request, Scheduler
    texts = (options.prompt, *BESIDE)
    screen.say(f"{len(texts)} texts at once")
    scheduler, decode = Scheduler(link), Totals()
    for number, text in enumerate(texts):
        prompt = tuple(tokenizer.encode(text))
        scheduler.add(Request(prompt, min(BESIDE_TOKENS, options.max_tokens), seed=number,
                              stop=link.design.model.eos_token_ids))
    sequences = scheduler.run()
    for text, sequence in zip(texts, sequences):
        stream = tokenizer.stream(after=sequence.request.prompt)
        terminal.write(" ".join((text + "".join(map(stream.push, sequence.output)) + stream.end()).split()) + "\n")
    if full := sum(s.why_ended() == "context" for s in sequences):
        screen.say(f"{full} of {len(texts)} texts ended early: the context of {link.design.hw.context} tokens is full")
    for record in scheduler.passes:
        decodes = all(decoded for _, _, _, decoded, _, _ in record.parts)
        if decodes and len(record.parts) == len(texts) == record.entries:
            decode.add(record, record.entries)
    return {f"{len(texts)} at once": decode}, len(scheduler.passes)
