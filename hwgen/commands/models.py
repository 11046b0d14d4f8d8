"""hwgen accuracy and info: of a model, without a machine."""
import dataclasses
from pathlib import Path

import numpy as np

from ..host.inputs import InputError, checked_input, read_text, writing
from ..models import DEMO, load, quantize
from ..models.quantize import bf16
from ..params.design import Design
from ..params.presets import fraction_is_auto, hw_shape, recipe
from ..plan.summary import facts
from .common import MODEL_HELP, add_command, add_formats, add_machine, fitting, loaded, opened, without_adapters

__all__ = ["RECIPES", "add_accuracy", "add_info", "add_quantize"]

CALIBRATION_TOKENS = 8192
_ITS_OWN = "float32 is what the codes stand for: hwgen accuracy MODEL --quantized {} compares with the model itself"
RECIPES = ("e3m4", "e3m4,head=pair", "e4m3", "e4m3,head=pair")


def add_accuracy(commands):
    sub = add_command(commands, "accuracy", run_accuracy,
                      "Perplexity, KL divergence and top-1 agreement of recipes against float32, on a text.",
                      "hwgen accuracy demo --tokens 1000 --recipe e3m4 --recipe e4m3,head=pair --parts", shapes=False)
    sub.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    sub.add_argument("--text", metavar="FILE", help="UTF-8 text (default: the demo model's held-out text, Jane Austen)")
    sub.add_argument("--tokens", type=int, default=2000, metavar="N", help="of the text's start (default: 2000)")
    sub.add_argument("--window", type=int, metavar="N",
                     help="context: the text is cut into such pieces (default: 256, or the model's)")
    sub.add_argument("--quantized", action="append", default=[], metavar="DIR",
                     help="a folder of `hwgen quantize` of that model; may be repeated")
    sub.add_argument("--recipe", action="append", metavar="R",
                     help="formats as --formats of `hwgen emit`, and head=pair; may be "
                     f"repeated (default: {' '.join(RECIPES)})")
    sub.add_argument("--shape", default="demo", metavar="S",
                     help="of a hardware shape, as of `hwgen emit`, residual_fraction changes the numbers, and "
                     "vector_lanes what is counted as clipped; nothing else (default: demo)")
    sub.add_argument("--parts", action="store_true",
                     help="also float32 with only weights, only activations ... in each recipe's formats")


def add_info(commands):
    sub = add_command(commands, "info", run_info, "What a model is, and what a machine for it would hold.",
                      "hwgen info demo --shape batch-16x16")
    add_machine(sub)
    sub.add_argument("--ranges", action="store_true",
                     help="also do its numbers suit the machine: the residual's range, each matrix's "
                     "rounding, and what rounding costs on a short text (reads all weights)")
    sub.add_argument("--calibration", metavar="FILE",
                     help="with --ranges: the short text, of which the first 128 tokens are taken, as UTF-8 (default: "
                     "one that comes with hwgen)")


def run_accuracy(options, screen):
    from ..plan.accuracy import compare, report, variants
    from ..plan.ranges import fitting_fraction
    checkpoint = opened(screen, options.model, need_tokenizer=True)
    path = Path(options.text) if options.text else DEMO / "valid.txt"
    with checked_input():
        recipes = {text: recipe(text) for text in options.recipe
                   or ([] if checkpoint.kept or options.quantized else RECIPES)}
        kept = {str(path): _kept(path, checkpoint) for path in options.quantized}
        if checkpoint.kept and not options.recipe:      # it is its own reference, so only activations cost something
            kept[checkpoint.source] = checkpoint.kept
        if options.tokens < 2:
            raise ValueError(f"Token count must be at least 2, not {options.tokens}")
        longest = checkpoint.shape.longest_context
        prefix = checkpoint.tokenizer.encode("")
        window, least = min(256, longest) if options.window is None else options.window, len(prefix) + 2
        if not least <= window <= longest:
            raise ValueError(f"Window must be {least} to the model's context {longest}, not {window}")
        if options.parts and not recipes:
            raise ValueError("Option --parts needs --recipe R, the formats whose parts it takes")
        hw = dataclasses.replace(without_adapters(hw_shape(options.shape, checkpoint.shape)), context=window, slots=1,
                                 kv_blocks=0)
        for each in (*recipes.values(), *(model.recipe for model in kept.values())):
            Design(model=checkpoint.shape, hw=hw, recipe=each)      # refuses what cannot be
        tokens = checkpoint.tokenizer.encode(read_text(path, "Text"), special=False)[:options.tokens]
        if len(tokens) < 2:
            raise ValueError(f"{path}: Text must be at least 2 tokens long, not {len(tokens)}")
    if fraction_is_auto(options.shape):
        fits = fitting_fraction(checkpoint, hw.residual_fraction)
        hw = dataclasses.replace(hw, residual_fraction=hw.residual_fraction if fits is None else fits)
    with screen.bar("measuring") as progress:
        rows = compare(checkpoint, tokens, variants(checkpoint, recipes, hw, parts=options.parts, kept=kept),
                       window=window, prefix=prefix, progress=progress)
    name = path.name if options.text else "the demo model's held-out text"
    if checkpoint.kept is not None:
        screen.say(_ITS_OWN.format(options.model))
    print(f"{checkpoint.shape.name} on {name}, in pieces of {window} tokens")
    print("\n".join(report(rows)))
    if any(row.clipped for row in rows.values()):
        screen.warn(f"numbers of the residual were clipped (granules of {hw.vector_lanes} numbers are counted): with "
                   f"residual_fraction={hw.residual_fraction} it holds numbers below "
                   f"{2.0 ** (31 - hw.residual_fraction):,.0f} (hwgen info MODEL "
                   "--ranges says which fits)")


