"""What the planner says of a board whose weights are in a memory."""
import dataclasses
import json
import re

import pytest

from hwgen.cli import main
from hwgen.fpga.boards import BOARDS, board
from hwgen.golden.decode_loop import GAP
from hwgen.golden.dram import read_cycles
from hwgen.golden.memory_loader import checked
from hwgen.golden.sequencer import pass_timeline
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.params.dram import MT41K256M16, MT48LC16M16
from hwgen.params.model import DEMO, SMOLLM2_135M
from hwgen.params.presets import hw_shape, recipe
from hwgen.plan.compare import compared
from hwgen.plan.costs import KINDS
from hwgen.plan.loading import check_seconds, load_seconds, pass_bytes, reading

SHAPE = "lanes=8,columns=4,vector_lanes=4,attention_lanes=8,entries=4,slots=4,tile_beats=4,context=32,source=stream"
SDRAM = dataclasses.replace(board("ulx3s-85f"), name="with-sdram", memory=MT48LC16M16, shape=SHAPE, baud=3_000_000)


def design(shape):
    return Design(model=DEMO, hw=hw_shape(shape, DEMO), recipe=recipe())


@pytest.fixture(autouse=True)
def with_sdram(monkeypatch):
    monkeypatch.setitem(BOARDS, SDRAM.name, SDRAM)


def test_a_pass_reads_its_weights_once_or_for_each_half_and_a_row_for_each_text():
    made = design(SHAPE)
    size, row = made.stream_beats * made.hw.beat_bytes, made.hw.beat_bytes * made.head_matmul.k_tiles
    # the table is the LM head
    assert [pass_bytes(made, texts) for texts in (1, 4)] == [size + row, size + 4 * row]
    halves = design(f"{SHAPE},halves=2")
    assert size < pass_bytes(halves, 2) < 1.1 * size and 1.9 * size < pass_bytes(halves, 4) < 2.1 * size


def test_what_binds():
    """A port of 16 bits is slower than an array of 8 x 4; one of 2 x 2 is slower yet, with four texts."""
    fast = reading(design(SHAPE), MT48LC16M16, 45, 1)
    small = "lanes=2,columns=2,vector_lanes=2,attention_lanes=2,entries=4,slots=4,context=32,source=stream"
    slow = reading(design(small), MT48LC16M16, 45, 4)
    assert fast.binds == "the memory" and fast.cycles == fast.memory == read_cycles(MT48LC16M16, 45,
                                                                                    pass_bytes(design(SHAPE), 1))
    middle = pass_timeline(design(SHAPE), [16], [True]).counters["cycles"] + GAP
    assert fast.machine == pytest.approx(middle, rel=0.1)
    assert slow.binds == "the machine" and slow.cycles == slow.machine / 4


def test_a_memory_with_a_clock_of_its_own():
    """Its cycles are counted in those of the machine; what binds may be the port between them, too."""
    made = design(SHAPE)
    size = pass_bytes(made, 1)
    one, two, many = (reading(made, MT41K256M16, 56, 1, mhz) for mhz in (None, 95.8333, 190))
    assert one.memory == read_cycles(MT41K256M16, 56, size) and one.machine == two.machine
    assert two.memory == pytest.approx(read_cycles(MT41K256M16, 95.8333, size) * 56 / 95.8333, abs=10)
    assert 0.56 < two.memory / one.memory < 0.6
    # the port's words, and eight refreshes behind each 8 * 7.8 us in which nothing comes
    assert 1.02 < many.memory / (size / 16) < 1.08


def test_a_plan_says_the_memorys_clock(capsys):
    line = "plan demo --board ecpix-5-85f"
    assert main(line.split()) == 0
    out = capsys.readouterr().out
    assert "93.75 MHz, its own clock: at most 750 MB/s" in out


def test_the_plan_of_smollm2_on_an_artix(capsys):
    """Its memory gives more than the port takes, which stands still while the chip refreshes."""
    shape = ("lanes=8,columns=16,vector_lanes=4,attention_lanes=8,entries=8,slots=8,tile_beats=8,dsp_columns=16,"
             "context=256,kv_block=128,kv_port=128,attention_hold=0,sampler=greedy,source=stream")
    assert main(["plan", "smollm2-135m", "--board", "arty-a7-100", "--shape", shape]) == 0
    out = capsys.readouterr().out
    assert "256 MB of DDR3: 134,551,136 bytes of weights of 268,435,456; 176.6 s to load them, at 8,000,000 baud" in out
    assert "100 MHz, its own clock: at most 1,600 MB/s" in out
    assert re.search(r"7\.4 tokens/s at 64 MHz.*one text; the memory binds", out)
    assert re.search(r"50 tokens/s at 64 MHz.*8 texts of 256 at once; the machine binds", out)


