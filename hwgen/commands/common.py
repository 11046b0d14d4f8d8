"""What the commands share: the arguments that name a machine, and the machine that they name."""
import argparse
import dataclasses
import math
import textwrap

from ..host.inputs import checked_input
from ..models import load, quantize
from ..models.adapter_codes import check_rank
from ..models.adapters import read_adapter
from ..models.wires import fixed_matrices
from ..params.design import Design
from ..params.limits import check_padding
from ..params.presets import SHAPES, field_meanings, fraction_is_auto, hw_shape, recipe
from .links import chosen_board, is_board_link

__all__ = ["CLOCK", "MODEL_HELP", "adapters_of", "add_adapter", "add_clock", "add_command", "add_formats",
           "add_machine", "add_sampling", "add_speculation", "check_adapters", "check_drafts",
           "check_sampling", "design_of",
           "drafter_of", "fitting", "loaded", "opened", "quantized_of", "recipe_of", "warn_clipped", "without_adapters"]

MODEL_HELP = ("folder in Hugging Face's layout, a .gguf file, a folder of `hwgen quantize`, or a model that comes "
              "with hwgen: "
              '"demo", "mini" for small boards, or "wire" for matrices that are logic')
CLOCK = 100.0       # MHz, for speeds of machines that are on no board


# -- arguments

def _shapes_help():
    lines = [f"  {p.name:14} {p.purpose} ({p.status})" for p in SHAPES.values()]
    fields = [textwrap.fill(said.replace("``", ""), 110, initial_indent=f"  {name:17} ", subsequent_indent=" " * 20)
              for name, (_, said) in field_meanings().items()]
    return "\n".join(["shapes for --shape, each of which field=value pairs change (--shape "
                      "demo,entries=4,context=128):", *lines, "fields of a shape:", *fields,
                      "  residual_fraction=auto, which is the default, takes what suits the model where 16 does not"])


def add_command(group, name, run, summary, example, shapes=True):
    """The parser of a command, in a group of subparsers; ``shapes``: its help lists them."""
    epilog = f"example:\n  {example}" + (f"\n\n{_shapes_help()}" if shapes else "")
    sub = group.add_parser(name.split()[-1], help=summary, description=summary, epilog=epilog,
                           formatter_class=argparse.RawDescriptionHelpFormatter)
    sub.set_defaults(run=run, command=name)
    return sub


def add_machine(sub, shape="demo", option=""):
    """Model, shape and formats; ``option``: the model is an option, and that by default."""
    if option:
        sub.add_argument("--model", default=None if shape is None else option, metavar="MODEL",
                         help=f"{MODEL_HELP} (default: {option})")
    else:
        sub.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    sub.add_argument("--shape", metavar="S", help=f"hardware shape, see below (default: {shape})")
    sub.set_defaults(default_shape=shape)
    add_formats(sub)


def add_formats(sub):
    sub.add_argument("--formats", metavar="F",
                     help="FP8 format e3m4 or e4m3 of everything, or weights=F,activations=F,kv=F,p=F (default: e3m4, "
                     "p=e4m3); weights and kv also e2m5, weights also e2m1: of all "
                     "matrices (weights=F), the LM head (head=F), those of some kind (qkv=F, o=F, gate_up=F, "
                     "down=F) or layers (layers.0-1=F, layers.3.down=F), "
                     "of which what comes later counts; a tied head in e2m1 is stored beside "
                     "the embedding table. scales=row or matrix: exponents (default: matrix, row with e2m1 or e2m5); "
                     "block_range=N: the largest offset of 32 weights in e2m1. As "
                     "weights=e2m1,head=e3m4,layers.0-1=e3m4: docs/cli.md")
    sub.add_argument("--head", choices=("single", "pair"),
                     help="codes per LM head weight: one, or hi + lo (default: single)")


def add_clock(sub, board=False):
    sub.add_argument("--clock", type=float, metavar="MHz",
                     help=f"clock for projected speeds (default: {CLOCK:g}"
                     + ("; a board's own with its links)" if board else ")"))


