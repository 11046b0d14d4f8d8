"""What the plan expects of matrices that are logic, from their sizes alone."""
from dataclasses import replace

import pytest

from hwgen.cli import main
from hwgen.commands.chips import DOES_NOT_FIT
from hwgen.golden.sequencer import pass_timeline
from hwgen.models import Checkpoint, quantize, random_checkpoint
from hwgen.models.wires import different_rows, fixed_matrices
from hwgen.params import presets
from hwgen.params.design import Design
from hwgen.params.hardware import HwShape
from hwgen.params.model import ModelShape
from hwgen.params.stream import HEAD
from hwgen.plan.fit import FULL, fit, smallest_change
from hwgen.plan.summary import facts
from hwgen.plan.wired import expected

SHAPE = HwShape(lanes=8, columns=8, vector_lanes=4, attention_lanes=16, context=128, tile_beats=8, source="wired",
                wire_levels=4)


def design(formats="weights=e2m1", vocabulary=320, ff=96):
    model = ModelShape(name="x", vocab_size=vocabulary, hidden_size=32, intermediate_size=ff, num_hidden_layers=1,
                       num_attention_heads=2,
                       num_key_value_heads=2, head_dim=16,
                       max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=1e4, tie_word_embeddings=False,
                       bos_token_id=0,
                       eos_token_ids=(0,))
    return Design(model=model, hw=SHAPE, recipe=presets.recipe(formats))


def test_matrices_are_nearly_what_was_expected():
    small = design("weights=e2m1,head=e4m3", 64, 40)
    made, told = fixed_matrices(quantize(random_checkpoint(small.model), small.recipe), small), expected(small)
    assert list(made) == list(told)
    for key, matrix in made.items():
        assert told[key].luts == pytest.approx(2 * len(matrix.plan.network.adders), rel=0.12), key
        assert told[key].ffs == pytest.approx(sum(matrix.plan.registers().values()), rel=0.2), key
        assert told[key].size == matrix.size and abs(told[key].bits - matrix.bits) <= 3
        assert abs(told[key].latency - matrix.latency) <= 2, key


def test_a_machine_of_random_weights():
    """As the boards' script made it: 53,055 LUT4, 3,033 CCU2C, 331 TRELLIS_DPR16X4, 42,859 flip-flops, 21 DP16KD and 30
    multipliers."""
    found = fit(design(), "ecp5", {"LUT": 83640})
    assert found.used["LUT"] == pytest.approx(53055 + 2 * 3033 + 6 * 331,
                                              rel=0.06) and found.used["FF"] == pytest.approx(42859, rel=0.06)
    assert (found.used["BRAM"], found.used["DSP"]) == (21, 30) and not {"array", "column",
                                                                        "dsp_column"} & set(found.units)


def test_a_smaller_machine_of_wires_has_wires():
    assert smallest_change(design(), "ecp5", {"LUT": 55_000}).design.hw.wired


def test_the_plan_says_what_a_weight_takes(capsys):
    assert main(["plan", "demo", "--board", "ulx3s-85f", "--shape", "tiny,source=wired", "--units"]) == 3
    out = capsys.readouterr().out
    assert "LUT4     of a weight, by matrix: qkv_0 2.0" in out and "of a shape alone" not in out
    assert main(["plan", "smollm2-135m", "--board", "ulx3s-85f", "--shape", "tiny,source=wired"]) == 3
    assert "of a shape alone: equal rows of weights are the same logic" in capsys.readouterr().out


def test_equal_rows_are_counted_once():
    small = design("weights=e2m1,head=e3m4", 64, 40)
    checkpoint = random_checkpoint(small.model)

    def read(name):
        tensor = checkpoint.tensor(name).copy()
        if name != "lm_head.weight":
            return tensor
        tensor[20:50] = tensor[20]
        tensor[50:] = 0
        return tensor
    quantized = quantize(Checkpoint(small.model, "equal rows", read), small.recipe)
    rows, made = different_rows(quantized, small), fixed_matrices(quantized, small)
    assert list(rows) == list(made) and rows[HEAD, None] == 21 and rows["down", 0] == 32
    told = expected(small, rows)
    adders = 2 * len(made[HEAD, None].plan.network.adders)
    assert told[HEAD, None].luts == pytest.approx(adders, rel=0.12)
    assert told[HEAD, None].luts < expected(small)[HEAD, None].luts / 2
    assert (fit(small, "ecp5", {}, rows).used["LUT"] < fit(small, "ecp5", {}).used["LUT"] - 1000
            and told[HEAD, None].size == made[HEAD, None].size)