def test_the_memory_bounds_contexts_and_slots(capsys):
    """Of keys and values that are in it, beside the weights."""
    shape = ("lanes=8,columns=8,vector_lanes=2,attention_lanes=8,entries=8,slots=8,tile_beats=4,context=2048,"
             "kv_block=128,dsp_columns=8,kv_port=128,attention_hold=0,sampler=greedy,source=stream")
    assert main(["plan", "smollm2-135m", "--board", "ecpix-5-85f", "--shape", shape]) == 0
    out = capsys.readouterr().out
    context, slots = map(int, re.search(r"context of (\d+).*, or for (\d+) slots of 2048", out).groups())

    def size(**more):
        hw = dataclasses.replace(hw_shape(shape, SMOLLM2_135M), **more)
        return Design(model=SMOLLM2_135M, hw=hw, recipe=recipe(None)).memory_bytes
    memory = board("ecpix-5-85f").memory.size
    assert size(slots=slots) <= memory < size(slots=slots + 1) and size(context=context) <= memory
    assert memory < size(context=context + 128)


def test_shapes_are_compared_with_the_memory_in_mind():
    made = [design(SHAPE), design(SHAPE.replace("lanes=8,columns=4", "lanes=8,columns=8"))]
    points = compared(made, "ecp5", dict(zip(KINDS, SDRAM.capacity.values())), 4, 45, memory=MT48LC16M16)
    assert {point.cycles for point in points} == {reading(each, MT48LC16M16, 45, 4).cycles for each in made}


def test_seconds():
    """135 MB over a UART, and over the memory's port."""
    assert 450 < load_seconds(135_000_000, 3_000_000) < 470
    axi, size = MT48LC16M16.axi(), 1 << 16
    assert check_seconds(size, 45, axi, 20) * 45e6 == pytest.approx(checked(axi, 0, size, 20).end, rel=0.01)
    axi = AxiShape(data_width=64)
    assert check_seconds(size, 45, axi, 20) * 45e6 == pytest.approx(checked(axi, 0, size, 20).end, rel=0.01)
    assert check_seconds(size, 45, axi, 20) * 45e6 == pytest.approx(size, rel=0.01)


def test_the_plan_of_a_board(capsys, tmp_path):
    assert main(["plan", "demo", "--board", SDRAM.name, "--json", str(tmp_path / "plan.json")]) == 0
    out = capsys.readouterr().out
    about = json.loads((tmp_path / "plan.json").read_text())
    assert "32 MB of SDRAM: 257," in out and "s to load them, at 3,000,000 baud" in out and "the memory binds" in out
    one = about["memory"]["passes"][0]
    assert one["binds"] == "the memory" and about["speeds"][0]["cycles_per_token"] == one["memory_cycles"]


def test_the_plan_of_fifteen_million_parameters(capsys, tmp_path):
    """Of stories15M's shape (fpga/ulx3s-85f-sdram): its config.json is enough. In 4 bits as well, where the table of
    embeddings is the LM head and where the head is a matrix of its own."""
    config = {"model_type": "llama", "hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6,
              "num_attention_heads": 6, "vocab_size": 32000, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
              "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = ("lanes=8,columns=4,vector_lanes=4,attention_lanes=4,entries=4,slots=4,tile_beats=2,context=96,kv_block=8,"
             "kv_blocks=12,sampler=gumbel,source=stream")
    for formats, size, speeds in ("", "15,195,680", ("5.8", "23")), ("weights=e2m1,head=e3m4", "12,384,384",
                                                                     ("7.1", "28")), ("weights=e2m1", "17,264,384",
                                                                                      ("11", "44")):
        assert main(["plan", str(tmp_path), "--board", "ulx3s-85f-sdram", "--shape", shape,
                     *(["--formats", formats] if formats else [])]) == 0
        out = capsys.readouterr().out
        assert out.startswith("fits: ") and f"{size} bytes of weights of 33,554,432" in out
        assert re.findall(r"([\d.,]+) tokens/s at 45 MHz: .*the memory binds", out) == [*speeds]


@pytest.mark.parametrize("line, code, said", [
    ("plan smollm2-135m", 3, "134,550,640 bytes of weights of 33,554,432: too many"),
    ("plan demo --shape tiny", 2, "The weights of with-sdram are in its memory: take source=stream for the shape"),
    ("load demo --shape tiny --link sim-uart", 2, "hwgen load: error: The weights of with-sdram are in its memory: "
                                                  "take source=stream"),
    ("load demo --link verilator", 2, "Link must be sim-uart or serial:DEVICE, not 'verilator'")])
def test_what_does_not_fit(capsys, line, code, said):
    assert main([*line.split(), "--board", SDRAM.name]) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