def add_sampling(sub, temperature):
    sub.add_argument("--temperature", type=float, default=temperature, metavar="T",
                     help="0 takes the likeliest token; others "
                     f"need a shape with sampler=gumbel (default: {temperature:g})")
    sub.add_argument("--seed", type=int, default=1, metavar="N",
                     help="of the sampler's noise and of stalls (default: 1)")


def add_adapter(sub, many=False, who="requests"):
    what = "a LoRA adapter, as PEFT saves it, or devil, which is the demo model's"
    if many:
        what += f"; may be given again: {who} name them 1, 2 ... in this order"
    sub.add_argument("--adapter", metavar="DIR", action="append" if many else "store",
                     type=str if many else lambda folder: [folder], default=[],
                     help=f"{what}; needs a shape with adapters=N (docs/adapters.md)")


def add_speculation(sub):
    sub.add_argument("--speculate", type=int, default=0, metavar="K",
                     help="verify up to K draft tokens of a text in one pass; needs a "
                     "shape with more than K entries, and changes no token (default: 0)")
    sub.add_argument("--draft", metavar="D", help="where drafts come from: ngram (what followed the last tokens "
                     "before), or the model in other formats on the golden model, as --formats (default: ngram)")


# -- what they name

def design_of(options, checkpoint):
    with checked_input():
        link = getattr(options, "link", "verilator")
        if link not in ("verilator", "golden", "timing") and not is_board_link(link):
            raise ValueError(f"Link must be verilator, golden, sim-uart or serial:DEVICE, not {link!r}")
        board = chosen_board(options) if is_board_link(link) else None
        if "link" in options and board is None:
            if getattr(options, "mhz", None) is not None:
                raise ValueError("Option --mhz is the clock of a board's machine: give --clock, or --link sim-uart or "
                                 "serial:DEVICE")
            if getattr(options, "board", None) is not None:
                raise ValueError("Option --board needs --link sim-uart or serial:DEVICE: others run no board's machine")
        if options.shape is None:
            options.shape = board.shape if board else options.default_shape
            if board and options.formats is None:
                options.formats = board.formats
        if "clock" in options and options.clock is None:
            options.clock = board.clock if board else CLOCK
        hw = hw_shape(options.shape, checkpoint.shape)
        design = Design(model=checkpoint.shape, hw=hw, recipe=recipe_of(options, checkpoint.kept, checkpoint.source))
        check_padding(design)
        return design


def without_adapters(hw):
    """The HwShape, if it has no adapters."""
    if hw.adapters:
        raise ValueError("Adapters of a shape must be 0 for hwgen accuracy, which knows none yet")
    return hw


def recipe_of(options, kept, source):
    """What the options say, or the recipe of a quantized model, if there is one."""
    if kept is None:
        return recipe(options.formats, options.head)
    given = options.formats is not None or options.head is not None
    if given and recipe(options.formats, options.head) != kept.recipe:
        raise ValueError(f"Formats must be those in which {source} is: leave out --formats and --head, or name the "
                         "model it was made from")
    return kept.recipe


def opened(screen, model, need_tokenizer=False):
    """The Checkpoint of a model, with a warning for each thing that its files say and the machine does not do."""
    checkpoint = load(model, need_tokenizer=need_tokenizer)
    for line in checkpoint.warnings:
        screen.warn(line)
    return checkpoint


def loaded(options, screen, need_tokenizer=False):
    """(checkpoint, design) of the options, with shape, formats and clock filled in where they name none."""
    checkpoint = opened(screen, options.model, need_tokenizer)
    return checkpoint, design_of(options, checkpoint)


def quantized_of(options, screen, checkpoint, design, **keeping):
    """(design, QuantizedModel), with a residual_fraction that suits the model where the shape leaves it open, and
    warnings. ``keeping``: ``put`` of `quantize`."""
    from ..plan.ranges import advice
    fraction = design.hw.residual_fraction
    with screen.bar("quantizing") as progress:
        quantized = quantize(checkpoint, design.recipe, progress, **keeping)
        ranges, sentences = advice(checkpoint, quantized, fraction)
        # seldom: the text is run again
        if other := fraction_is_auto(options.shape) and ranges.fitting not in (None, fraction):
            design = _with_fraction(design, ranges.fitting)
            _, sentences = advice(checkpoint, quantized, ranges.fitting)
    if other:
        _say_fraction(screen, fraction, ranges.fitting)
    for sentence in sentences:
        screen.warn(sentence)
    if design.hw.wired:
        with screen.bar("making logic of the weights") as progress:
            fixed_matrices(quantized, design, progress)     # kept for those who ask next
    return design, quantized


