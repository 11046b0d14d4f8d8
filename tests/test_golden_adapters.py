import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from hwgen.golden.adapted_wires import adapted_wired_cycles
from hwgen.golden.adapters import adapted_cycles, added, codes_of, runs
from hwgen.golden.decoder import GoldenDecoder
from hwgen.golden.numbers import fp8_ints
from hwgen.golden.sequencer import pass_timeline
from hwgen.golden.wired import WiredTimes
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry, LinkError
from hwgen.models import quantize, random_checkpoint
from hwgen.models.adapter_codes import beat_exponent, exponent_beat, pack_adapter, quantize_adapter
from hwgen.models.adapters import Adapted, Adapter, LowRank
from hwgen.models.checkpoint import ModelError
from hwgen.models.quantize import score_factor
from hwgen.models.reference import Reference
from hwgen.params import presets
from hwgen.params.block import dense
from hwgen.params.design import Design
from hwgen.params.formats import E2M1, E3M1, E3M4, E4M1, E4M3
from hwgen.params.hardware import HwShape, Recipe
from model_files import ODD

HW = HwShape(lanes=8, columns=16, entries=4, slots=4, context=64, vector_lanes=4, attention_lanes=8, adapters=3,
             adapter_rank=8)
TOKENS = np.random.default_rng(4).integers(0, ODD.vocab_size, 24).tolist()


def machine(shape=ODD, hw=HW, recipe=Recipe()):
    """(checkpoint, design, quantized)."""
    checkpoint = random_checkpoint(shape)
    design = Design(model=shape, hw=hw, recipe=recipe)
    return checkpoint, design, quantize(checkpoint, recipe)


def random_adapter(checkpoint, seed=1, size=0.3, rank=8, matrices=None):
    """An adapter that adds about ``size`` of what the base's matrices make."""
    rng, parts = np.random.default_rng(seed), {}
    sizes = checkpoint.shape.layer_tensors()
    for layer in range(checkpoint.shape.num_hidden_layers):
        for matrix in checkpoint.shape.block.matrices:
            if matrices is None or matrix.name in matrices:
                outputs, inputs = sizes[matrix.tensor]
                a, b = rng.standard_normal((rank, inputs)) / inputs**0.5, rng.standard_normal((outputs,
                                                                                               rank)) / rank**0.5
                parts[f"model.layers.{layer}.{matrix.tensor}"] = LowRank(a.astype(np.float32),
                                                                         b.astype(np.float32), size)
    return Adapter("random adapter", parts)


def logits(golden, number):
    acc, exponents = golden.head(golden.layers([(0, i, token, True, 0, number) for i, token in enumerate(TOKENS)]))
    return np.ldexp(acc, (exponents + golden.design.acc_unit)[:, None])


def rms(x):
    return float(np.sqrt(np.square(x).mean()))


@pytest.mark.parametrize("shape, recipe", [
    (ODD, Recipe()), (ODD, Recipe(scales="row", weight_format=E4M3, activation_format=E4M3)),
    (dataclasses.replace(ODD, block=dense(norms="sandwich", biased=("q", "o"))), Recipe()),
    (dataclasses.replace(ODD, block=dense(parallel=True, gated=False, activation="gelu")), Recipe()),
], ids=["llama", "rows, e4m3", "sandwich", "parallel"])
def test_logits_are_those_of_the_reference_but_for_rounding(shape, recipe):
    checkpoint, design, quantized = machine(shape, recipe=recipe)
    golden, adapter = GoldenDecoder(design, quantized), random_adapter(checkpoint)
    golden.load_adapter(2, quantize_adapter(adapter, quantized, design))
    plain, adapted = Reference.of(checkpoint).logits(TOKENS), Adapted(checkpoint, adapter).logits(TOKENS)
    noise, wrong = rms(logits(golden, 0) - plain), rms(logits(golden, 2) - adapted)
    assert wrong < 1.6 * noise and rms(adapted - plain) > 3 * noise


UNTIED = dataclasses.replace(ODD, tie_word_embeddings=False)
#: The array's format -> (formats, how far B A may be from the float one, of its size).
NARROW = {"e3m4": ("e3m4", 0.05), "e4m1": ("weights=e2m1,block_range=12", 0.18),
          "e3m1": ("weights=e2m1", 0.18), "e2m1": ("weights=e2m1,block_range=0,scales=row", 0.25)}