NAMED = "tiny,lanes=8,columns=8,vector_lanes=4,attention_lanes=16,tile_beats=8,source=wired,wire_matrices="


def test_named_matrices_have_an_array_beside_them():
    """Both are counted, and only what is logic is; columns of the array may take multipliers."""
    both = replace(design(), hw=replace(SHAPE, wire_matrices="qkv+o+gate_up+down"))
    array = replace(design(), hw=replace(SHAPE, source="rom", wire_levels=1))
    whole, found, plain = (fit(of, "ecp5", {"LUT": 83640}) for of in (design(), both, array))
    assert set(expected(design())) - set(expected(both)) == {(HEAD, None)}
    assert found.units["array"] == plain.units["array"] and found.units["column"] == plain.units["column"]
    assert found.units["wired"]["LUT"] < whole.units["wired"]["LUT"]
    assert found.units["weights"]["BRAM"] > whole.units["weights"]["BRAM"]
    assert found.cycles() > whole.cycles()
    capacity = {"LUT": int((found.used["LUT"] - 200) / FULL["LUT"]), "DSP": 156}
    smaller = smallest_change(both, "ecp5", capacity).design.hw
    assert smaller.wire_matrices == both.hw.wire_matrices and smaller.dsp_pairs + smaller.dsp_columns


def test_adapters_over_logic_have_an_array(capsys):
    """It is counted with their memory, and what adds its sums; no column of it needs a tile of the stream."""
    adapted = replace(design(), hw=replace(SHAPE, adapters=1, adapter_rank=4))
    array = replace(design(), hw=replace(SHAPE, adapters=1, adapter_rank=4, source="rom", wire_levels=1))
    found, alone, plain = (fit(of, "ecp5", {"LUT": 83640}).units for of in (adapted, array, design()))
    for unit in ("array", "column", "adapters", "adapter_sums", "xz"):
        assert found[unit] == alone[unit] and unit not in plain
    assert found["weights"] == plain["weights"]
    assert found["wired"]["LUT"] > plain["wired"]["LUT"] + 2 * SHAPE.vector_lanes * adapted.acc_bits
    assert found["dispatcher"] == plain["dispatcher"]
    assert main(["plan", "wire", "--board", "ulx3s-85f-wired", "--shape", f"{NAMED.rpartition(',')[0]},adapters=1",
                 "--units"]) in (0, DOES_NOT_FIT)
    out = capsys.readouterr().out
    assert "one text with an adapter: " in out and "  column " in out and "never synthesized" not in out


def test_cycles_of_what_is_logic_are_nearly_those_of_its_weights():
    small = replace(design("weights=e2m1,head=e4m3", 64, 40), hw=replace(SHAPE, wire_matrices="head+qkv"))
    made = fixed_matrices(quantize(random_checkpoint(small.model), small.recipe), small)
    assert list(made) == list(expected(small)) == [("qkv", 0), (HEAD, None)]
    own, told = (pass_timeline(small, [3], [True], wires=wires).counters for wires in (made, expected(small)))
    assert abs(own["cycles"] - told["cycles"]) <= 8 and own["mac_starved"] == told["mac_starved"]


def test_the_plan_names_what_is_logic(capsys):
    assert main(["plan", "wire", "--board", "ulx3s-85f-wired", "--shape", f"{NAMED}gate_up+down", "--units"]) == 0
    out = capsys.readouterr().out
    assert "of a weight, by matrix: gate_up_0 " in out and "qkv_0" not in out and "  column " in out
    assert "the matrices gate_up, down" in facts(replace(design(), hw=replace(
        SHAPE, wire_matrices="gate_up+down")), "")["logic"]
    assert main(["plan", "wire", "--board", "ulx3s-85f-wired", "--shape", f"{NAMED}gate"]) == 2
    assert "Matrices that are logic must be some of qkv, o, gate_up, down, head" in capsys.readouterr().err