def _kept(path, checkpoint):
    """The quantized model in a folder."""
    found = load(path, need_tokenizer=False)
    if found.kept is None:
        raise ValueError(f"Quantized model must be a folder of hwgen quantize, not {path}")
    if found.shape != checkpoint.shape:
        raise ValueError(f"Quantized model must be made from {checkpoint.source}, and {path} has another shape")
    gains, table = (checkpoint.tensor(name) for name in ("model.norm.weight", "model.embed_tokens.weight"))
    near = np.linalg.norm(found.tensor("model.embed_tokens.weight") - table) <= np.linalg.norm(table) / 2
    if not near or (bf16(gains) != found.kept.final_gain[:len(gains)]).any():
        raise ValueError(f"Quantized model must be made from {checkpoint.source}, and {path} has other numbers")
    return found.kept


def run_info(options, screen):
    checkpoint, design = loaded(options, screen)
    if options.calibration and not options.ranges:
        raise InputError("Option --calibration needs --ranges")
    calibration = {"text": read_text(options.calibration, "Text")} if options.calibration else {}
    for label, text in facts(design, checkpoint.source).items():
        print(f"{label:15}{text}")
    print("taken from the model's files:")
    for label, text in checkpoint.notes.items():
        print(f"  {label:19} {text}")
    if options.ranges:
        from ..plan.ranges import advice, lines
        if checkpoint.kept is not None:
            screen.say(_ITS_OWN.format(options.model))
        design = fitting(options, screen, checkpoint, design)
        with screen.bar("quantizing") as progress:
            ranges, sentences = advice(checkpoint, quantize(checkpoint, design.recipe, progress),
                                       design.hw.residual_fraction, **calibration)
        print("\n".join(lines(ranges, design.recipe, sentences)))


def add_quantize(commands):
    sub = add_command(commands, "quantize", run_quantize,
                      "Choose a model's codes for what goes into each matrix on a text, and keep them in a "
                      "folder, which every command takes for a model.",
                      "hwgen quantize demo -o build/demo-codes\n  hwgen accuracy demo --quantized build/demo-codes",
                      shapes=False)
    sub.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    sub.add_argument("-o", "--output", required=True, metavar="DIR",
                     help="the folder: new, or an earlier output of this command")
    add_formats(sub)
    sub.add_argument("--calibration", metavar="FILE",
                     help="UTF-8 text like those that the model will see; not the one on which it is judged "
                     "(default: one that comes with hwgen)")
    sub.add_argument("--tokens", type=int, default=CALIBRATION_TOKENS, metavar="N",
                     help=f"of the text's start (default: {CALIBRATION_TOKENS})")


def run_quantize(options, screen):
    from ..models import kept
    from ..plan.compensate import calibration_texts, kept_in
    from ..plan.ranges import rounded_anew
    folder = Path(options.output)
    with writing(folder), checked_input():
        kept.check_folder(folder)
    checkpoint = opened(screen, options.model, need_tokenizer=True)
    if checkpoint.kept is not None:
        raise InputError(f"Model must be one with its own numbers, not {checkpoint.source}, which has been quantized")
    with checked_input():
        formats = recipe(options.formats, options.head)
        formats.check(checkpoint.shape)
        if options.tokens < 2:
            raise ValueError(f"Token count must be at least 2, not {options.tokens}")
        texts = calibration_texts(checkpoint, read_text(options.calibration, "Text") if options.calibration else None,
                                  options.tokens)
    with screen.bar("quantizing") as progress, writing(folder):
        quantized, there = kept_in(folder, checkpoint, formats, texts, progress)
    if there:
        screen.say(f"{folder} is what comes of this model, recipe and text already")
    for sentence in rounded_anew(checkpoint, quantized):
        screen.warn(sentence)
    for path in sorted(folder.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")
