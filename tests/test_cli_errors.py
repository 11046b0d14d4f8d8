"""Wrong input: one line on stderr, exit code 2, nothing on stdout and nothing written."""
import dataclasses
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from hwgen.cli import main
from hwgen.lib.workdir import MARK, sweep
from model_files import ODD, write_folder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with models in it, most of them broken. No test changes it."""
    folder = tmp_path_factory.mktemp("library")
    write_folder(folder / "good")
    write_folder(folder / "mute", tokenizer=False)

    write_folder(folder / "cut")
    weights = folder / "cut/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    write_folder(folder / "bloom", config={"architectures": ["BloomForCausalLM"], "model_type": "bloom"})

    tensors = write_folder(folder / "nan")
    tensors["model.layers.1.mlp.up_proj.weight"] = tensors["model.layers.1.mlp.up_proj.weight"].copy()
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    write_folder(folder / "nan", tensors=tensors)

    del tensors["model.norm.weight"]
    write_folder(folder / "holes", tensors=tensors)
    write_folder(folder / "liar", config={"intermediate_size": 100})
    write_folder(folder / "heads", config={"num_attention_heads": 4, "num_key_value_heads": 3})
    # some seconds of text on the golden model, and no token that ends it
    write_folder(folder / "slow", dataclasses.replace(ODD, num_hidden_layers=30, eos_token_ids=()))
    (folder / "empty").mkdir()
    (folder / "letter").mkdir()
    (folder / "letter/config.json").write_text("Dear Sir")
    (folder / "noise.gguf").write_bytes(b"GGUF" + bytes(range(200)))
    (folder / "text.gguf").write_text("not a model at all")
    writer = gguf.GGUFWriter(folder / "half.gguf", "llama")
    writer.add_name("half")
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.close):
        step()
    (folder / "theirs").mkdir()
    (folder / "theirs/thesis.tex").write_text("years of work")
    (folder / "file").write_text("x")
    (folder / "surrogate.jsonl").write_text('{"text": "\\ud800", "output_length": 1}\n')
    return folder


@pytest.fixture
def models(library, tmp_path, monkeypatch):
    """The library as the current folder."""
    monkeypatch.chdir(library)
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path))
    return library


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


EMIT, RUN = "emit {} -o out", "run {} --link golden --prompt hello"
WRONG = {
    "no model": (EMIT.format("nowhere"), "nowhere: Model must be a folder .* not missing"),
    "empty folder": (EMIT.format("empty"), "config.json is missing"),
    "config is no JSON": (EMIT.format("letter"), "must be JSON"),
    "truncated weights": (EMIT.format("cut"), "model.safetensors: File must be .* truncated"),
    "another architecture": (EMIT.format("bloom"), "Model type must be one that .* not 'bloom': it has no ALiBi"),
    "NaN": (EMIT.format("nan"), r"model.layers.1.mlp.up_proj.weight must be finite, not nan at \[3, 4\]"),
    "missing tensor": (EMIT.format("holes"), "model.norm.weight is missing"),
    "shapes disagree": (EMIT.format("liar"), r"must be \[100, 72\] by the configuration, not \[200, 72\]"),
    "heads do not divide": (EMIT.format("heads"), "Head count 4 must be a multiple of KV head count 3"),
    "no tokenizer": (RUN.format("mute"), "tokenizer.json is missing"),
    "damaged GGUF": (EMIT.format("noise.gguf"), "noise.gguf: File must be whole GGUF"),
    "not GGUF": (EMIT.format("text.gguf"), "text.gguf: File must be GGUF"),
    "GGUF without metadata": (EMIT.format("half.gguf"), "half.gguf: .* is missing"),
    "no lanes": (EMIT.format("good --shape lanes=0"), "Lane count must be a power of two, at least 1, not 0"),
    "twelve lanes": (EMIT.format("good --shape lanes=12"), "Lane count must be a power of two, at least 1, not 12"),
    "no shape": (["emit", "good", "-o", "out", "--shape", ""], "Shape must be a name or field=value"),
    "prompt of bytes that are no letters": (RUN.format("good").replace("hello", "\udcff"),
                                            r"Prompt must be UTF-8, not with '\\udcff' in it"),
    "trace of what is no letter": ("trace run surrogate.jsonl --model good --link golden",
                                   r"surrogate.jsonl:1: Line must be JSON \(half of a surrogate pair\)"),
    "text of a device": ("accuracy good --text /dev/zero", "/dev/zero: Text must be a file, not a device"),
    "trace of a device": ("trace run /dev/zero --model good --link golden",
                          "/dev/zero: Trace must be a file, not a device"),
    "text of a folder": ("accuracy good --text empty", "empty: Is a directory"),
    "report into a folder": ("trace run --synthetic prompt=3 --model good --link golden --json empty",
                             "empty: Is a directory"),
    "no formats": (["emit", "good", "-o", "out", "--formats", ""], "Format must be a name or field=value"),
    "clock of no board": (RUN.format("good") + " --mhz 50",
                          "Option --mhz is the clock of a board's machine: give --clock"),
    "board of no board's machine": (RUN.format("good") + " --board ulx3s-12f",
                                    "Option --board needs --link sim-uart or serial:DEVICE"),
    "drafts of no speculation": (RUN.format("good") + " --draft e4m3", "Option --draft needs --speculate K"),
    "text of an empty name": (["accuracy", "good", "--text", ""], "Option --text must not be empty"),
    "calibration of an empty name": (["info", "good", "--ranges", "--calibration", ""],
                                     "Option --calibration must not be empty"),
    "waveform of an empty name": (["run", "good", "--prompt", "x", "--trace", ""], "Option --trace must not be empty"),
    "report over the trace": ("trace run --model good --link golden file --json ./file", "must be different files"),
    "report and picture in one": (
        "trace run --synthetic prompt=3 --model good --link golden --json x.svg --picture x.svg",
        "must be different files"),
    "unknown shape": (EMIT.format("good --shape enormous"), "Shape must be one of tiny, .* not 'enormous'"),
    "unknown format": (EMIT.format("good --formats int4"), "one of e3m4, e4m3, not 'int4'"),
    "more context than the model has": (EMIT.format("good --shape context=1000"),
                                        "Context 1000 must be at most .* 128"),
    "output is not ours": ("emit good -o theirs", "theirs"),
    "output is a file": ("emit good -o file", "file"),
    "output cannot be made": ("emit good -o file/out", "file"),
    "name is no identifier": ("emit good -o out --name 1x", "name .*'1x'"),
    "no output": ("emit good", "required: -o"),
    "prompt too long": ("run good --link golden --prompt " + "x" * 200,
                        "Prompt must be shorter than the context of 128 tokens, not 200"),
    "no prompt": ("run good --link golden", "required: --prompt"),
    "temperature of a greedy shape": (RUN.format("good --shape tiny") + " --temperature 0.7",
                                      "Temperature must be 0, not 0.7: .* sampler=gumbel"),
    "negative temperature": (RUN.format("good") + " --temperature -1", "Temperature must be 0, or"),
    "no tokens wanted": (RUN.format("good") + " --max-tokens 0", "Token count must be at least 1, not 0"),
    "stalls of a ROM": ("run good --prompt x --stall 0.1", "Stalls need weights that come from outside"),
    "seed of 33 bits": (RUN.format("good") + " --seed 4294967296", "Seed must be 0 to"),
    "no clock": (RUN.format("good") + " --clock 0", "Clock must be above 0 MHz, not 0"),
    "trace of golden": (RUN.format("good") + " --trace x.vcd", "Link golden"),
    "waveform of another kind": ("run good --prompt x --trace x.gtkw",
                                 "Waveform must be a .vcd or .fst file, not 'x.gtkw'"),
    "window without a waveform": ("run good --prompt x --trace-window passes=1",
                                  "Signals and window must be a waveform's: add --trace FILE"),
    "signals without a waveform": ("run good --prompt x --trace-signals all",
                                   "Signals and window must be a waveform's: add --trace FILE"),
    "window of nonsense": ("run good --prompt x --trace x.vcd --trace-window colour=red",
                           "Window must be cycles=LOW:HIGH, .* not 'colour=red'"),
    "trace into nowhere": ("run good --prompt x --trace no/x.vcd", "no/x.vcd: No such file"),
    "fault that is none": ("selftest good --inject weight:1", "Fault must be weight:BEAT:BYTE:BIT, not 'weight:1'"),
    "fault outside": ("selftest good --inject weight:99999999:0:0", "Weight beat must be 0 to"),
    "text is missing": ("accuracy good --text poem.txt", "poem.txt: No such file"),
    "text is too short": ("accuracy good --text file", "at least 2 tokens"),
    "no window": ("accuracy good --window 0", "Window must be [0-9] to the model's context 128, not 0"),
    "window of one prediction's prefix": ("accuracy demo --window 2",
                                          "Window must be 3 to the model's context 256, not 2"),
    "speculation with one entry": (RUN.format("good") + " --shape tiny --speculate 2",
                                   "Speculation needs more than 1 entry a pass: add entries=N"),
    "more drafts than entries": (RUN.format("good") + " --speculate 4", "Speculation must be 1 to 3 tokens"),
    "draft of an unknown format": (RUN.format("good") + " --speculate 2 --draft int4", "one of e3m4, e4m3, not 'int4'"),
    "no trace": ("trace run --model good --link golden", "Trace must be a file or --synthetic SPEC"),
    "two traces": ("trace run file --synthetic requests=2 --link golden", "Trace must be a file or --synthetic SPEC"),
    "trace that is none": ("trace run file --model good --link golden", "file:1: Line must be JSON"),
    "trace is missing": ("trace run nowhere --model good --link golden", "nowhere: No such file"),
    "synthetic trace of nonsense": ("trace make colour=red -o x.jsonl",
                                    "Synthetic trace must be requests=..., .* not 'colour=red'"),
    "synthetic trace without length": ("trace make prompt=0 -o x.jsonl", "Length must be N, LOW:HIGH or ~MEAN"),
    "trace into nowhere to be made": ("trace make requests=2 -o no/x.jsonl", "no/x.jsonl: No such file"),
    "request that does not fit": ("trace run --synthetic prompt=200 --model good --link golden",
                                  "request 0: Prompt must be shorter than .* 128"),
    "unknown policy": ("trace run --synthetic prompt=3 --model good --link golden --policy best",
                       "Policy must be an order .* not 'best'|Order must be"),
    "no KV blocks": ("trace run --synthetic prompt=3 --model good --link golden --blocks 0",
                     "KV blocks must be 1 to 32, not 0"),
    "picture of another kind": ("trace run --synthetic prompt=3 --model good --link golden --picture x.png",
                                "Picture must be a .svg file"),
    "checked prediction": ("trace run --synthetic prompt=3 --model good --link timing --check",
                           "Link timing has no --check"),
    "unknown assumption": ("plan scale --set colour=red",
                           "Assumption must be one of split, chips, .* not 'colour=red'"),
    "assumption that is no number": ("plan scale --set chips=many", "chips must be a number, not 'many'"),
    "chips that do not divide": ("plan scale --set chips=7", "Chips of a tensor split must divide 8 KV heads"),
    "more entries than are worked out": ("plan scale --set entries=999999999",
                                         "Entries must be 32 to 16384, not 999999999"),
    "assumption that floats do not hold": ("plan scale --set clock_ghz=1e300",
                                           "clock_ghz must be 1e-09 to 1e.15, not 1e.300"),
    "no entries": ("plan scale --sweep entries=0:64", "entries must be above 0, not 0"),
    "columns behind the heads": ("plan demo --board ulx3s-85f --shape tiny,columns=1024",
                                 "Column count must leave at most 62 columns without a head behind the 128 outputs"),
    "die without a speed": ("plan die demo", "required: --tokens-per-second"),
    "die that none can be": ("plan die demo --tokens-per-second 1e9",
                             r"Tokens a second must be (at most [\d,]+|fewer than 1,000,000,000) for 1 user"),
    "die of nobody": ("plan die demo --tokens-per-second 9 --users 0", "Users must be 1 to 256, not 0"),
    "die of a longer context": ("plan die demo --tokens-per-second 9 --context 257",
                                "Context must be 2 to 256, not 257"),
    "die with a tile of twelve lanes": ("plan die demo --tokens-per-second 9 --set tile_lanes=12",
                                        "tile_lanes must be a power of two, at least 2, not 12"),
    "die with all time for adapters": ("plan die demo --tokens-per-second 9 --set adapter_time=1",
                                       "adapter_time must be below 1, not 1"),
    "no command": ("", "required: COMMAND"),
    "unknown command": ("bake good", "invalid choice"),
}


@pytest.mark.parametrize("line, complaint", WRONG.values(), ids=WRONG)
def test_wrong_input(models, capsys, line, complaint):
    before = tree(models)
    assert main(line if isinstance(line, list) else line.split()) == 2
    out, err = capsys.readouterr()
    *_, last = err.splitlines()
    assert out == "" and "Traceback" not in err and last.startswith("hwgen")
    assert re.search(complaint, last), last
    assert tree(models) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_that_is_read_only(models, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert main(["emit", "good", "-o", f"{tmp_path}/locked/out"]) == 2
    assert "locked/out: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["trace make requests=900 -o {}", "plan scale --json {}",
                                  "trace run --synthetic requests=9,prompt=3,output=1 --link timing --json {}"])
def test_a_disk_that_is_full_keeps_what_was_there(tmp_path, capsys, line):
    (tmp_path / "x").write_text("of last week")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        assert main(line.format(tmp_path / "x").split()) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capsys.readouterr().err.splitlines()[-1].endswith("x: File too large")
    assert tree(tmp_path) == {"x": b"of last week"}


STOPS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]


@pytest.mark.parametrize("line", ["run good --prompt x", "selftest good", "demo"])
def test_a_missing_compiler(models, capsys, monkeypatch, line):
    monkeypatch.setenv("PATH", str(models))
    before = tree(models)
    assert main(line.split()) == 2
    assert capsys.readouterr().err == (f"hwgen {line.split()[0]}: error: Verilator needs make on the PATH "
                                       "(Debian: apt-get install g++ make)\n")
    assert tree(models) == before


def test_a_cache_that_cannot_be_written(models, capsys, monkeypatch):
    monkeypatch.setenv("HWGEN_CACHE", "file/cache")
    assert main("run good --prompt x".split()) == 2
    assert capsys.readouterr().err == ("hwgen run: error: file/cache: Cache must be a folder that can be written "
                                       "and has room (HWGEN_CACHE names another), not this one: Not a directory\n")


def test_a_cache_that_is_full(models, capsys, tmp_path):
    """Of a size that no file may have, which a program sees as it sees a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        assert main("run good --prompt x".split()) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert re.fullmatch(r"hwgen run: error: .*Cache must be .* not this one: File too large\n", capsys.readouterr().err)
    assert [path.name for path in tmp_path.rglob("*")] == ["models"]