@pytest.mark.parametrize("name", NARROW)
def test_codes_of_fewer_bits_are_the_adapter_but_for_rounding(name):
    text, most = NARROW[name]
    checkpoint, design, quantized = machine(UNTIED, recipe=presets.recipe(text))
    adapter, fmt = random_adapter(checkpoint), design.array_format
    codes = quantize_adapter(adapter, quantized, design)
    assert fmt.name == name
    for (project, layer), part in codes.parts.items():
        for matrix, a in part.a.items():
            base = getattr(quantized.layers[layer], matrix)
            scale = design.stored_exponent(base) + (0 if base.rows is None else base.rows.astype(int)[:, None])
            got = np.ldexp((fp8_ints(part.b[matrix], fmt) @ fp8_ints(a, fmt)).astype(float),
                           scale + part.exponent + 2 * fmt.unit_exp)
            low = adapter.parts[f"model.layers.{layer}.{design.block.matrix(matrix).tensor}"]
            wanted = low.scale * (low.b.astype(float) @ low.a)
            wanted *= score_factor(design.model) if matrix == "q" else 1
            assert rms(got - wanted) < most * rms(wanted), (project, layer, matrix)


@pytest.mark.parametrize("name", ["e4m1", "e3m1", "e2m1"])
def test_logits_of_an_array_of_fewer_bits(name):
    """The base's rounding is most of what is wrong."""
    checkpoint, design, quantized = machine(UNTIED, recipe=presets.recipe(NARROW[name][0]))
    golden, adapter = GoldenDecoder(design, quantized), random_adapter(checkpoint)
    golden.load_adapter(2, quantize_adapter(adapter, quantized, design))
    plain, adapted = Reference.of(checkpoint).logits(TOKENS), Adapted(checkpoint, adapter).logits(TOKENS)
    noise, wrong = rms(logits(golden, 0) - plain), rms(logits(golden, 2) - adapted)
    assert wrong < 1.3 * noise and rms(logits(golden, 0) - adapted) > 1.5 * wrong


def test_an_adapter_of_some_matrices():
    checkpoint, design, quantized = machine()
    golden, adapter = GoldenDecoder(design, quantized), random_adapter(checkpoint, rank=3, size=0.6,
                                                                       matrices=("v", "down"))
    golden.load_adapter(1, quantize_adapter(adapter, quantized, design))
    adapted = Adapted(checkpoint, adapter).logits(TOKENS)
    assert rms(logits(golden, 1) - adapted) < 0.4 * rms(adapted - Reference.of(checkpoint).logits(TOKENS))


def run(link, numbers):
    """Tokens and signatures of passes in which the slots' texts go on side by side, each with its adapter."""
    found = []
    for position in range(3):
        result = link.run_pass([Entry(slot, position, 7 * slot + position, True, adapter=number)
                                for slot, number in enumerate(numbers)]).check()
        found.append([(result.tokens[row], [rows[row] for rows in result.signatures]) for row in range(4)])
    link.reset()
    return [[passed[slot] for passed in found] for slot in range(4)]


def test_mixed_slots_are_each_as_alone():
    checkpoint, design, quantized = machine()
    link = GoldenLink(design, quantized)
    for number in (1, 2):
        link.load_adapter(number, quantize_adapter(random_adapter(checkpoint, seed=number), quantized, design))
    none, first, second, mixed = (run(link, numbers) for numbers in ((0,) * 4, (1,) * 4, (2,) * 4, (0, 1, 2, 0)))
    assert mixed == [none[0], first[1], second[2], none[3]]
    assert len({str(texts[1]) for texts in (none, first, second)}) == 3


def test_two_half_batches_are_as_one():
    """The same tokens and signatures; and a row of the second half is no part of a run of the first."""
    checkpoint, design, quantized = machine()
    halves = dataclasses.replace(design, hw=dataclasses.replace(HW, halves=2))
    numbers, found = (1, 2, 2, 0), []
    for one in (design, halves):
        link = GoldenLink(one, quantized)
        for number in (1, 2):
            link.load_adapter(number, quantize_adapter(random_adapter(checkpoint, seed=number), quantized, one))
        found.append(run(link, numbers))
    assert found[0] == found[1]
    joined, first, across, none = (cycles(of, halves=2) for of in ((2, 2, 0, 0), (2, 0, 2, 0), (0, 2, 2, 0), (0,) * 4))
    assert none < first == across != joined > none


