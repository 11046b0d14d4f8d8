"""Passes in which rows have adapters: the decoder as the Verilator C++ model, compared with golden in each pass, cycles
and counters too."""
import contextlib
import random

import pytest

from hwgen.golden.sequencer import pass_timeline
from hwgen.host.driver import CheckedLink
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry
from hwgen.host.links.machine import simulated
from hwgen.models.adapter_codes import random_adapter
from hwgen.models.wires import fixed_matrices
from sim.decoders import checked
from sim.designs import small_design
from sim.passes import random_model

TINY = dict(hidden_size=8, intermediate_size=6, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, head_dim=4,
            vocab_size=13, context=12,
            lanes=4, columns=4, vector_lanes=2, attention_lanes=2, entries=3, slots=3, adapters=3, adapter_rank=3)
SHAPES = {
    "beats": dict(tile_beats=4, lanes=4, columns=16, vector_lanes=4, attention_lanes=4, entries=4, slots=4,
                  formats="scales=row",
                  adapters=3, adapter_rank=5),
    "one_entry": dict(entries=1, slots=2, columns=4, adapters=1, adapter_rank=7, activation_format="e4m3",
                      weight_format="e4m3",
                      hidden_size=40),
    "sandwich": dict(lanes=4, columns=16, entries=5, slots=3, adapters=7, adapter_rank=2, dsp_columns=5,
                     sampler="gumbel",
                     block=dict(norms="sandwich", qk_norm=dict(span="head"), biased=["q", "o", "down"],
                                activation="gelu_tanh")),
    "mixed": dict(formats="weights=e2m1,head=e4m3,layers.1.down=e4m3", hidden_size=72, intermediate_size=80, entries=4,
                  slots=4, adapters=3,
                  adapter_rank=8,
                  tile_beats=2, attention_lanes=4, block=dict(parallel=True, gated=False)),
}
#: Of arrays of fewer than 8 bits a code, by their format.
NARROW = {
    "e2m1": dict(TINY, formats="weights=e2m1,block_range=0,scales=row", tie_word_embeddings=False, dsp_columns=1),
    "e3m1": dict(formats="weights=e2m1", tie_word_embeddings=False, entries=4, slots=4, hidden_size=40, tile_beats=4,
                 columns=16, vector_lanes=2, head_dim=32, attention_lanes=4, adapters=3, adapter_rank=3),
    "e4m1": dict(formats="weights=e2m1,block_range=12,scales=row", tie_word_embeddings=False, lanes=4, entries=3,
                 slots=2, dsp_pairs=1, adapters=1, adapter_rank=5, activation_format="e4m3",
                 block=dict(norms="sandwich", biased=["q", "o", "down"])),
}


def passes(design, count, seed=3):
    """Passes of some rows of each slot, whose adapters change from pass to pass."""
    rng, hw = random.Random(seed), design.hw
    lengths = [0] * hw.slots
    for _ in range(count):
        numbers = [rng.choice([0, rng.randint(1, hw.adapters)]) for _ in lengths]
        rows = []
        for slot in sorted(rng.randrange(hw.slots) for _ in range(rng.randint(1, hw.entries))):
            if lengths[slot] < hw.context:
                rows.append(Entry(slot, lengths[slot], rng.randrange(design.model.vocab_size), rng.random() < 0.7,
                                  adapter=numbers[slot]))
                lengths[slot] += 1
        if rows:
            yield rows


@contextlib.contextmanager
def checked_wires(design, stall):
    """As `checked`, of a machine whose matrices are logic."""
    model = random_model(design)
    with (simulated(design, model, lambda _: contextlib.nullcontext(), stall=stall) as machine,
          GoldenLink(design, model) as golden):
        yield CheckedLink(machine, golden, values_only=stall > 0)


def run(design, tmp_path, count, stall=0.0):
    """Run passes; the signatures of each."""
    with checked_wires(design, stall) if design.hw.wired else checked(design, tmp_path, stall=stall) as link:
        for number in range(1, design.hw.adapters + 1):
            link.load_adapter(number, random_adapter(design, number, whole=False))
        found = [link.run_pass(rows).signatures for rows in passes(design, count)]
        link.load_adapter(1, random_adapter(design, 99, whole=False))      # another one in its place
        return found + [link.run_pass(rows).signatures for rows in list(passes(design, count + 3))[count:]]


def test_tiny(tmp_path):
    run(small_design(source="stream", **TINY), tmp_path, 12)


HALVES = {
    "halves": dict(TINY, entries=4, slots=4, halves=2, num_hidden_layers=2),
    "one row each": dict(TINY, entries=2, slots=3, halves=2, head="pair", hidden_size=12, columns=16, tile_beats=16),
    "halves, beats": dict(tile_beats=4, lanes=4, columns=16, vector_lanes=4, attention_lanes=4, entries=6, slots=5,
                          halves=2, adapters=3, adapter_rank=5, formats="scales=row", sampler="gumbel"),
    "halves, sandwich": dict(lanes=4, columns=16, entries=4, slots=3, halves=2, adapters=7, adapter_rank=2,
                             block=dict(norms="sandwich", qk_norm=dict(span="head"), biased=["q", "o", "down"])),
    "halves, parallel": dict(formats="weights=e2m1", tie_word_embeddings=False, hidden_size=72, intermediate_size=80,
                             entries=4, slots=4, halves=2, tile_beats=2, attention_lanes=4, adapters=3,
                             block=dict(parallel=True, gated=False)),
}


