"""A model in compensated codes: it is nearer to float32, channels are balanced without a change, and a folder keeps
it."""
import dataclasses
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from hwgen.cli import main
from hwgen.models import DEMO, ModelError, load, quantize, random_checkpoint
from hwgen.models import kept as kept_module
from hwgen.models.kept import keep, load_kept
from hwgen.models.reference import Reference
from hwgen.params.block import Project, QkNorm, dense
from hwgen.params.formats import E2M1, E3M4
from hwgen.params.hardware import HwShape
from hwgen.params.presets import recipe
from hwgen.plan import compensate as module
from hwgen.plan.accuracy import compare, golden
from hwgen.plan.compensate import calibration_texts, compensate, kept_in
from model_files import ODD, write_folder
from tools.spend_bits import OnePart

BLOCKS = {
    "llama": ({}, {}),
    "sandwich": (dict(norms="sandwich", qk_norm=QkNorm("head"), biased=("q", "k", "v", "up", "down")), {}),
    "post": (dict(norms="post", qk_norm=QkNorm("projection")), {}),
    "parallel": (dict(parallel=True, gated=False, activation="gelu", final_bias=True),
                 dict(learned_positions=True, head_bias=True, rotary_dim=0))}


def shape_of(kind, **changes):
    block, fields = BLOCKS[kind]
    return dataclasses.replace(ODD, block=dense(**block), **fields, **changes)


