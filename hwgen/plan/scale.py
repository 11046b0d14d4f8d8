"""The cycle model at the scale of a server: many chips, weights from HBM, requests batched continuously.

A chip is a grid of identical MAC arrays and so many attention engines and vector units. How long each takes for its
share of a phase is what the golden twins say (`matmul_cycles`, `attention_cycles`, `norm_cycles`, `kv_write_cycles`);
this file shares the work out, lets two halves of the entries take turns, and adds what a single machine does not have:
HBM and links. All of it is projected: nobody has built it.
"""
import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..golden import convert, feeder, qk_norm, residual, rope, swiglu, vector_buffer
from ..golden.attention import attention_cycles
from ..golden.engines import WRITTEN, norm_end
from ..golden.kv_cache import kv_write_cycles
from ..golden.mac_array import matmul_cycles
from ..golden.rmsnorm import norm_cycles
from ..params.block import Attend, Norm, Project, Store
from ..params.design import Design, Matmul
from ..params.hardware import HwShape, Recipe
from ..params.model import LLAMA3_70B, ModelShape
from ..params.stream import HEAD
from .assumed import given, listed, parsed, within

__all__ = ["SPLITS", "Outcome", "Scale", "assumptions", "outcome", "parse", "report", "steady_passes", "sweep_table"]

SPLITS = ("tensor", "pipeline")