def fitting(options, screen, checkpoint, design):
    """The design with a residual_fraction that suits the model, where the shape leaves it open."""
    from ..plan.ranges import fitting_fraction
    fraction = design.hw.residual_fraction
    if not fraction_is_auto(options.shape) or (fits := fitting_fraction(checkpoint, fraction)) in (None, fraction):
        return design
    _say_fraction(screen, fraction, fits)
    return _with_fraction(design, fits)


def _say_fraction(screen, fraction, fits):
    screen.say(f"residual_fraction={fits}: {fraction} does not suit the model's residual")


def _with_fraction(design, fraction):
    return dataclasses.replace(design, hw=dataclasses.replace(design.hw, residual_fraction=fraction))


def warn_clipped(screen, design, counted):
    """Say what the residual clipped in passes, of which ``counted`` has the counters: pass results, records or
    `Totals`."""
    granules = sum(c.counters.get("saturated", 0) for c in counted)
    if granules:
        fraction = design.hw.residual_fraction
        below = f"{2.0 ** (31 - fraction):,.0f}"
        screen.warn(f"numbers of the residual were clipped, in {granules:,} granules of {design.hw.vector_lanes}, so "
                    f"tokens may be wrong: with residual_fraction={fraction} it holds numbers below {below} (hwgen "
                    "info MODEL --ranges says which fits)")


def check_sampling(options, design):
    """Refuse a clock, a seed or a temperature that cannot be; the inverse temperature."""
    from ..host.driver import inverse_temperature
    if not 0 < options.clock < math.inf:
        raise ValueError(f"Clock must be above 0 MHz, not {options.clock:g}")
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"Seed must be 0 to {2**32 - 1}, not {options.seed}")
    return inverse_temperature(design, options.temperature)


def check_adapters(folders, design):
    """Refuse more adapters than the machine has room for."""
    if len(folders) > design.hw.adapters:
        raise ValueError(f"Adapters must be at most {design.hw.adapters}, not {len(folders)}: add "
                         f"adapters={next(n for n in (1, 3, 7) if n >= len(folders))} to --shape"
                         if len(folders) <= 7 else f"Adapters must be at most 7, not {len(folders)}")


def adapters_of(folders, checkpoint, design):
    """The `Adapter` s in some folders, for which the machine has room."""
    found = [read_adapter(folder, checkpoint) for folder in folders]
    for adapter in found:
        check_rank(adapter, design)
    return found


def check_drafts(options, design):
    """Refuse drafts that cannot be verified; the recipe of the draft model, or None."""
    if not options.speculate:
        if options.draft is not None:
            raise ValueError("Option --draft needs --speculate K")
        return None
    if not 1 <= options.speculate < design.hw.entries:
        raise ValueError(f"Speculation must be 1 to {design.hw.entries - 1} tokens with {design.hw.entries} entries "
                         f"a pass, not {options.speculate}"
                         if design.hw.entries > 1
                         else "Speculation needs more than 1 entry a pass: add entries=N to --shape")
    if options.draft in (None, "ngram"):
        return None
    # which refuses what cannot be
    return Design(model=design.model, hw=design.hw, recipe=recipe(options.draft)).recipe


def drafter_of(options, screen, checkpoint, design, formats):
    """What proposes drafts, or None."""
    from ..host.serving.drafts import LinkDrafter, NgramDrafter
    if not options.speculate:
        return None
    if formats is None:
        return NgramDrafter()
    from ..host.links.golden_link import GoldenLink
    other = Design(model=design.model, hw=design.hw, recipe=formats)
    with screen.bar("quantizing the draft model") as progress:
        return LinkDrafter(GoldenLink(other, quantize(checkpoint, formats, progress)))
