"""A random decoder and a random history on it, from a seed and a number: every parameter there is, drawn, built,
compared with golden.

`DRAWN` says how each field of each class of parameters is drawn. A field that it does not have is an error (`undrawn`),
so nobody adds a parameter that `make sweep` never tries. Each field has random numbers of its own: a new one changes no
other field of a case.
"""
import contextlib
import dataclasses
import inspect
import itertools
import random
import shutil
import typing
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwgen.emit import emit
from hwgen.emit.images import image_name
from hwgen.golden.secded import stored_bits
from hwgen.host.driver import CheckedLink, Mismatch
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.verilated import VerilatedLink, build_model
from hwgen.lib.layouts import EXP_BITS
from hwgen.models.adapter_codes import random_adapter
from hwgen.models.checkpoint import Checkpoint, ModelError, random_checkpoint
from hwgen.models.quantize import quantize
from hwgen.params.axi import AxiShape
from hwgen.params.block import ACTIVATIONS, LLAMA, Block, Project, QkNorm, dense
from hwgen.params.errors import ErrorCode
from hwgen.params.formats import FORMATS, WEIGHTS, WIDE, Fp8, fp8
from hwgen.params.hardware import ALL, HwShape, Override, Recipe, block_ranges
from hwgen.params.model import DivisorRopeScaling, LayerType, LinearRopeScaling, Llama3RopeScaling, ModelShape
from hwgen.params.stream import HEAD
from sim.axi_model import axi_link, build_axi
from sim.designs import small_design
from sim.explain import explanation
from sim.passes import History, Operation, random_model, run_step

__all__ = ["CHOICES", "Case", "DRAWN", "Refused", "draw", "play", "undrawn"]

PASSES = 12

#: Words that a parameter may be. A refusal says them all, so a test sees when there is another one.
CHOICES = {(HwShape, "source"): ("rom", "stream", "wired"), (HwShape, "sampler"): ("greedy", "gumbel"),
           (HwShape, "halves"): (1, 2),
           (Recipe, "head"): ("single", "pair"), (Recipe, "scales"): ("matrix", "row"),
           (AxiShape, "host"): ("stream", "queue"),
           (dense, "norms"): ("pre", "post", "sandwich"), (dense, "activation"): ACTIVATIONS}


class Refused(Exception):
    """The case is none: what hwgen says of it, in one line."""


# -- drawing

def _one(*values):
    return lambda rng, so_far: rng.choice(values)


def _range(low, high):
    return lambda rng, so_far: rng.randint(low, high)


def _chance(chance):
    return lambda rng, so_far: rng.random() < chance


def _word(of, name):
    return _one(*CHOICES[of, name])


def _width(rng, hw):
    """A number of lanes or columns: at least the vector lanes, or else it is refused."""
    return max(hw["vector_lanes"], rng.choice((2, 4, 4, 8, 8, 16))) if rng.random() < 0.99 else 1


def _beats(rng, hw):
    fits = [b for b in (1, 2, 4, 8) if b <= hw["columns"] and hw["lanes"] * hw["columns"] // b >= 2
            * hw["vector_lanes"]]
    return rng.choice(fits) if fits and rng.random() < 0.99 else rng.choice((1, 8, 32))


def _source(rng, hw):
    """Seldom with matrices that are logic, which take most other fields' smallest values."""
    *usual, wired = CHOICES[HwShape, "source"]
    return wired if rng.random() < 0.15 else rng.choice(usual)


def _wire_matrices(rng, hw):
    """All, or some by name; seldom what is refused."""
    names = [*(step.name for step in LLAMA.of(Project)), HEAD]
    if hw["source"] != "wired" and rng.random() < 0.99 or rng.random() < 0.4:
        return ALL
    if rng.random() < 0.02:
        return rng.choice(("", "gate", "o+o", "+".join(names)))
    return "+".join(rng.sample(names, rng.randint(1, len(names) - 1)))