#: Of the entries, each of which is worked out.
_MOST_ENTRIES = 16384


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Every assumption, with where it comes from."""
    model: ModelShape = LLAMA3_70B
    split: str = given("tensor", "", "tensor: each chip has a part of every matrix; pipeline: some of the layers")
    chips: int = given(8, "chips", "Etched's announcement of Sohu, June 2024: 8 chips in a server")
    arrays: int = given(50, "arrays a chip", "with lanes and columns 3.28 million multipliers: 500,000 tokens/s "
                         "(announced) of 70 billion weights at 90 % (announced) on 8 chips at 1.5 GHz")
    lanes: int = given(256, "lanes", "chosen")
    columns: int = given(256, "columns", "chosen")
    clock_ghz: float = given(1.5, "GHz", "assumed; not published")
    entries: int = given(2048, "entries a pass", "chosen: so many that weights need not be read more often "
                                                 "than HBM allows")
    halves: int = given(2, "halves", "1, or 2 that take turns; each reads the weights by itself")
    prompt: int = given(2048, "tokens", "announced benchmark")
    output: int = given(128, "tokens", "announced benchmark")
    hbm_tb_s: float = given(4.8, "TB/s a chip", "NVIDIA's data sheet of the H200, with nearly the same HBM3E (141 "
                                                "GB); Sohu's is not published")
    hbm_gb: float = given(144.0, "GB a chip", "announced")
    link_tb_s: float = given(0.9, "TB/s a chip, each way",
                             "NVIDIA's data sheet of NVLink 5 (1.8 both ways); Sohu's is not published")
    link_us: float = given(1.0, "us a collective", "assumed")
    sum_bytes: int = given(0, "bytes", "of a partial sum between chips; 0: whole, as exact as inside a chip")
    attention_engines: int = given(64, "engines a chip", "chosen: so many that attention hides behind the arrays")
    attention_lanes: int = given(128, "lanes", "chosen: a K and a V row of a head in a cycle")
    vector_units: int = given(8, "units a chip", "chosen: so many that norms hide behind the arrays")
    vector_lanes: int = given(128, "lanes", "chosen")

    def __post_init__(self) -> None:
        model = self.model
        if self.split not in SPLITS:
            raise ValueError(f"Split must be {' or '.join(SPLITS)}, not {self.split!r}")
        within(self, none=("sum_bytes",))
        if self.split == "tensor" and (model.num_key_value_heads % self.chips or model.intermediate_size % self.chips):
            raise ValueError(f"Chips of a tensor split must divide {model.num_key_value_heads} KV heads and "
                             f"{model.intermediate_size}, not {self.chips}")
        if self.split == "pipeline" and model.num_hidden_layers % self.chips:
            raise ValueError(f"Chips of a pipeline must divide {model.num_hidden_layers} layers, not {self.chips}")
        if self.halves not in (1, 2):
            raise ValueError(f"Halves must be 1 or 2, not {self.halves}")
        if not 32 <= self.entries <= _MOST_ENTRIES:
            raise ValueError(f"Entries must be 32 to {_MOST_ENTRIES}, not {self.entries}")
        _ = self.array_design, self.unit_design     # what a shape refuses is refused here

    @property
    def macs(self) -> int:
        return self.arrays * self.lanes * self.columns

    @property
    def layers(self) -> int:
        """Layers of a chip."""
        return self.model.num_hidden_layers // (self.chips if self.split == "pipeline" else 1)

    @property
    def slice(self) -> ModelShape:
        """The part of the model that a chip has, as a model."""
        model, parts = self.model, self.chips if self.split == "tensor" else 1
        # of a pipeline's chips the one whose layers see the most
        groups = [model.layer_types[first:first + self.layers]
                  for first in range(0, len(model.layer_types), self.layers)]
        seen = max(groups, key=lambda types: sum(of.window or self.prompt + self.output for of in types), default=())
        return dataclasses.replace(
            model, num_hidden_layers=self.layers, layer_types=seen,
            num_attention_heads=model.num_attention_heads // parts,
            num_key_value_heads=model.num_key_value_heads // parts, intermediate_size=model.intermediate_size // parts,
            vocab_size=-(-model.vocab_size // self.chips), bos_token_id=None, eos_token_ids=())

    def _design(self, **shape):
        return Design(model=self.slice, recipe=Recipe(), hw=HwShape(
            entries=-(-self.entries // self.halves), slots=1, context=self.prompt + self.output,
            source="stream", **shape))

    @property
    def array_design(self) -> Design:
        """One array; a row of sums leaves it in a cycle."""
        return self._design(lanes=self.lanes, columns=self.columns, vector_lanes=self.columns,
                            attention_lanes=self.columns, tile_beats=self.columns // 2)

    @property
    def matmuls(self) -> dict[str, Matmul]:
        """A chip's matrices of a layer and its part of the head, in tiles of an array: name -> Matmul."""
        part, found = self.slice, {}
        sizes = part.matrices()
        shapes = [(step.name, sum(sizes[name][0] for name in step.matrices), sizes[step.matrices[0]][1])
                  for step in part.block.of(Project)]
        for name, rows, cols in [*shapes, (HEAD, part.vocab_size, part.head_inputs)]:
            n_tiles, k_tiles = -(-rows // self.columns), -(-cols // self.lanes)
            found[name] = Matmul(name=name, rows=n_tiles * self.columns, cols=k_tiles * self.lanes, n_tiles=n_tiles,
                                 k_tiles=k_tiles)
        return found

    @property
    def unit_design(self) -> Design:
        """One attention engine, and one vector unit."""
        return self._design(lanes=self.vector_lanes, columns=self.vector_lanes,
                            vector_lanes=min(self.vector_lanes, self.attention_lanes),
                            attention_lanes=self.attention_lanes)


def parse(model: ModelShape, text: str) -> Scale:
    """A Scale from ``field=value`` pairs with commas. ValueError with one line."""
    return Scale(model=model, **parsed(Scale, text))


def assumptions(scale: Scale) -> list[tuple[str, str, str]]:
    """[(name, value with its unit, source)]."""
    return [("model", scale.model.name, f"{scale.model.parameter_count / 1e9:.2f} billion weights, FP8"),
            *listed(scale)]


def steady_passes(scale: Scale, samples: int = 8) -> Iterator[list[list[tuple[int, bool, int]]]]:
    """Passes of a server that has long been busy: lists of (position, wants output, sequence), one list a half.

    Every pass decodes for as many texts as were begun in the ``output - 1`` passes before, one token each, evenly
    spread over their lengths, and fills up with a chunk of prompts; the samples differ in where that begins.
    """
    decodes = round(scale.entries * (scale.output - 1) / (scale.prompt + scale.output - 1))
    for sample in range(samples):
        decoding = [(scale.prompt + i * (scale.output - 1) // max(1, decodes), True, i) for i in range(decodes)]
        start = sample * scale.prompt // samples
        chunk = [(p % scale.prompt, p % scale.prompt == scale.prompt - 1, decodes + p // scale.prompt)
                 for p in range(start, start + scale.entries - decodes)]
        size = -(-len(chunk) // scale.halves)
        yield [decoding[half::scale.halves] + chunk[half * size:(half + 1) * size] for half in range(scale.halves)]


# One half

def _shares(positions, engines):
    """Positions shared out to engines, so that all have about the same to read; each share in the order given."""
    ordered = sorted(range(len(positions)), key=lambda i: -positions[i])
    shares = (ordered[e::2 * engines] + ordered[2 * engines - 1 - e::2 * engines]
              for e in range(min(engines, len(ordered))))
    return [[positions[i] for i in sorted(share)] for share in shares]


def _part(scale, matmul):
    """What one array does of a matrix: its tiles in a row, the last array's perhaps fewer. Partial sums are added up
    behind the arrays."""
    tiles = -(-matmul.tiles // scale.arrays)
    runs = -(-tiles // matmul.k_tiles)
    steps = -(-tiles // runs)
    return Matmul(name=matmul.name, rows=runs * scale.columns, cols=steps * scale.lanes, n_tiles=runs, k_tiles=steps)


def _matmul(scale, name, n, behind):
    """Cycles of a matrix for n entries, with ``behind`` the pipeline that follows."""
    ops = feeder.REQUEST_LATENCY + vector_buffer.READ_LATENCY
    adders = math.ceil(math.log2(scale.arrays)) if scale.arrays > 1 else 0
    return matmul_cycles(scale.array_design, _part(scale, scale.matmuls[name]), n, ops, 0).granule(-1) + adders + behind


def _collective(scale, n, bytes_each):
    """Cycles in which all chips have added up (or collected) ``bytes_each`` of each of n entries: a ring."""
    if scale.split == "pipeline" or scale.chips == 1:
        return 0
    seconds = (scale.chips - 1) / scale.chips * n * bytes_each / (scale.link_tb_s * 1e12) + scale.link_us * 1e-6
    return math.ceil(seconds * scale.clock_ghz * 1e9)


def _link_bytes(scale):
    """(of a partial sum, of an activation) between chips: sums are exact until the last chip's is added."""
    return scale.sum_bytes or -(-scale.array_design.acc_bits // 8), 1


#: Where a project's sums are added up over the chips, before anything else is done with them.
_ADDED = ("residual", "sums")


def _half(scale, entries, window=None):
    """[(engine, cycles)] of a layer with a window, in order, and of the end, for a half's entries."""
    unit, n = scale.unit_design, len(entries)
    positions = [position for position, *_ in entries]
    sum_bytes, code_bytes = _link_bytes(scale)
    wide = scale.model.hidden_size
    # each chip normalizes its share of the entries, and all get the codes
    own = -(-n // scale.chips) if scale.split == "tensor" else n
    norm = norm_cycles(unit, -(-own // scale.vector_units), read_latency=residual.READ_LATENCY)
    kv_write = kv_write_cycles(unit, -(-n // scale.attention_engines), read_latency=vector_buffer.READ_LATENCY)
    converted, write = convert.latency(unit), WRITTEN
    behind = {"heads": converted + rope.ROPE_LATENCY + write,
              "activation": converted + swiglu.latency(unit.block) + write}

    def stages(step):
        if isinstance(step, Norm):
            yield "vector", norm_end(unit, step, norm)
            if step.writes == "normed":
                yield "links", _collective(scale, n, wide * code_bytes)
        elif isinstance(step, Project):
            yield "arrays", _matmul(scale, step.name, n, behind.get(step.sink, residual.DONE_LATENCY))
            if step.sink in _ADDED:
                yield "links", _collective(scale, n, wide * sum_bytes)
            elif step.sink == "heads" and unit.block.qk_norm:
                # of a chip's own heads; a vector unit has those of some entries
                yield "vector", qk_norm.cycles(unit, -(-n // scale.vector_units))
        elif isinstance(step, Attend):
            yield "attention", kv_write + max(attention_cycles(unit, share, window)[1]
                                              for share in _shares(positions, scale.attention_engines))
        else:
            assert isinstance(step, Store), step        # with attention

    layer = [stage for step in unit.block.steps for stage in stages(step)]
    wanted = sum(bool(want) for _, want, _ in entries)
    end = [("arrays", _matmul(scale, HEAD, wanted, 0))] if wanted else []
    if scale.split == "pipeline":
        # the residual goes to the next chip; the head is shared out to all
        end += [("links", math.ceil(n * wide * 4 / (scale.link_tb_s * 1e12) * scale.clock_ghz * 1e9))]
    return layer, end


def _alternate(sequences):
    """(cycle of the end, {engine: cycles busy}) of sequences of phases that each wait for their engine: who can begin
    first does, and of those the one that has waited longest."""
    ready, free, busy, at = [0] * len(sequences), {}, {}, [0] * len(sequences)
    while any(i < len(s) for i, s in zip(at, sequences)):
        start, _, which = min((max(ready[h], free.get(s[at[h]][0], 0)), ready[h], h) for h, s in enumerate(sequences)
                              if at[h] < len(s))
        engine, cycles = sequences[which][at[which]]
        ready[which] = free[engine] = start + cycles
        busy[engine] = busy.get(engine, 0) + cycles
        at[which] += 1
    return max(ready), busy


# A pass

@dataclass(frozen=True)
class Outcome:
    """A pass of a busy server, on average: seconds and rates are projected.

    cycles              of a pass (of a chip's layers, in a pipeline)
    in_out, out         tokens a second of all chips together
    mac_utilization     useful multiplications, padding not counted, over all that the arrays could do
    busy                share of the cycles: engine or memory -> 0 to 1
    binds               the busiest, if it is so for 85 % of the time; else nothing by itself, but that phases wait for
                        each other
    bytes               what -> bytes a pass and chip
    sequences           texts under way
    fits                whether weights and KV rows fit into HBM
    """
    cycles: float
    seconds: float
    in_out: float
    out: float
    mac_utilization: float
    busy: dict[str, float]
    binds: str
    bytes: dict[str, float]
    sequences: int
    kv_gb: float
    fits: bool
    sum_memory: float
    link_needed: float


def outcome(scale: Scale, samples: int = 8) -> Outcome:
    """`Outcome`, the mean of some passes."""
    model, design, n = scale.model, scale.array_design, scale.entries
    cycles, busy, wanted, kv_read = 0.0, {}, 0.0, 0.0
    unit = scale.unit_design
    # of a position and layer: codes and exponents of K and V
    row = unit.kv_heads * 2 * (model.head_dim + 2)
    seen = [unit.window(layer) for layer in range(scale.layers)]
    for halves in steady_passes(scale, samples):
        phases = [{window: _half(scale, entries, window) for window in set(seen)} for entries in halves]
        once = [[stage for window in seen for stage in of[window][0]] + of[seen[0]][1] for of in phases]
        first, _ = _alternate(once)
        second, _ = _alternate([s * 2 for s in once])     # without a gap: the next pass of a half begins where it ended
        cycles += second - first
        for engine, count in [step for sequence in once for step in sequence]:
            busy[engine] = busy.get(engine, 0) + count
        wanted += sum(bool(want) for entries in halves for _, want, _ in entries)
        for entries in halves:
            spans = {}
            for position, _, sequence in entries:
                first, last = spans.get(sequence, (position, position))
                spans[sequence] = min(first, position), max(last, position)
            kv_read += sum(last + 1 - (max(0, first + 1 - window) if window else 0) for window in seen
                           for first, last in spans.values()) * row
    cycles, wanted, kv_read = cycles / samples, wanted / samples, kv_read / samples
    busy = {engine: count / samples for engine, count in busy.items() if count}

    layer_weights = sum(rows * cols for rows, cols in model.matrices().values())
    weights = layer_weights * model.num_hidden_layers / scale.chips
    table = model.vocab_size * model.hidden_size
    moved = {"weights": scale.halves * (weights + table / scale.chips), "KV rows read": kv_read,
             "KV rows written": n * row * scale.layers,
             "embedding rows": (1 + model.learned_positions) * n * model.hidden_size / scale.chips}
    busy["HBM"] = sum(moved.values()) / (scale.hbm_tb_s * 1e12) * scale.clock_ghz * 1e9
    compute = cycles
    cycles = max(cycles, busy["HBM"])
    seconds = cycles / (scale.clock_ghz * 1e9)
    useful = n * layer_weights * model.num_hidden_layers + wanted * table
    # as in `steady_passes`; in a pipeline each chip has a pass of its own under way
    texts = sum(1 for entries in next(steady_passes(scale, 1)) for position, *_ in entries if position >= scale.prompt)
    in_flight = (texts + 2) * (scale.chips if scale.split == "pipeline" else 1)
    kv = in_flight * (scale.prompt + scale.output) * row * scale.layers / 1e9
    positions = design.hw.context * model.hidden_size * model.learned_positions
    tables = (1 if model.tie_word_embeddings else 2) * table + positions
    stored = kv + (weights + tables / scale.chips) / 1e9
    of_sums, of_codes = _link_bytes(scale)
    sums = sum(step.sink in _ADDED for step in model.block.of(Project))
    codes = sum(norm.writes == "normed" for norm in model.block.of(Norm))
    sent = (of_sums * sums + of_codes * codes) * model.hidden_size * (scale.chips - 1) / scale.chips
    links = sent * n * scale.layers if scale.split == "tensor" else 0
    order = sorted(busy, key=lambda engine: busy[engine])
    binds = order[-1] if busy[order[-1]] >= 0.85 * cycles else "the phases' order"
    return Outcome(
        cycles=cycles, seconds=seconds, in_out=n / seconds, out=wanted / seconds,
        mac_utilization=useful / scale.chips / (cycles * scale.macs),
        busy={engine: count / cycles for engine, count in busy.items()}, binds=binds, bytes=moved, sequences=in_flight,
        kv_gb=kv, fits=stored <= scale.hbm_gb,
        sum_memory=scale.arrays * scale.columns * 2 * design.hw.entries * design.acc_bits / 8,
        link_needed=links / (busy["arrays"] / (scale.clock_ghz * 1e9)) / 1e12 if compute else 0)


def report(scale: Scale, found: Outcome) -> Iterator[str]:
    """Lines to print: assumptions, then results."""
    rows = assumptions(scale)
    yield "assumed"
    for name, value, source in rows:
        yield f"  {name:18}{value:32}{source}"
    yield "projected"
    for name, value in {
            "multipliers": f"{scale.macs:,} a chip, {scale.macs * scale.chips * scale.clock_ghz / 1e6:,.1f} * 10^15 "
                           "products a second",
            "pass": f"{found.cycles:,.0f} cycles, {found.seconds * 1e3:,.3g} ms"
            + (", on each chip" if scale.split == "pipeline" else ""),
            "tokens in and out": f"{found.in_out:,.0f} a second",
            "tokens out": f"{found.out:,.0f} a second",
            "MAC utilization": f"{found.mac_utilization:.1%}",
            "busy": ", ".join(f"{engine} {share:.1%}" for engine, share in found.busy.items()),
            "what binds": found.binds,
            "bytes a pass": ", ".join(f"{what} {count / 1e9:,.3g} GB" for what, count in found.bytes.items()),
            "texts under way": f"{found.sequences:,}, KV rows of {found.kv_gb:,.1f} GB a chip"
            + ("" if found.fits else ": more than HBM holds"),
            "sums on the chip": f"{found.sum_memory / 1e6:,.0f} MB (accumulators and finished rows of "
                                f"{-(-scale.entries // scale.halves):,} entries)",
            **({"links wanted": f"{found.link_needed:,.2f} TB/s each way, so as not to bind"} if found.link_needed
               else {})}.items():
        yield f"  {name:18}{value}"


def sweep_table(field_name: str, scales: Iterable[Scale]) -> Iterator[str]:
    """Lines: throughput, utilization and the limit for values of one assumption."""
    yield f"{field_name:>20}{'in and out/s':>16}{'out/s':>12}{'MACs':>8}  what binds"
    for scale in scales:
        found = outcome(scale)
        yield (f"{getattr(scale, field_name)!s:>20}{found.in_out:16,.0f}{found.out:12,.0f}"
               f"{found.mac_utilization:8.1%}  {found.binds}")
