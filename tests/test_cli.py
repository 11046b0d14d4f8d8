"""The program's commands, where they need no simulator."""
import dataclasses
import getpass
import socket
from pathlib import Path

import pytest

from hwgen.cli import main
from hwgen.host.driver import Mismatch
from hwgen.host.links.golden_link import GoldenLink
from hwgen.models import load
from hwgen.params.presets import SHAPES
from hwgen.plan.summary import facts
from model_files import write_folder
from sim.designs import small_design

COMMANDS = ("demo", "emit", "run", "trace run", "trace make", "selftest", "load", "accuracy", "quantize",
            "plan engines", "plan scale",
            "plan die", "info", "report")


def lines(capsys, command, code=0):
    """The lines of stdout and of stderr."""
    assert main(command if isinstance(command, list) else command.split()) == code
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([*command.split(), "--help"])
    out = capsys.readouterr().out
    assert f"example:\n  hwgen {command} " in out
    if command in ("emit", "run", "trace run", "selftest", "info", "plan engines"):
        assert all(f"  {name}" in out and preset.purpose in out for name, preset in SHAPES.items())


def test_help_ends_with_a_line_for_each_step(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    first, then = capsys.readouterr().out.splitlines()[-2:]
    assert first.split() == ["first:", "hwgen", "demo"] and then.startswith("then:   hwgen COMMAND --help")


def test_help_says_what_lanes_and_what_columns_are(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["emit", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert " lanes products of a dot product at once" in out and " columns dot products at once" in out


def test_what_was_taken_and_what_was_left(tmp_path, capsys):
    """Every command that reads a model warns; info says what came from where."""
    write_folder(tmp_path / "odd", config={"logit_scale": 2.0, "rope_theta": 20000.0})
    warning = (f"warning: {tmp_path / 'odd/config.json'}: not known for a llama model, and without effect here: "
               "logit_scale")
    out, err = lines(capsys, f"info {tmp_path / 'odd'}")
    assert err == [warning] and "  RoPE theta          20000.0 (rope_theta)" in out
    for command in ("plan board {} --board ulx3s-85f --shape tiny", "plan engines {} --shape tiny",
                    "run {} --link golden --prompt x --max-tokens 1"):
        assert lines(capsys, command.format(tmp_path / "odd"))[1][0] == warning, command


def test_info(capsys):
    out, err = lines(capsys, "info demo --shape batch-16x16 --formats e4m3 --head pair")
    facts = {line[:15].strip(): line[15:] for line in out}
    assert facts["parameters"] == "256,704"
    assert facts["array"] == "16 lanes x 16 columns, 8 entries a pass"
    assert facts["formats"].startswith("e4m3, LM head in pairs; probabilities e4m3")
    assert err == []


def test_report(tmp_path, capsys, monkeypatch):
    """Options and versions, and nothing that tells who asks."""
    monkeypatch.setenv("HWGEN_SEED", "12")
    write_folder(tmp_path / "secret", config={"rope_theta": 20000.0})
    out, err = lines(capsys, f"report {tmp_path / 'secret'} --shape tiny,entries=3 --formats e4m3")
    said = dict(line.split(": ", 1) for line in out[2:-1])
    assert out[0] == out[-1] == "```" and out[1].startswith("hwgen ") and err == []
    assert '"rope_theta": 20000.0' in said["model"] and '"entries": 3' in said["shape"]
    assert '"weight_format": "e4m3"' in said["formats"]
    assert "amaranth 0." in said["packages"] and "c++ " in said["programs"]
    assert (said["design"], said["seed"]) == ("accepted", "12")
    private = {str(tmp_path), "secret", str(Path.home()), getpass.getuser(), socket.gethostname()} - {"", "/"}
    assert [word for word in private if word in "\n".join(out)] == []
    assert '"overrides": ["' in lines(capsys, "report demo --formats weights=e2m1,head=e3m4")[0][-4]
    out, _ = lines(capsys, "report demo --shape demo,context=99999 --seed 3")
    assert out[-3:-1] == ["design: refused: Context 99999 must be at most the model's max_position_embeddings 256",
                          "seed: 3"]
    assert len(lines(capsys, "report --formats weights=e2m1,head=e3m4 --head single")[0]) == 8


@pytest.mark.parametrize("bias", [False, True])
def test_facts_of_a_bias_of_the_head(bias):
    design = small_design(tie_word_embeddings=False, block=dict(final_bias=True), head_bias=bias)
    assert facts(design, "")["vocabulary"] == "37, table not tied to the LM head" + ", which has a bias" * bias


def test_plan(capsys):
    out, _ = lines(capsys, "plan engines smollm2-135m --position 100")
    table = {line[:26].strip(): line[26:].split() for line in out}
    assert table["16 entries at 100"] == ["decode", "prefill", "mixed"]
    assert all(float(use.rstrip("%")) > 95 for use in table["array busy"])
    assert out[-1].startswith("fewest lanes for 95% in decode: vector_lanes=4,attention_lanes=")
    out, _ = lines(capsys, "plan engines smollm2-135m --shape batch-32x32,halves=1")
    assert float(out[2][26:].split()[0].rstrip("%")) < 95 and out[-1].startswith("no lanes give")


def test_accuracy(capsys):
    out, _ = lines(capsys, "accuracy demo --tokens 60 --recipe e3m4 --recipe e4m3,head=pair --parts")
    assert [line[:28].strip() for line in out[2:]] == [
        "float32", *(f"{fmt}, {part} only" for fmt in ("e3m4", "e4m3")
                     for part in ("weights", "activations", "Q, K and V", "probabilities")), "e3m4", "e4m3,head=pair"]


def run(capsys, more=""):
    return lines(capsys, ["run", "demo", "--link", "golden", "--prompt", "Mr. Darcy", *more.split()])


def test_run(capsys):
    out, err = run(capsys, "--max-tokens 8 --clock 50")
    assert len(out) == 1 and out[0]
    table = {line[:34].strip(): line[34:].split() for line in err if line.startswith("  ")}
    assert table["tokens"][1] == "7"      # prefill gave the first of the 8
    cycles = [float(n.replace(",", "")) for n in table["cycles per token"]]
    speed = [float(n.replace(",", "")) for n in table["tokens/s at 50 MHz, projected"]]
    assert speed[1] == pytest.approx(50e6 / cycles[1], rel=0.01)


@pytest.mark.parametrize("more, why", [
    ("--max-tokens 3", "ended after 3 tokens (--max-tokens)"),
    ("--max-tokens 10000", "ended early: the context of 32 tokens is full"),
    ("--max-tokens 10000 --speculate 3", "ended early: the context of 32 tokens is full")])
def test_it_says_why_the_text_ends(capsys, more, why):
    assert why in run(capsys, f"--shape demo,context=32 {more}")[1]


def test_it_says_that_an_end_token_came(capsys, monkeypatch):
    checkpoint = load("demo")
    checkpoint.shape = dataclasses.replace(checkpoint.shape, eos_token_ids=tuple(range(checkpoint.shape.vocab_size)))
    monkeypatch.setattr("hwgen.commands.common.load", lambda *_, **__: checkpoint)
    assert "ended by the model's end token" in run(capsys, "--max-tokens 9")[1]


def test_a_trace_says_how_many_texts_are_cut(capsys):
    command = "trace run --synthetic requests=3,prompt=20,output={} --link golden --shape demo,context=32"
    full = "3 of 3 requests ended early: the context of 32 tokens is full"
    assert full in lines(capsys, command.format(30))[1] and full not in lines(capsys, command.format(3))[1]


def test_a_shape_that_cuts_the_context_says_so(capsys):
    short, whole = (run(capsys, f"--max-tokens 1 --shape {shape}")[1][0] for shape in ("tiny", "tiny,context=256"))
    assert "1 slot of 64 tokens (the model's context is 256: context=256 in --shape for all of it), e3m4" in short
    assert "1 slot of 256 tokens, e3m4" in whole


@pytest.mark.parametrize("more, clock", [("", 60), ("--mhz 30", 30), ("--clock 70", 70)])
def test_a_boards_speed_is_projected_at_its_clock(capsys, monkeypatch, more, clock):
    """The board's link is the golden model here: only the clock matters."""
    def link(screen, options, design, quantized, faults):
        return GoldenLink(design, quantized)
    monkeypatch.setattr("hwgen.commands.links.board_link", link)
    monkeypatch.setattr("hwgen.commands.links.check_simulator", lambda: None)
    _, err = lines(capsys, ["run", "demo", "--link", "sim-uart", "--prompt", "x", "--max-tokens", "2", *more.split()])
    assert any(line.startswith(f"  tokens/s at {clock} MHz, projected") for line in err)


def test_a_narrow_terminal_loses_nothing(capsys, monkeypatch):
    """Tables are results: they are not cut to $COLUMNS."""
    command = "trace run --synthetic requests=2,prompt=3 --link timing"
    wide = lines(capsys, command)[0]
    monkeypatch.setenv("COLUMNS", "1")
    assert [line.split() for line in lines(capsys, command)[0]] == [line.split() for line in wide] and len(wide) > 9
    assert any("projected" in line for line in run(capsys, "--max-tokens 2")[1])


def test_what_entries_of_a_pass_change(capsys):
    one, few = run(capsys, "--max-tokens 12 --shape demo,entries=1"), run(capsys, "--max-tokens 12")
    assert one[0] == few[0] and one[1] != few[1]


def test_temperature_and_seed(capsys):
    texts = [run(capsys, f"--max-tokens 20 {more}")[0]
             for more in ("", "--temperature 1 --seed 1", "--temperature 1 --seed 1", "--temperature 1 --seed 2")]
    assert texts[1] == texts[2] and len({tuple(t) for t in texts}) == 3


def test_a_difference_is_one_line_and_exit_code_1(capsys, monkeypatch):
    def differs(*_):
        raise Mismatch("pass 3: layer 1, entry 0")
    monkeypatch.setattr("hwgen.host.links.golden_link.GoldenLink.run_pass", differs)
    _, err = lines(capsys, "run demo --link golden --prompt x", code=1)
    assert err[-1] == "hwgen run: failed: pass 3: layer 1, entry 0"