def test_an_adapter_of_zeros_changes_nothing():
    checkpoint, design, quantized = machine()
    link, adapter = GoldenLink(design, quantized), random_adapter(checkpoint)
    zeros = {name: LowRank(part.a, np.zeros_like(part.b), 1.0) for name, part in adapter.parts.items()}
    link.load_adapter(1, quantize_adapter(Adapter("zeros", zeros), quantized, design))
    assert run(link, (1,) * 4) == run(link, (0,) * 4)


def exact(design, codes, exponent, a, b, own, z_codes):
    """What is added to each output, as a fraction in units of the sums, of A's codes as they were rounded."""
    sums = [sum(int(w) * int(x) for w, x in zip(row, fp8_ints(codes, E3M4))) for row in a]
    scale = Fraction(2) ** (own - exponent)
    largest = max(abs(Fraction(s)) for s in sums) * Fraction(2) ** (exponent + design.acc_unit)
    e = next(e for e in range(-300, 300) if largest <= Fraction(E3M4.max_value) * Fraction(2) ** e)
    e = max(e, exponent - own)
    z = [int(code) for code in fp8_ints(z_codes, E3M4)]
    near = [abs(Fraction(s) * Fraction(2) ** (exponent + design.acc_unit - e - E3M4.unit_exp) - code)
            for s, code in zip(sums, z)]
    assert all(off <= max(Fraction(1, 2), abs(Fraction(code, 32))) + abs(Fraction(code, 256))
               for off, code in zip(near, z))
    return [sum(int(w) * code for w, code in zip(row, z)) * scale * Fraction(2) ** e for row in b]


def test_what_is_added_is_exact():
    rng, (_, design, _) = np.random.default_rng(3), machine()
    for own in (-9, -3, 4):
        x = rng.integers(0, 112, 72).astype(np.uint8) | rng.integers(0, 2, 72).astype(np.uint8) << 7
        a, b = fp8_ints(rng.integers(0, 112, (8, 72)),
                        E3M4).astype(np.float64), fp8_ints(rng.integers(0, 112, (5, 8)), E3M4).astype(np.float64)
        got = added(design, x[None], np.array([-2]), a, b, own)[0]
        z, _ = codes_of(design, (fp8_ints(x, E3M4) @ a.T)[None], np.array([-2]), own)
        assert [Fraction(y) for y in got] == exact(design, x, -2, a, b, own, z[0])


def test_codes_do_not_go_below_the_units_of_the_sums():
    _, design, _ = machine()
    codes, shift = codes_of(design, np.array([[1.0, -3.0], [0.0, 0.0], [4096.0, 50.0]]), np.array([5, 5, 5]), -4)
    assert shift.tolist() == [0, 0, 0] and not codes[:2].any() and codes[2].any()
    assert codes_of(design, np.array([[2.0**20, 0.0]]), np.array([5]), 0)[1].tolist() == [5]


def test_what_cannot_be_is_refused():
    checkpoint, design, quantized = machine()
    with pytest.raises(ModelError, match="Rank of an adapter must be at most the machine's 8, not 9"):
        quantize_adapter(random_adapter(checkpoint, rank=9), quantized, design)
    with pytest.raises(ModelError, match="small enough for the base's units, not as in qkv of layer 0"):
        quantize_adapter(random_adapter(checkpoint, size=1000.0), quantized, design)
    with pytest.raises(ValueError, match="add adapters=1"):
        quantize_adapter(random_adapter(checkpoint), quantized,
                         dataclasses.replace(design, hw=dataclasses.replace(HW, adapters=0)))
    link = GoldenLink(design, quantized)
    with pytest.raises(LinkError, match="one that is loaded, not 2"):
        link.run_pass([Entry(0, 0, 1, adapter=2)])
    with pytest.raises(ValueError, match="Adapter must be 0 to 3, not 4"):
        link.run_pass([Entry(0, 0, 1, adapter=4)])


@pytest.mark.parametrize("fields, told", [({"adapters": 2}, "0, 1, 3 or 7"),
                                          ({"adapter_rank": 0}, "1 to 256")])
def test_shapes_that_cannot_be(fields, told):
    with pytest.raises(ValueError, match=told):
        dataclasses.replace(HW, **fields)