def made(checkpoint, text="e3m4", count=40, **options):
    """The QuantizedModel for random tokens."""
    rng = np.random.default_rng(1)
    texts = [rng.integers(0, checkpoint.shape.vocab_size, n).tolist() for n in (count, count // 2)]
    return compensate(checkpoint, recipe(text), texts, **options)[0]


def outlier(checkpoint):
    """The same function, some channels of values, up and norms hundreds of times as large and what reads them as much
    smaller."""
    size, (inner, heads) = np.float32(300), (7, 3)

    def read(name):
        values = checkpoint.tensor(name).copy()
        if name.endswith("layernorm.weight"):
            values[inner] *= size
        elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")):
            values[:, inner] /= size
        if name.endswith("up_proj.weight"):
            values[heads] *= size
        elif name.endswith("down_proj.weight"):
            values[:, heads] /= size
        return values

    return checkpoint.with_tensors(read)


def kl(checkpoint, quantized, reference=None):
    tokens = checkpoint.tokenizer.encode((DEMO / "valid.txt").read_text(encoding="utf-8"), special=False)[:300]
    model = golden(checkpoint, quantized.recipe, HwShape(context=256), quantized)
    return compare(reference or checkpoint, tokens, {"": lambda: model}, window=256, prefix=[0])[""].kl


def test_the_machine_is_nearer_to_float32():
    mini = load("mini")
    formats = recipe("weights=e4m3")        # most of it comes of weights
    assert kl(mini, compensate(mini, formats, calibration_texts(mini,
                                                                count=2000))[0]) < 0.95 * kl(mini,
                                                                                             quantize(mini, formats))


def test_outliers_cost_little():
    mini = load("mini")
    hard, texts = outlier(mini), calibration_texts(mini, count=1000)
    assert kl(hard, quantize(hard), mini) > 3 * kl(mini, quantize(mini))
    assert kl(hard, compensate(hard, recipe("e3m4"), texts)[0], mini) < 1.3 * kl(mini, quantize(mini))


@pytest.mark.parametrize("kind", BLOCKS)
def test_balanced_channels_are_the_same_model(kind, monkeypatch):
    """To the last bit."""
    monkeypatch.setattr(module, "HELPS", 10.0)      # whatever the error
    monkeypatch.setattr(module, "SHARES", (1.0,))
    found, make = [], module.balanced
    monkeypatch.setattr(module, "balanced", lambda checkpoint, powers: found.append((powers, make(checkpoint, powers)))
                        or found[0][1])
    monkeypatch.setattr(module._Balance, "found", forced(module._Balance.found))
    checkpoint = random_checkpoint(shape_of(kind))
    made(checkpoint)
    powers, other = found[0]
    assert len(powers) >= 3
    tokens = list(range(20))
    assert (Reference.of(other).logits(tokens) == Reference.of(checkpoint).logits(tokens)).all()


def forced(found):
    """`_Balance.found` that takes the last share, whatever its error."""
    def take_last(self):
        for tried in self._tried.values():
            tried[module.SHARES[-1]][1] = -1.0
        return found(self)
    return take_last


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("text", ["e4m3,head=pair", "weights=e2m1,head=e3m4,layers.1.down=e3m4"])
def test_folder_keeps_every_number(kind, text, tmp_path):
    checkpoint = random_checkpoint(shape_of(kind, tie_word_embeddings=kind == "post"))
    model = made(checkpoint, text)
    wanted = {str(recipe(text).format_of(project.name, i)) for project in model.shape.block.of(Project)
              for i in range(2)}
    assert {str(matrix.fmt) for layer in model.layers for matrix in layer.matrices().values()} == wanted
    keep(model, checkpoint, tmp_path / "kept", largest=3.5, source="a test")
    there = load(tmp_path / "kept", need_tokenizer=False)
    assert there.kept.digest == model.digest and (there.shape, there.kept.recipe,
                                                  there.largest_residual) == (model.shape, model.recipe, 3.5)
    assert quantize(there, model.recipe) is there.kept
    near, exact = (Reference.of(each).logits(list(range(10))) for each in (there, checkpoint))
    assert np.linalg.norm(near - exact) < (0.6 if "e2m1" in text else 0.15) * np.linalg.norm(exact)


def test_folder_keeps_a_tied_head_of_4_bits(tmp_path):
    checkpoint = random_checkpoint(shape_of("llama", tie_word_embeddings=True))
    model = made(checkpoint, "weights=e2m1")
    assert (model.head.fmt, model.embedding.fmt) == (E2M1, E3M4)
    assert (model.head.codes != quantize(checkpoint, model.recipe).head.codes).any()       # rounded for its inputs
    keep(model, checkpoint, tmp_path / "kept", largest=1.0, source="a test")
    there = load(tmp_path / "kept", need_tokenizer=False)
    assert there.kept.digest == model.digest and there.kept.head.fmt == E2M1


def test_a_part_in_codes_is_the_models_own(tmp_path):
    """`tools.spend_bits` puts codes of balanced channels into a model whose channels are not."""
    model = outlier(random_checkpoint(shape_of("llama")))
    keep(made(model), model, tmp_path / "kept", largest=1.0, source="a test")
    there = load_kept(tmp_path / "kept", need_tokenizer=False)
    norm = "model.layers.0.input_layernorm.weight"
    assert (there.tensor(norm) != model.tensor(norm)).any()
    parts = OnePart(model, there.tensor, [[1, 2, 3]])
    for matrix in model.shape.block.matrices:
        parts.coded = {name := f"model.layers.1.{matrix.tensor}"}
        off = parts.tensor(name) - model.tensor(name)
        assert 0 < np.linalg.norm(off) < 0.05 * np.linalg.norm(model.tensor(name)), name


def kept_mini(folder):
    mini = load("mini")
    keep(quantize(mini), mini, folder, largest=1.0, source="a test")
    return folder


@pytest.mark.parametrize("stopped_at", ["kept", ".kept.partial"])
def test_an_earlier_folder_stays_until_the_new_one_is_there(stopped_at, tmp_path, monkeypatch):
    folder, rename = kept_mini(tmp_path / "kept"), Path.rename
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def stopped(path, target):
        if path.name == stopped_at:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        kept_mini(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    monkeypatch.undo()
    assert kept_mini(folder) and [path.name for path in tmp_path.iterdir()] == ["kept"]


def flip(folder):
    data = bytearray((folder / "codes.safetensors").read_bytes())
    data[-1000] ^= 1
    (folder / "codes.safetensors").write_bytes(data)


def cut(folder):
    data = (folder / "codes.safetensors").read_bytes()
    (folder / "codes.safetensors").write_bytes(data[:-1])


def edit(change):
    def edited(folder):
        about = json.loads((folder / "quantized.json").read_text())
        change(about)
        (folder / "quantized.json").write_text(json.dumps(about))
    return edited


DAMAGES = [
    (flip, "Codes must be those that were written, of digest"), (cut, "truncated"),
    (edit(lambda about: about["exponents"].update({"head": 1})), "Codes must be those"),
    (edit(lambda about: about["exponents"].pop("head")), "damaged"),
    (edit(lambda about: about["recipe"].update({"is": "int"})), "must be one of ModelShape"),
    (edit(lambda about: about.update(version=2)), "Version must be 1, not 2"),
    (edit(lambda about: about["shape"].update(hidden_size=-1)), "Hidden size must be"),
    (edit(lambda about: about["shape"].update(hidden_size=8)), "damaged"),
    (edit(lambda about: about.pop("tokenizer")), "missing"),
    (lambda folder: (folder / "codes.safetensors").unlink(), "damaged"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "File must be a tokenizer's"),
    (lambda folder: (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " "),
     "Tokenizer must be the one"), (lambda folder: (folder / "quantized.json").write_text("{"), "JSON")]


@pytest.mark.parametrize("damage, complaint", DAMAGES)
def test_damaged_folder(damage, complaint, tmp_path):
    folder = kept_mini(tmp_path / "kept")
    damage(folder)
    with pytest.raises(ModelError, match=complaint) as error:
        load_kept(folder)
    said = str(error.value)
    assert "\n" not in said and str(tmp_path) in said and said.endswith("run hwgen quantize again")


@pytest.mark.parametrize("damage", [damage for damage, _ in DAMAGES])
def test_a_damaged_folder_is_made_anew(damage, tmp_path, monkeypatch):
    mini, texts = load("mini"), [[1, 2]]
    made = quantize(mini)
    monkeypatch.setattr("hwgen.plan.compensate.compensate", lambda *_: (made, 1.0))
    there = [kept_in(tmp_path / "kept", mini, made.recipe, texts)[1] for _ in range(2)]
    damage(tmp_path / "kept")
    there += [kept_in(tmp_path / "kept", mini, made.recipe, texts)[1] for _ in range(2)]
    assert there == [False, True, False, True] and load_kept(tmp_path / "kept").kept.digest == made.digest


def test_two_that_write_a_folder_wait_for_each_other(tmp_path, monkeypatch):
    mini, slow = load("mini"), threading.Event()
    model, write = quantize(mini), kept_module.write_safetensors
    failed = []

    def slowly(*arguments):
        slow.set()
        time.sleep(0.05)
        write(*arguments)

    def work():
        try:
            keep(model, mini, tmp_path / "kept", largest=1.0, source="a test")
        except Exception as error:
            failed.append(error)

    monkeypatch.setattr(kept_module, "write_safetensors", slowly)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
        slow.wait()
    for thread in threads:
        thread.join()
    assert not failed and load_kept(tmp_path / "kept").kept.digest == model.digest
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_program(tmp_path, capsys):
    """`hwgen quantize` keeps a model that the other commands take; the same again is nothing to do."""
    write_folder(tmp_path / "odd")
    (tmp_path / "text").write_text("The house and the garden, in the other there. " * 20)
    words = ["quantize", str(tmp_path / "odd"), "-o", str(tmp_path / "kept"), "--calibration", str(tmp_path / "text"),
             "--tokens", "200"]
    assert main(words) == 0
    first = (tmp_path / "kept/quantized.json").read_bytes()
    assert "quantizing" in capsys.readouterr().err
    assert main(words) == 0
    assert "already" in capsys.readouterr().err and (tmp_path / "kept/quantized.json").read_bytes() == first
    assert main(["run", str(tmp_path / "kept"), "--link", "golden", "--shape", "tiny", "--prompt", "the",
                 "--max-tokens", "3"]) == 0
    assert main(["accuracy", str(tmp_path / "odd"), "--quantized", str(tmp_path / "kept"), "--tokens", "60"]) == 0
    out = capsys.readouterr().out
    assert "kept " in out and "e4m3" not in out
    assert main(["info", str(tmp_path / "kept"), "--ranges", "--shape",
                 "tiny"]) == 0 and "float32 is what the codes stand for" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("words, said", [("plan {kept} --board ulx3s-85f", "fits: mini on"),
                                         ("plan engines {kept} --shape tiny", "in decode: vector_lanes=")])
def test_plan_takes_a_kept_model_in_its_formats(words, said, tmp_path, capsys):
    mini, text = load("mini"), "weights=e2m1,head=e3m4"
    keep(quantize(mini, recipe(text)), mini, tmp_path / "kept", largest=1.0, source="a test")
    out = []
    for model, more in (("mini", f" --formats {text}"), (tmp_path / "kept", "")):
        assert main((words.format(kept=model) + more).split()) == 0
        out.append(capsys.readouterr())
    assert out[0] == out[1] and said in out[0].out and "weights=e2m1" in out[0].err
    assert main((words + " --formats e3m4").format(kept=tmp_path / "kept").split()) == 2
    assert "Formats must be those" in capsys.readouterr().err


@pytest.mark.parametrize("words, complaint", [
    ("quantize {kept} -o {new}", "must be one with its own numbers"),
    ("quantize mini -o {other}", "must be new, empty or an earlier output"),
    ("quantize mini -o {other}/text", "is a file"), ("quantize mini -o {more}", "has 'notes' too"),
    ("quantize mini -o {new} --tokens 1", "at least 2, not 1"), ("quantize mini -o {new} --formats int4", "int4"),
    ("run {kept} --prompt x --link golden --formats e4m3", "Formats must be those in which"),
    ("accuracy mini --quantized mini", "must be a folder of hwgen quantize"),
    ("accuracy demo --quantized {kept}", "has another shape"),
    ("accuracy {twin} --quantized {kept}", "has other numbers"),
    ("accuracy mini --quantized {kept} --parts", "Option --parts needs --recipe"),
    ("accuracy mini --recipe weights=e2m1,head=pair", "add head=e3m4 to --formats"),
    ("accuracy mini --recipe layers.9=e2m1", "0 to 2 with mini"),
    ("quantize mini -o {new} --formats weights=e2m1,head=pair", "add head=e3m4 to --formats"),
    ("run mini --prompt x --link golden --speculate 2 --draft weights=e2m1,head=pair", "add head=e3m4 to --formats"),
    ("quantize mini -o {new} --calibration {other}/none", "No such file")])
def test_program_refuses(words, complaint, tmp_path, capsys):
    kept_mini(tmp_path / "kept")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/text").write_text("x")
    (kept_mini(tmp_path / "more") / "notes").write_text("x")
    mini = load("mini")
    keep(quantize(random_checkpoint(mini.shape)), mini, tmp_path / "twin", largest=1.0, source="random numbers")
    places = {name: tmp_path / name for name in ("kept", "twin", "more", "other", "new")}
    assert main(words.format(**places).split()) == 2
    err = capsys.readouterr().err.splitlines()
    assert complaint in err[-1] and len(err) == 1 and not places["new"].exists()