@pytest.mark.parametrize("stream, code, words", [
    (">&-", 1, "failed: stdout: Bad file descriptor"), (">/dev/full", 1, "failed: stdout: No space left on device"),
    ("2>&-", 0, ""), ("2>/dev/full", 0, "")])
@pytest.mark.parametrize("line", ["plan scale", "trace make requests=1 -o {}", "--help"])
def test_streams_that_take_nothing(tmp_path, stream, code, words, line):
    """What cannot be said is no success, and no traceback, not when the interpreter ends either."""
    command = f"{sys.executable} -m hwgen {line.format(tmp_path / 'x')} {stream}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == code and done.stderr.count("\n") == code, done.stderr
    assert done.stderr.endswith(words + "\n" * code), done.stderr
    assert bool(done.stdout) != code


def test_letters_that_the_terminal_lacks(tmp_path):
    done = subprocess.run([sys.executable, "-m", "hwgen", "run", "demo", "--link", "golden", "--max-tokens",
                           "1", "--prompt",
                           "x", "--shape",
                           "tiny,\u00e9=1"], capture_output=True,
                           env=dict(os.environ, PYTHONPATH=str(ROOT), PYTHONIOENCODING="ascii"))
    assert done.returncode == 2 and done.stderr.endswith(b"not '\\xe9'\n")


