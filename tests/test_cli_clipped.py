"""What the residual clips is said by every command that runs a machine; and nothing where nothing is."""
import numpy as np
import pytest

from hwgen.cli import main
from hwgen.models import random_checkpoint
from model_files import ODD, write_folder


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder of a model whose numbers are a million times as large as usual."""
    folder, checkpoint = tmp_path_factory.mktemp("models") / "large", random_checkpoint(ODD)
    large = ("tokens.weight", "o_proj.weight", "down_proj.weight")
    tensors = {name: checkpoint.tensor(name) * np.float32(1e6 if name.endswith(large) else 1)
               for name in checkpoint.names()}
    write_folder(folder, tensors=tensors, tokenizer=True)
    return str(folder)


COMMANDS = {
    "run": "run {} --link golden --prompt x --max-tokens 3",
    "run with drafts": "run {} --link golden --prompt x --max-tokens 3 --speculate 2",
    "trace run": "trace run --model {} --synthetic requests=2,prompt=4,output=2 --link golden",
    "selftest": "selftest {} --link golden",
    "counters": "counters {} --link golden",
    "accuracy": "accuracy {} --tokens 30 --recipe e3m4",
}


def said(capsys, name, model, more=""):
    """(Lines of stdout, those of stderr about clipped numbers, and about what fits.)"""
    assert main([*COMMANDS[name].format(model).split(), *more.split()]) == 0
    out, err = capsys.readouterr()
    return out.splitlines(), *([line for line in err.splitlines() if words in line]
                               for words in ("clipped", "residual reaches"))


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_clipped_is_said(capsys, large, name):
    out, clipped, ranges = said(capsys, name, large, "--shape demo,residual_fraction=16")
    assert len(clipped) == 1 and clipped[0].startswith("warning: ")
    assert "residual_fraction=16 it holds numbers below 32,768 " in clipped[0]
    assert len(ranges) == (name != "accuracy")
    if name == "counters":
        assert int(next(line for line in out if line.startswith("saturated")).split()[1].replace(",", "")) > 0
    if name == "accuracy":
        assert out[1].endswith("clipped") and int(out[-1].split()[-1].replace(",", "")) > 0


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("shape", ["", "--shape demo,residual_fraction=4"])
def test_a_shape_that_fits_has_nothing_to_say(capsys, large, name, shape):
    """Nor has one that leaves it open: then what fits is taken."""
    out, *rest = said(capsys, name, large, shape)
    assert rest == [[], []] and not any("top-1" in line and line.endswith("clipped") for line in out)


def test_info_has_the_ranges(capsys, large, tmp_path):
    text = tmp_path / "text"
    text.write_text("the text")
    assert main(["info", large, "--ranges"]) == 0           # of the machine that run would take
    assert "\nall of it suits the machine" in capsys.readouterr().out
    assert main(["info", large, "--ranges", "--shape", "demo,residual_fraction=16", "--calibration", str(text)]) == 0
    out = capsys.readouterr().out
    assert "\nresidual_fraction=16 holds numbers below 32,768; 0 to " in out
    assert "\nwarning: the residual reaches " in out
    assert main(["info", large, "--calibration", str(text)]) == 2
    assert main(["info", large, "--ranges", "--calibration", str(tmp_path)]) == 2
    assert [line.partition("error: ")[2] for line in capsys.readouterr().err.splitlines() if "error: " in line] == [
        "Option --calibration needs --ranges", f"{tmp_path}: Is a directory"]