def _unless_wired(drawing, value, of_array=False):
    """As drawn, but mostly the only value that goes with matrices that are logic; ``of_array``: where there is no array
    beside them."""
    def drawn(rng, hw):
        bound = hw["source"] == "wired" and not (of_array and (hw["wire_matrices"] != ALL or hw["adapters"]))
        return value if bound and rng.random() < 0.99 else drawing(rng, hw)
    return drawn


def _halves(rng, hw):
    return rng.choice((1, 2)) if hw["entries"] % 2 == 0 or rng.random() < 0.02 else 1


def _kv_port(rng, hw):
    """Where it may be; seldom where it is refused."""
    fits = hw["source"] == "stream" and hw["halves"] == 1 and not hw["kv_ecc"]
    return rng.choice((0, 8, 16, 32, 64, 128, 1024)) if fits or rng.random() < 0.01 else 0


def _attention_rows(rng, hw):
    """The same."""
    most = 1 if hw["kv_ecc"] or hw["kv_port"] else hw["kv_block"]
    return rng.choice([rows for rows in (1, 1, 2, 4, 8) if rows <= most]) if rng.random() < 0.99 else 3


def _head_dim(rng, so_far):
    """Of several rows at once mostly no more than there are lanes."""
    drawn, lanes = 2 * rng.choice((1, 2, 4, 8, rng.randint(1, 14))), so_far["attention_lanes"]
    return drawn if so_far["attention_rows"] == 1 or rng.random() < 0.02 else max(2, min(drawn, lanes))