@pytest.mark.parametrize("number, code, word", [*STOPS, (signal.SIGHUP, 129, "terminated")])
def test_interrupted_in_an_import(tmp_path, number, code, word):
    """Before anything is under way: of numpy, in an import that drops what is raised."""
    (tmp_path / "numpy.py").write_text("import time\nprint('here', flush=True)\n"
                                       "try:\n    time.sleep(60)\nexcept BaseException:\n    pass\n")
    process = start("--help", path=f"{tmp_path}:{ROOT}")
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", f"hwgen: {word}\n")


@pytest.mark.parametrize("command, place, prefix", [("emit slow -o {}/new/machine", "new", ".machine-"),
                                                    ("run slow --prompt hello", "", "run-")])
def test_what_kill_9_leaves_goes_with_the_next_run(models, tmp_path, command, place, prefix):
    place = tmp_path / place
    process = start(*command.format(tmp_path).split())
    wait_for(lambda: list(place.glob(f"{prefix}*/{MARK}")))
    (place / f"{prefix}notes123").mkdir()
    sweep(place, prefix)            # as another run does at its start: a living one's stays
    left = [path.parent for path in place.glob(f"{prefix}*/{MARK}")]
    assert len(left) == 1 and process.poll() is None
    process.kill()
    process.communicate()
    assert left[0].exists()
    sweep(place, prefix)
    assert [path.name for path in place.glob(f"{prefix}*")] == [f"{prefix}notes123"]