def test_the_memory_holds_each_code_once():
    checkpoint, design, quantized = machine()
    codes = quantize_adapter(random_adapter(checkpoint, rank=5), quantized, design)
    beats, part = pack_adapter(codes, design), design.adapter_map["gate_up", 1]
    assert beats.shape == (design.adapter_map.beats, 128)
    assert beats[part.address, :2].view("<i2")[0] == codes.parts["gate_up", 1].exponent
    a = beats[part.a_address:part.b_address].reshape(1, 10, 16, 8).transpose(0, 2, 1, 3).reshape(16, 80)[:, :72]
    assert np.array_equal(a[:5], codes.parts["gate_up", 1].a["gate"])
    assert np.array_equal(a[8:13], codes.parts["gate_up", 1].a["up"])
    assert not a[5:8].any() and not a[13:].any()
    b = beats[part.b_address:part.end].reshape(part.b.n_tiles, 2, 16, 8).transpose(0, 2, 1, 3).reshape(-1, 16)
    assert np.array_equal(b[:400:2, :5], codes.parts["gate_up",
                                                     1].b["gate"]) and np.array_equal(b[1:400:2, 8:13],
                                                                                      codes.parts["gate_up", 1].b["up"])


@pytest.mark.parametrize("fmt", [E2M1, E3M1, E4M1, E3M4], ids=str)
@pytest.mark.parametrize("exponent", [-512, -37, -1, 0, 6, 511])
def test_an_exponent_is_in_codes_of_any_format(fmt, exponent):
    codes = exponent_beat(exponent, fmt, 8)
    assert codes.max() < 1 << fmt.bits and beat_exponent(codes, fmt) == exponent


def cycles(numbers, **changes):
    _, design, _ = machine(hw=dataclasses.replace(HW, **changes))
    return pass_timeline(design, [3] * len(numbers), [1] * len(numbers), adapters=numbers).counters["cycles"]



def test_cycles_of_runs():
    assert runs((0, 2, 2, 0, 2, 1, 0)) == (2, 1, 1) and runs((0, 0)) == ()
    none, one, same, two = map(cycles, ((0, 0, 0, 0), (0, 1, 0, 0), (1, 1, 1, 1), (1, 1, 2, 2)))
    assert none < one < same <= two
    # a tile comes once for each run
    assert cycles((1, 1, 1, 1), tile_beats=8) < cycles((1, 2, 1, 2), tile_beats=8)


def over_logic(first, busy, **changes):
    """(`AdaptedWires`, A's and B's `Matmul`, granules in all) of gate_up as logic that is ``busy`` for some cycles, and
    whose first granule is there in cycle ``first``."""
    _, design, _ = machine(hw=dataclasses.replace(HW, entries=1, slots=1, source="wired", **changes))
    a, b = design.adapter_matmuls(design.block.into_ff)
    granules = b.n_tiles * design.hw.columns // design.hw.vector_lanes
    wired = WiredTimes(4 + a.k_tiles, busy, first, first + granules - 1, first + granules - 2)
    return adapted_wired_cycles(design, wired, (a, b), 0, 5, 4), a, b, granules


def test_a_granule_waits_for_the_later_of_its_two_parts():
    late, _, b, granules = over_logic(5000, 0)
    # a cycle in the adder's register; the two rows of the ring, of 4 granules, are there before logic's
    assert late.granules[:8] == tuple(range(5001, 5009)) and len(late.granules) == granules
    assert late.blocked > 4000 and not late.starved
    early, *_ = over_logic(20, 0)
    assert early.granules[-1] < 5000 and list(early.granules) == sorted(set(early.granules))
    # and each n-tile of B ends no sooner than its tiles come
    slow, *_ = over_logic(20, 0, tile_beats=8)
    assert slow.granules[-1] - slow.granules[0] >= 8 * (b.tiles - b.k_tiles) and slow.starved > 0


def test_what_is_busy_at_once_counts_once():
    late, a, b, _ = over_logic(5000, 0)
    assert late.busy == a.tiles + b.tiles and over_logic(5000, 6000)[0].busy == 6000


def test_a_matrix_without_a_wait_takes_as_long_as_its_operations():
    _, design, _ = machine()
    project = design.block.into_ff
    a, b = design.adapter_matmuls(project)
    matmul, tiling = design.matmul("gate_up"), design.stream["gate_up", 0].tiling
    times = adapted_cycles(design, matmul, (a, b), 4, (4,), 0, 5, 0, tiling, 4)
    assert times.busy == 4 * (matmul.tiles + a.tiles
                              + b.tiles) == times.last_fire - times.first_fire + 1 and not times.starved