def _kv_blocks(rng, hw):
    """All that slots can fill, or less: one slot needs nearly a whole context."""
    full = hw["slots"] * -(-hw["context"] // hw["kv_block"])
    return 0 if rng.random() < 0.4 else rng.randint(1 if hw["slots"] > 1 else max(1, full * 3 // 4), full)


def _rope_scaling(rng, model):
    """None, or one of the kinds, as a dictionary. Divisors are as many as a head's pairs that are turned, which comes
    later."""
    kind = rng.choice((None, None, *SCALINGS))
    return None if kind is None else _drawn(SCALINGS[kind], rng.random(), model)


def _divisors(rng, model):
    turned = model["head_dim"] if model.get("rotary_dim") is None else model["rotary_dim"]
    return [round(rng.uniform(0.5, 9), 3) for _ in range(turned // 2)]


def _layer_types(rng, model):
    if model["sliding_window"] is not None or rng.random() < 0.4:
        return []
    return [_drawn(DRAWN[LayerType], rng.random(), model) for _ in range(model["num_hidden_layers"])]


def _head_bias(rng, model):
    """Behind a final norm with a bias."""
    return model["block"].get("final_bias",
                              False) and not model["tie_word_embeddings"] and rng.random() < 0.6 or rng.random() < 0.01


def _biased(rng, block):
    names = [name for name in ("q", "k", "v", "o", "gate", "up", "down") if name != "gate" or block["gated"]]
    few = rng.choice((0, 0.3, 1))
    return [name for name in names if rng.random() < few]


def _formats(rng, so_far):
    return rng.choice(list(FORMATS))


def _overrides(rng, so_far):
    """With adapters often all matrices in E2M1, whose array has fewer bits: but of an LM head that must have 8."""
    wide = so_far["head_bias"] or so_far["head"] == "pair"
    if so_far["adapters"] and not wide and random.Random(f"narrow {rng.random()}").random() < 0.5:
        return [{"project": "", "layers": None, "format": "e2m1"}]
    return [_drawn(DRAWN[Override], rng.random(), so_far) for _ in range(rng.choice((0, 0, 0, 0, 0, 1, 2)))]


def _project(rng, so_far):
    """Whose format it is. An LM head that has a bias or pairs has one of 8 bits."""
    wide = so_far["head_bias"] or so_far["head"] == "pair"
    return rng.choice([*(step.name for step in LLAMA.of(Project)), *(["", HEAD] if not wide
                                                                     or rng.random() < 0.05 else [])])


def _layers(rng, override):
    first = rng.randrange(override["num_hidden_layers"])
    return None if override["project"] == HEAD or rng.random() < 0.5 else [first,
                                                                           rng.randrange(first,
                                                                                         override["num_hidden_layers"])]


def _block_range(rng, recipe):
    return rng.choice((None, 0, 0, rng.randint(0, max(block_ranges().values())))) if recipe["overrides"] else None


#: The kinds of RoPE scaling -> how they are drawn.
SCALINGS = {
    LinearRopeScaling: {"factor": _one(1.0, 2.0, 8.0)},
    DivisorRopeScaling: {"divisors": _divisors, "factor": _one(1.0, 4.0)},
    Llama3RopeScaling: {"factor": _one(2.0, 8.0), "low_freq_factor": _one(1.0, 0.5), "high_freq_factor": _one(4.0, 1.5),
                        "original_max_position_embeddings": _one(8, 64, 8192)},
}

#: Class of parameters, or function that makes one -> its fields -> how each is drawn, from random numbers and the
#: fields before it. As JSON has them.
DRAWN = {
    QkNorm: {"span": _one("head", "projection"), "after_rotary": _chance(0.5), "q_tensor": None, "k_tensor": None},
    dense: {
        "gated": _chance(0.6),
        "biased": _biased,
        "norms": _word(dense, "norms"),
        "activation": _word(dense, "activation"),
        "parallel": lambda rng, block: block["norms"] == "pre" and rng.random() < 0.5 or rng.random() < 0.01,
        "final_bias": _chance(0.4),
        "qk_norm": lambda rng, _: None if rng.random() < 0.5 else _drawn(DRAWN[QkNorm], rng.random())},
    LayerType: {
        "window": _one(None, 1, 3, 8),
        "rotary": _chance(0.7),
        "rope_theta": _one(None, None, 100.0, 7.0),
        "rope_scaling": lambda rng, layer: None if layer["rope_theta"] is None else _rope_scaling(rng, layer)},
    ModelShape: {
        "name": _one("swept", "a name of more than 16 bytes", ""),
        "vocab_size": lambda rng, _: rng.choice((1, 2, 16, 17, rng.randint(3, 160))),
        "hidden_size": lambda rng, _: rng.choice((1, 2, 16, rng.randint(3, 48))),
        "intermediate_size": lambda rng, _: rng.choice((1, 32, rng.randint(2, 60))),
        "num_hidden_layers": _one(1, 1, 2, 2, 3),
        "num_key_value_heads": _one(1, 1, 2, 3),
        "num_attention_heads": lambda rng, model: model["num_key_value_heads"] * rng.choice((1, 1, 2, 3, 4))
        + (rng.random() < 0.01),
        "head_dim": _head_dim,
        "rotary_dim": lambda rng, model: rng.choice((None, None, 2 * rng.randint(0, model["head_dim"] // 2))),
        "rms_norm_eps": _one(1e-5, 1e-6, 1e-12, 1e-2, 1.0),
        "rope_theta": _one(10000.0, 500.0, 1e6, 1.0),
        "rope_scaling": _rope_scaling,
        "max_position_embeddings": lambda rng, hw: max(1, hw["context"]
                                                       + rng.choice((0, 0, 1, 30) if rng.random() < 0.99 else (-1,))),
        "sliding_window": lambda rng, hw: rng.choice((None, None, rng.randint(1, hw["context"] + 1))),
        "tie_word_embeddings": _chance(0.5),
        "bos_token_id": lambda rng, model: rng.choice((None, rng.randrange(model["vocab_size"]))),
        "eos_token_ids": lambda rng, model: [rng.randrange(model["vocab_size"]) for _ in range(rng.choice((0, 1, 2)))],
        "block": lambda rng, _: {} if rng.random() < 0.3 else _drawn(DRAWN[dense], rng.random()),
        "score_scale": _one(None, None, 0.1, 1.5),
        "layer_types": _layer_types,
        "learned_positions": _chance(0.3),
        "attn_logit_softcapping": _one(None, None, 1.0, 20.0, 1 / 64),
        "final_logit_softcapping": _one(None, None, 30.0, 0.5),
        "head_bias": _head_bias},
    HwShape: {
        "source": _source,
        "wire_levels": lambda rng, hw: rng.choice((1, 2, 4, 9)) if hw["source"] == "wired"
        or rng.random() < 0.01 else 1,
        "wire_matrices": _wire_matrices,
        "adapters": lambda rng, hw: rng.choice((0, 0, 0, *[0] * 2 * (hw["source"] != "wired"), 1, 3, 7)),
        "vector_lanes": _one(2, 2, 4, 4, 8),
        "lanes": _width,
        "columns": _width,
        "attention_lanes": _width,
        "entries": _unless_wired(_one(1, 1, 2, 2, 3, 4, 4, 5, 6), 1),
        "halves": _halves,
        "slots": _one(1, 1, 2, 3, 4, 5),
        "context": lambda rng, _: rng.choice((1, 8, 16, *[rng.randint(2, 40)] * 5)),
        "tile_beats": _beats,
        "kv_block": _one(1, 2, 4, 8, 16, 32),
        "kv_blocks": _kv_blocks,
        "kv_ecc": _chance(0.3),
        "residual_fraction": lambda rng, _: rng.choice((16, 22, rng.randint(0, 24))),
        "sampler": _word(HwShape, "sampler"),
        "dsp_columns": _unless_wired(lambda rng, hw: rng.choice((0, 0, rng.randint(0, hw["columns"]))), 0, True),
        "dsp_pairs": _unless_wired(lambda rng, hw: rng.choice((0, 0,
                                                               rng.randint(0, (hw["columns"] - hw["dsp_columns"])
                                                                           // 2))), 0, True),
        "adapter_rank": _one(1, 2, 5, 8),
        "kv_port": _kv_port,
        "attention_hold": _chance(0.7),
        "attention_rows": _attention_rows},
    Recipe: {
        **{field.name: _formats for field in dataclasses.fields(Recipe) if isinstance(field.default, Fp8)},
        **dict.fromkeys(("weight_format", "kv_format"), _one(*WIDE)),
        "head": _word(Recipe, "head"),
        "scales": lambda rng, _: rng.choice(CHOICES[Recipe, "scales"] if rng.random() < 0.5 else ("matrix",)),
        "overrides": _overrides,
        "block_range": _block_range},
    Override: {
        "project": _project,
        "layers": _layers,
        "format": lambda rng, so_far: rng.choice((*[so_far["weight_format"]] * 3, *["e2m1"] * 6,
                                                  rng.choice(list(WEIGHTS))))},
    AxiShape: {
        "data_width": _one(8, 16, 32, 64, 128, 1024),
        "address_width": _one(13, 20, 32, 33, 40, 64),
        "id_width": _one(1, 4, 32),
        "burst": _one(1, 4, 16, 256),
        "outstanding": _one(1, 2, 8, 256),
        "prefetch": _one(1, 16, 100, 300),
        "host": _word(AxiShape, "host"),
        "queue": _one(1, 4, 16)},
}

#: How a machine is driven. ``stall``: probability that a beat, an entry or the host is late; on buses a burst comes
#: after at most ``latency`` cycles. Of a machine with adapters, ``adapted`` is how many of a slot's texts have one, and
#: ``loads`` how often another one takes a place.
PLAYED = {
    "bus": _chance(0.3), "stall": _one(0.0, 0.0, 0.1, 0.4), "latency": _one(0, 20, 200),
    "weights": _one("usual", "usual", "loud", "odd"),
    "wrong": _one(0.0, 0.1, 0.3), "operations": _one(0.0, 0.3, 0.6),
    "inv_temperature": lambda rng, _: rng.choice((0, 256, rng.randrange(1 << 16))),
    "noise": lambda rng, _: rng.getrandbits(32),
    "keys": _chance(0.5), "flips": _one(0, 1, 3), "reset": _chance(0.2),
    "adapted": _one(0.3, 0.7, 1.0), "loads": _one(0.0, 0.2), "end": _chance(0.3),
    "seed": lambda rng, _: rng.getrandbits(30)}


def _drawn(fields, seed, so_far=()):
    """{field: value} of fields with a drawing, which see what came before."""
    so_far, found = dict(so_far), {}
    for name, drawing in fields.items():
        if drawing is not None:
            so_far[name] = found[name] = drawing(random.Random(f"{seed} {name}"), so_far)
    return found


def undrawn(drawn=None, block=None):
    """What `DRAWN` says nothing of, or too much: names. Nothing, or a parameter has come or gone and its drawing must
    follow."""
    found = []
    for of, fields in {**DRAWN, **SCALINGS, **(drawn or {})}.items():
        names = list(inspect.signature(of).parameters)
        found += [f"{of.__name__}.{name}" for name in set(names) ^ set(fields)]
    # what a Block has beside its steps and matrices is what `dense` gives it
    made = {field.name for field in dataclasses.fields(block or Block)} - {"matrices", "steps"}
    found += [f"Block.{name}" for name in made - set(inspect.signature(dense).parameters)]
    kinds = set(typing.get_args(ModelShape.__dataclass_fields__["rope_scaling"].type)) - {type(None)}
    return sorted(found + [kind.__name__ for kind in kinds ^ set(SCALINGS)])


@dataclass(frozen=True)
class Case:
    """One draw, as JSON has it: keywords of `small_design`, fields of an `AxiShape` (None: its ports are streams), and
    how it is driven."""
    changes: dict
    axi: dict | None
    play: dict

    def design(self):
        """(Design, AxiShape or None). Raises Refused."""
        try:
            overrides = tuple(Override(fp8(of["format"], WEIGHTS), of["project"], of["layers"] and tuple(of["layers"]))
                              for of in self.changes["overrides"])
            design, axi = small_design(**self.changes | {"overrides": overrides}), self.axi and AxiShape(**self.axi)
            if axi:
                axi.check(design)
        except ValueError as error:
            raise Refused(str(error)) from None
        return design, axi

    def lines(self):
        """What was drawn."""
        yield "changes: " + ", ".join(f"{name}={value!r}" for name, value in self.changes.items())
        yield f"axi: {self.axi}" if self.axi else "ports: streams"
        yield f"driven: {self.play}"


def draw(seed, number):
    """The `Case` of a seed and a number."""
    seed = f"{seed} {number}"
    changes = _drawn(DRAWN[HwShape], seed)
    changes |= _drawn(DRAWN[ModelShape], seed, changes)
    changes |= _drawn(DRAWN[Recipe], seed, changes)
    changes["eos_token_ids"] = tuple(changes["eos_token_ids"])
    play = _drawn(PLAYED, seed)
    return Case(changes, _drawn(DRAWN[AxiShape], seed) if play["bus"] else None, play)


# -- playing

class _Flips:
    """Single wrong bits for the KV memory. A copy of a block takes them along: so one word of each place in a block
    gets one."""

    def __init__(self, design, rng):
        hw, self.rng = design.hw, rng
        self.parts, self.blocks, self.size = design.padded_head_dim // hw.attention_lanes, hw.blocks, hw.kv_block
        self.lines, self.done = design.layers * design.kv_heads, set()
        self.bits = {"k_codes": stored_bits(8 * hw.attention_lanes), "v_codes": stored_bits(8 * hw.attention_lanes),
                     "k_exps": stored_bits(EXP_BITS), "v_exps": stored_bits(EXP_BITS)}

    def some(self, count, blocks):
        """(memory, word, bit) of ``count`` places that have not had one, most of positions that slots of ``blocks``
        (golden's) have."""
        used = [(blocks.tables[slot][position // self.size] if blocks.tables[slot] else position // self.size,
                 position % self.size)
                for slot, length in enumerate(blocks.lengths) for position in range(length)]
        used = [place for place in used if place[0] is not None] or [(0, 0)]
        for _ in range(count):
            anywhere = self.rng.randrange(self.blocks), self.rng.randrange(self.size)
            block, offset = self.rng.choice(used) if self.rng.random() < 0.9 else anywhere
            memory, line = self.rng.choice(list(self.bits)), self.rng.randrange(self.lines)
            part = self.rng.randrange(self.parts) if memory.endswith("codes") else 0
            if (place := (memory, line, offset, part)) not in self.done:
                self.done.add(place)
                row = (line * self.blocks + block) * self.size + offset
                address = row * self.parts + part if memory.endswith("codes") else row
                yield memory, address, self.rng.randrange(self.bits[memory])


class _Adapters:
    """Random adapters of a machine, and which of them each entry has: neighbours of a slot mostly the same."""

    def __init__(self, link, driven):
        self.link, self.driven, self.rng = link, driven, random.Random(f"adapters {driven['seed']}")
        self.seeds = itertools.count(driven["seed"])
        for number in range(1, link.design.hw.adapters + 1):
            self._load(number)

    def _load(self, number):
        self.link.load_adapter(number, random_adapter(self.link.design, next(self.seeds),
                                                      whole=self.rng.random() < 0.3))

    def given(self, step, counts):
        """A pass's entries with adapters; another one may be loaded before them."""
        hw = self.link.design.hw
        if self.rng.random() < self.driven["loads"]:
            self._load(self.rng.randint(1, hw.adapters))
            counts["loads"] += 1
        numbers = [self.rng.randint(1, hw.adapters) if self.rng.random() < self.driven["adapted"] else 0
                   for _ in range(hw.slots)]
        found = [dataclasses.replace(entry, adapter=numbers[entry.slot % hw.slots]) for entry in step]
        counts["adapted"] += sum(bool(entry.adapter) for entry in found)
        return found


@contextlib.contextmanager
def _machine(case, design, axi, quantized, folder):
    """A link to the case's machine."""
    play, rom = case.play, design.hw.inside
    project = folder / "swept"
    emit(design, quantized, project, name="swept", axi=axi)
    image, verilog = project / image_name(design, "swept"), (project / "swept.v").read_text()
    more = dict(opt="-O0", images=[image] if rom else [], headers=True)
    model = build_axi(verilog, "swept", design, axi, **more) if axi else build_model(verilog, "swept", design, **more)
    more = dict(weights=None if rom else image, stall=play["stall"], seed=play["seed"])
    with axi_link(design, axi, quantized, model, latency=play["latency"],
                  **more) if axi else VerilatedLink(design, model, **more) as link:
        yield link
    shutil.rmtree(model.parent, ignore_errors=True)      # but what has differed is looked at again


def _odd_model(design, seed):
    """Of random weights, of which tensors are 0, turned round, or far from 1."""
    checkpoint = random_checkpoint(design.model, seed)

    def read(name):
        rng = random.Random(f"{seed} {name}")
        return checkpoint.tensor(name) * np.float32(rng.choice((1, 1, 1, 0, -1, 2.0 ** rng.randint(-60, 60))))
    return quantize(Checkpoint(design.model, "odd", read), design.recipe)


def _remembering(link):
    """The link, which knows its latest result."""
    run_pass = link.run_pass

    def run(entries):
        link.latest = run_pass(entries)
        return link.latest
    link.run_pass, link.latest = run, None
    return link


def _explained(mismatch, link, step, number):
    """The mismatch as lines: the step, and the first difference in each part of the result that differs."""
    yield str(mismatch)
    yield f"step {number} of the history: {step}"
    if not isinstance(step, Operation) and None not in (link.link.latest, link.golden.latest):
        for part in ("tokens", "signatures", "phases", "outcome_cycles", "cycles", "counters"):
            got, want = (getattr(of.latest, part) for of in (link.link, link.golden))
            if got is not None and got != want and (part in ("tokens", "signatures") or not link.values_only):
                if isinstance(got, dict):
                    want = {name: want[name] for name in want if name in got}
                yield from (f"{part}: {line}" for line in explanation(got, want) if not line.startswith("sim/"))


def play(case, folder):
    """Run a case in an empty folder. Returns counts: passes, entries, cycles, operations, refusals, clipped numbers,
    flipped bits.

    Raises Refused, or Mismatch with lines that say what differs first.
    """
    design, axi = case.design()
    driven, rng = case.play, random.Random(f"play {case.play['seed']}")
    try:
        quantized = _odd_model(design, driven["seed"]) if driven["weights"] == "odd" else random_model(
            design, driven["seed"], clipped=driven["weights"] == "loud" or None)
    except ModelError as error:
        raise Refused(str(error)) from None
    history, counts = History(design, driven["seed"], operations=driven["operations"], wrong=driven["wrong"]), Counter()
    flips = _Flips(design, rng) if design.hw.kv_ecc else None
    with _machine(case, design, axi, quantized, Path(folder)) as machine:
        golden = _remembering(GoldenLink(design, quantized))
        link = CheckedLink(_remembering(machine), golden, values_only=driven["stall"] > 0 or axi is not None)
        if design.hw.sampler == "gumbel":
            link.configure(driven["inv_temperature"], driven["noise"])
        adapters = _Adapters(link, driven) if design.hw.adapters else None
        steps = [history.steps(PASSES), history.end()] if driven["end"] else [history.steps(PASSES)]
        for number, step in enumerate(step for part in steps for step in part):
            if flips and not isinstance(step, Operation):
                for flip in flips.some(driven["flips"], link.golden.decoder.blocks):
                    machine.flip(*flip)
                    counts["flips"] += 1
            if adapters and not isinstance(step, Operation):
                step = adapters.given(step, counts)
            if driven["keys"] and not isinstance(step, Operation):
                step = [dataclasses.replace(entry, key=rng.getrandbits(32)) for entry in step]
            try:
                result = run_step(link, step)
            except Mismatch as mismatch:
                raise Mismatch("\n".join(_explained(mismatch, link, step, number))) from None
            _count(counts, step, result)
        if flips:
            corrected, failed, fault = machine.ecc()
            counts["corrected"] += corrected
            if failed or fault or corrected and not counts["flips"]:
                raise Mismatch(f"error correction of the KV memory: {corrected} corrected, {failed} failed, "
                               f"first at {fault}, after {counts['flips']} single wrong bits in words of their own")
        if driven["reset"]:
            _again(link, design, driven, counts)
    return counts


def _again(link, design, driven, counts):
    """All is forgotten with a reset; the passes behind it are as those of a new machine."""
    link.reset()
    for number, step in enumerate(History(design, driven["seed"] + 1).steps(2)):
        try:
            _count(counts, step, run_step(link, step))
        except Mismatch as mismatch:
            raise Mismatch("\n".join(["after a reset:", *_explained(mismatch, link, step, number)])) from None


def _count(counts, step, result):
    if isinstance(step, Operation):
        counts["operations"] += 1
        counts["refusals"] += result.error != ErrorCode.OK
    else:
        counts["passes"] += 1
        counts["entries"] += len(step) - len(result.errors)
        counts["refusals"] += len(result.errors)
        counts["cycles"] += result.cycles or 0
        counts["clipped"] += result.counters.get("saturated", 0)