def test_an_array_of_4_bits(tmp_path):
    design = small_design(source="stream", **NARROW["e2m1"])
    assert design.array_format.name == "e2m1"
    run(design, tmp_path, 12)


def test_two_half_batches(tmp_path):
    run(small_design(source="stream", **HALVES["halves"]), tmp_path, 14)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*HALVES][1:])
def test_half_batches(name, tmp_path):
    design = small_design(source="stream", **HALVES[name])
    assert run(design, tmp_path, 14) == run(design, tmp_path, 14, stall=0.4)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["e3m1", "e4m1"])
def test_an_array_of_fewer_bits(name, tmp_path):
    design = small_design(source="stream", **NARROW[name])
    assert design.array_format.name == name
    assert run(design, tmp_path, 14) == run(design, tmp_path, 14, stall=0.4)


@pytest.mark.nightly
@pytest.mark.parametrize("name", SHAPES)
def test_shape(name, tmp_path):
    design = small_design(source="stream", **SHAPES[name])
    assert run(design, tmp_path, 14) == run(design, tmp_path, 14, stall=0.4)


#: Of machines in which matrices are logic, all or some.
WIRED = {
    "all": TINY | dict(num_hidden_layers=2, wire_levels=2),
    # an adapter takes longer than logic, which waits for it; no matrix of the array has a tile
    "beats": dict(tile_beats=8, lanes=4, columns=16, vector_lanes=4, attention_lanes=4, slots=3, adapters=3,
                  adapter_rank=5, formats="scales=row", wire_levels=9),
    # two k-tiles of B; one of A, for rows of a single slice
    "slice": dict(hidden_size=8, intermediate_size=7, head_dim=4, num_attention_heads=2, attention_lanes=4,
                  columns=32, vector_lanes=2, adapters=1, adapter_rank=7, weight_format="e4m3",
                  activation_format="e4m3", head="pair", dsp_columns=3, dsp_pairs=2),
    "sandwich": dict(lanes=4, slots=3, adapters=1, adapter_rank=2, formats="weights=e2m1,head=e4m3,scales=row",
                     tie_word_embeddings=False, sampler="gumbel",
                     block=dict(norms="sandwich", qk_norm=dict(span="head"), biased=["q", "o", "down"],
                                activation="gelu_tanh")),
    # vectors come longer than the first slices, and these wait
    "vectors": dict(hidden_size=3, intermediate_size=3, vocab_size=19, num_attention_heads=3, num_key_value_heads=3,
                    head_dim=28, lanes=2, columns=2, attention_lanes=4, vector_lanes=2, adapters=7, adapter_rank=1,
                    block=dict(biased=["q", "k", "v", "o", "up", "down"], parallel=True,
                               qk_norm=dict(span="projection", after_rotary=False))),
    "some": TINY | dict(wire_matrices="gate_up+down", columns=8, dsp_columns=1),
    "the others": TINY | dict(wire_matrices="qkv+o+head", tile_beats=2, head="pair",
                              block=dict(gated=False, activation="relu2")),
    "one": TINY | dict(wire_matrices="down", formats="weights=e2m1", tie_word_embeddings=False, hidden_size=40,
                       adapters=1),
}


def of_wires(name):
    return small_design(**WIRED[name] | dict(entries=1, source="wired"))


@pytest.mark.parametrize("name", [name if name in ("all", "some") else pytest.param(name, marks=pytest.mark.nightly)
                                  for name in WIRED])
def test_matrices_that_are_logic(name, tmp_path):
    run(of_wires(name), tmp_path, 8)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["beats", "some"])
def test_a_hesitating_host_of_logic(name, tmp_path):
    design = of_wires(name)
    assert run(design, tmp_path, 6) == run(design, tmp_path, 6, stall=0.4)


@pytest.mark.parametrize("name", WIRED)
def test_logic_changes_no_number(name):
    """Tokens and signatures are those of a machine with an array alone and the same adapter, which changes some."""
    design = of_wires(name)
    array = {key: value for key, value in WIRED[name].items() if key not in ("wire_matrices", "wire_levels")}
    if name == "slice":     # of which a machine with an array alone needs two
        array["lanes"] = 4
    other = small_design(**array | dict(entries=1))
    model, found = random_model(design), {}
    for which, of, number in (("logic", design, 1), ("array", other, 1), ("none", other, 0)):
        link = GoldenLink(of, model)
        link.load_adapter(1, random_adapter(of, 1))
        found[which] = [(result.tokens, result.signatures) for result in (
            link.run_pass([Entry(0, position, position % 5, True, adapter=number)]) for position in range(3))]
    assert found["logic"] == found["array"] != found["none"]


@pytest.mark.parametrize("name", [name for name, changes in WIRED.items() if "wire_matrices" not in changes])
def test_a_pass_without_an_adapter_pays_a_cycle_for_each_matrix_that_is_logic(name):
    """For the adder's register. What an adapter takes may be hidden behind logic."""
    design = of_wires(name)
    plain = small_design(**WIRED[name] | dict(entries=1, source="wired", adapters=0, dsp_columns=0, dsp_pairs=0))
    wires = fixed_matrices(random_model(design), design)
    with_room, without, used = (
        pass_timeline(of, [2], [True], adapters=[number], wires=wires).counters["cycles"]
        for of, number in ((design, 0), (plain, 0), (design, 1)))
    assert with_room - without == 1 + len(design.layer_matmuls) * design.layers <= used - without