def start(*words, path=ROOT, **more):
    """The program in a process of its own, as a shell starts it."""
    return subprocess.Popen([sys.executable, "-m", "hwgen", *words], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True,
                            env=dict(os.environ, PYTHONPATH=str(path)), **more,
                            preexec_fn=_heed)


def _heed():
    """A shell's background jobs ignore Ctrl-C, those of nohup the end of the terminal, and what they start does too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def interrupt_after(process, line, number=signal.SIGINT):
    """Ctrl-C, or another signal, half a second after that line on stderr."""
    assert line in iter(process.stderr.readline, "") and process.poll() is None
    time.sleep(0.5)
    process.send_signal(number)


def test_a_wrong_input_has_one_line(models):
    process = start("emit", "cut", "-o", "out")
    out, err = process.communicate()
    assert process.returncode == 2 and out == "" and len(err.splitlines()) == 1


def test_a_bug_keeps_its_traceback(models, monkeypatch):
    def broken(*_):
        raise ValueError("a bug")
    monkeypatch.setattr("hwgen.commands.common.quantize", broken)
    with pytest.raises(ValueError, match="a bug"):
        main(["run", "good", "--link", "golden", "--prompt", "x"])


@pytest.mark.parametrize("number, code, word", STOPS)
def test_interrupted_in_a_finalizer(models, monkeypatch, capsys, number, code, word):
    """Python drops exceptions there, Ctrl-C's too."""
    class Deaf:
        def __del__(self):
            signal.raise_signal(number)

    def interrupted(*_):
        Deaf()
        time.sleep(30)
        pytest.fail("Ctrl-C was not heard")
    monkeypatch.setattr("hwgen.commands.common.quantize", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)       # a background job's is ignored
    try:
        assert main(["run", "good", "--link", "golden", "--prompt", "x"]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.splitlines()[-1] == f"hwgen run: {word}"


def test_interrupted_while_it_writes_text(models):
    process = start("run", "slow", "--link", "golden", "--prompt", "hello", "--max-tokens", "100")
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "hwgen run: interrupted" and "Traceback" not in err


@pytest.mark.parametrize("number, code, word", STOPS)
def test_interrupted_while_it_emits(models, tmp_path, number, code, word):
    out = tmp_path / "machine"
    process = start("emit", "good", "-o", str(out))
    interrupt_after(process, f"emitting Verilog into {out}\n", number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code and err == f"hwgen emit: {word}\n"
    assert tree(tmp_path) == {}


def test_interrupted_while_it_replaces(models, tmp_path):
    out = tmp_path / "machine"
    assert main(["emit", "good", "-o", str(out), "--shape", "tiny"]) == 0
    before = tree(tmp_path)
    process = start("emit", "good", "-o", str(out), "--shape", "tiny", "--formats", "e4m3")
    interrupt_after(process, f"emitting Verilog into {out}\n")
    process.communicate(timeout=60)
    assert process.returncode == 130 and tree(tmp_path) == before
