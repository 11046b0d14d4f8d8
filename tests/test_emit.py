"""Emitted projects: the same bytes every time, whole or not at all, and nobody else's files harmed."""
import hashlib
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from hwgen.emit import EmitError, check_output, emit, project
from hwgen.emit.testbench import _expected
from hwgen.lib import verilator
from hwgen.models import quantize, random_checkpoint
from hwgen.models.adapter_codes import pack_adapter, random_adapter
from hwgen.models.pack import pack
from hwgen.params.block import dense
from hwgen.top import make
from sim.designs import small_design
from sim.passes import random_model
from tests.emitted import check_ipxact, check_packaging, check_ports, check_template, emit_small

ROOT = Path(__file__).resolve().parent.parent
EMIT_AGAIN = """
import sys
from tests.emitted import emit_small
emit_small("chip", sampler="gumbel")
"""


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emit") / "out" / "chip"
    return folder, *emit_small(folder, sampler="gumbel")


def test_a_decoder(decoder):
    folder, design, _ = decoder
    about = json.loads((folder / "manifest.json").read_text())
    assert sorted(contents(folder)) == sorted(about["files"])
    assert list(folder.parent.iterdir()) == [folder]
    assert about["derived"]["acc_bits"] == design.acc_bits
    assert about["derived"]["o_matmul"]["n_tiles"] == design.matmul("o").n_tiles
    assert about["recipe"]["weight_format"] == "e3m4"
    assert about["ports"]["seed"] == {"direction": "input", "width": 32, "text": "of the sampler's noise: any",
                                      "payload": {"offset": 0, "width": 32}}
    command = about["ports"]["command__payload"]
    assert command["direction"] == "input" and list(command["payload"]["fields"]) == ["slot", "position", "token",
                                                                                      "want", "last",
                                                                                      "none", "key"]
    for port in about["ports"].values():
        assert port.get("payload", port)["width"] == port["width"]
        fields = list(port.get("payload", {}).get("fields", {}).values())
        ends = [f["offset"] + f["width"] for f in fields]
        assert [f["offset"] for f in fields] == [0, *ends][:len(fields)]
    verilator.lint(folder / "chip.v", "chip")


def test_packaging(decoder):
    said = check_packaging(decoder[0], "chip")
    assert {"get_files chip_rom.hex", "set_property value ACTIVE_HIGH ", "ipx::save_core "} <= set(said)


def test_ports_and_template(decoder, tmp_path):
    check_ports(decoder[0], "chip")
    check_template(decoder[0], "chip", tmp_path)


def test_ipxact(decoder):
    root = check_ipxact(decoder[0], "chip")
    assert [node.findtext("{*}value") for node in root.iter("{*}moduleParameter")] == ['"chip_rom.hex"']


def test_names_no_place_and_no_time(decoder):
    folder, *_ = decoder
    for file, data in contents(folder).items():
        for word in (str(folder.parent), str(ROOT), str(Path.home()) + "/", os.sep + "tmp"):
            assert word.encode() not in data, file


def test_another_process_writes_the_same_bytes(decoder, tmp_path):
    folder, *_ = decoder
    subprocess.run([sys.executable, "-c", EMIT_AGAIN], cwd=tmp_path, check=True,
                   env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT),
                        "AMARANTH_USE_YOSYS": "system"})
    assert contents(tmp_path / "chip") == contents(folder)


def test_the_core_is_yaml(decoder):
    yaml = pytest.importorskip("yaml")
    folder, *_ = decoder
    core = yaml.safe_load((folder / "chip.core").read_text().split("\n", 1)[1])
    assert core["filesets"]["rtl"]["files"] == [{"chip.v": {"file_type": "verilogSource-2005"}},
                                                {"chip_rom.hex": {"file_type": "user", "copyto": "chip_rom.hex"}}]
    assert {name: target["toplevel"] for name, target in core["targets"].items()} == {
        "default": "chip", "lint": "chip", "sim": "chip_tb", "sim_verilator": "chip_tb", "synth_ecp5": "chip",
        "synth_xilinx": "chip"}


def test_rom_image(tmp_path):
    design, quantized = emit_small(tmp_path / "a", component=make.rom_source, tile_beats=2)
    lines = (tmp_path / "a/chip_rom.hex").read_text().splitlines()
    rows = np.array([list(bytes.fromhex(line))[::-1] for line in lines], np.uint8)
    assert (rows == pack(quantized, design)).all()
    about = json.loads((tmp_path / "a/manifest.json").read_text())
    assert about["weights"]["sha256"] == hashlib.sha256((tmp_path / "a/chip_rom.hex").read_bytes()).hexdigest()
    assert about["weights"]["macro"] in (tmp_path / "a/chip.v").read_text()


TWO = """\
module soc;
  one #(.ROM_FILE("one/one_rom.hex")) one ();
  two #(.ROM_FILE("two/two_rom.hex")) two ();
  initial #1 $display("%h %h", one.rom.memory.rows[0], two.rom.memory.rows[0]);
endmodule
"""


@pytest.mark.skipif(not shutil.which("iverilog"), reason="Icarus Verilog is not installed")
def test_two_machines_in_one_chip_from_another_folder(tmp_path):
    first = []
    for name, seed in (("one", 1), ("two", 2)):
        design = small_design(tile_beats=2)
        quantized = quantize(random_checkpoint(design.model, seed=seed), design.recipe)
        emit(design, quantized, tmp_path / name, name=name, component=make.rom_source)
        first.append((tmp_path / name / f"{name}_rom.hex").read_text().split()[0])
    (tmp_path / "soc.v").write_text(TWO)
    subprocess.run(["iverilog", "-g2005", "-o", "soc", "soc.v", "one/one.v", "two/two.v"], cwd=tmp_path, check=True)
    said = subprocess.run([str(tmp_path / "soc")], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert said.split() == first and first[0] != first[1]
    assert not set(contents(tmp_path / "one")) & set(contents(tmp_path / "two")) - {"manifest.json", "README.md"}


@pytest.fixture(scope="module", ids=["8 bits", "5 bits, two half-batches", "over logic"],
                params=[{}, dict(formats="weights=e2m1", tie_word_embeddings=False, entries=4, halves=2),
                        dict(source="wired", entries=1)])
def adapted(tmp_path_factory, request):
    """A machine with two adapters beside it, and one of them."""
    design = small_design(**dict(lanes=2, columns=2, vector_lanes=2, attention_lanes=2, num_hidden_layers=1,
                                 hidden_size=8, intermediate_size=6, adapters=3, adapter_rank=2) | request.param)
    folder, adapters = tmp_path_factory.mktemp("adapted"), [random_adapter(design, seed) for seed in (1, 2)]
    emit(design, quantize(random_checkpoint(design.model), design.recipe), folder / "chip", name="chip",
         adapters=adapters)
    return folder / "chip", design, adapters


def test_adapters(adapted):
    folder, design, adapters = adapted
    about = json.loads((folder / "manifest.json").read_text())
    assert sorted(contents(folder)) == sorted(about["files"])
    for image, adapter in zip(about["adapters"]["images"], adapters, strict=True):
        data = (folder / image["image"]).read_bytes()
        assert data == pack_adapter(adapter, design).tobytes() and hashlib.sha256(data).hexdigest() == image["sha256"]
        assert len(data) == about["adapters"]["beats"] * about["adapters"]["bytes_per_beat"]
    assert list(about["ports"]["adapter__payload"]["payload"]["fields"]) == ["adapter", "first", "data"]
    assert "`chip_adapter1.bin`, `chip_adapter2.bin`" in (folder / "README.md").read_text()
    check_ports(folder, "chip")
    check_ipxact(folder, "chip")


@pytest.mark.skipif(not shutil.which("iverilog"), reason="Icarus Verilog is not installed")
def test_the_testbench_loads_an_adapter(adapted, tmp_path):
    folder = shutil.copytree(adapted[0], tmp_path / "chip")
    subprocess.run(["iverilog", "-g2005", "-o", "sim", "chip_tb.v", "chip.v"], cwd=folder, check=True)
    said = subprocess.run(["./sim"], cwd=folder, capture_output=True, text=True).stdout
    assert "PASS: chip: 2 passes" in said
    shutil.copy(folder / "chip_adapter2.bin", folder / "chip_adapter1.bin")
    assert "FAIL: chip: pass 1: " in subprocess.run(["./sim"], cwd=folder, capture_output=True, text=True).stdout


def test_stream_image(tmp_path):
    design, quantized = emit_small(tmp_path / "a", component=make.rom_source, source="stream", head="pair")
    assert (tmp_path / "a/chip_weights.bin").read_bytes() == pack(quantized, design).tobytes()
    assert not (tmp_path / "a/chip_rom.hex").exists()


def test_the_manifest_says_where_vectors_of_a_record_are(tmp_path):
    design = small_design(block=dense(biased=("o", "down"), norms="sandwich"))
    _, quantized = emit_small(tmp_path / "chip", component=make.rom_source, block=design.block)
    weights = json.loads((tmp_path / "chip" / "manifest.json").read_text())["weights"]
    assert list(weights["records"]) == ["norm_1", "norm_2"]
    words = pack(quantized, design).view("<u2")
    for norm, vector in (("norm_1", "o_bias"), ("norm_2", "down_bias")):
        record, lanes = weights["records"][norm], design.hw.vector_lanes
        granules = record["granules"]
        start = lanes * (granules["exponents"] + granules["gains"])
        found = words[weights["body"] + weights["layer"]
                      + record["beat"]:][:record["beats"]].reshape(-1)[start:start + lanes * granules[vector]]
        bias = getattr(quantized.layers[1], vector)
        assert bias.any() and np.array_equal(found[:len(bias)], bias)


def test_an_earlier_output_is_replaced_and_other_files_stay(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    emit_small(out, name="old", component=make.rom_source)
    (out / "notes.txt").write_text("mine")
    (out / "obj_dir").mkdir()
    (out / "obj_dir/model.o").write_text("mine too")
    emit_small(out, name="second", component=make.rom_source)
    found = contents(out)
    assert {"second.v", "second.core", "notes.txt", "obj_dir/model.o"} <= set(found)
    assert not {"old.v", "old.core", "old.f"} & set(found)
    assert found["notes.txt"] == b"mine"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link(tmp_path, there):
    if there:
        (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    emit_small(tmp_path / "out", component=make.rom_source)
    assert (tmp_path / "out").is_symlink() and (tmp_path / "disk/chip.v").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
@pytest.mark.parametrize("where", ["emit_design", "write_image", "_readme", "_core"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, where, error):
    def fail(*args, **more):
        raise error

    out = tmp_path / "out"
    emit_small(out, component=make.rom_source)
    before = contents(tmp_path)
    monkeypatch.setattr(project, where, fail)
    for folder in (out, tmp_path / "new"):
        with pytest.raises(error):
            emit_small(folder, component=make.rom_source, entries=1)
    assert contents(tmp_path) == before and sorted(tmp_path.iterdir()) == [out]


def test_a_failed_move_is_undone(tmp_path, monkeypatch):
    out = tmp_path / "out"
    emit_small(out, component=make.rom_source)
    before = contents(tmp_path)
    rename = Path.rename

    def fail(path, target):
        if path.name == "project":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        emit_small(out, component=make.rom_source, entries=1)
    assert contents(tmp_path) == before


@pytest.fixture
def replaced(tmp_path, monkeypatch):
    """An output with somebody's files; before each move of the next emit a function is called with (path, target)."""
    out, rename, calls = tmp_path / "out", Path.rename, []
    emit_small(out, component=make.rom_source)
    for name in "a", "m", "z":
        (out / name).write_text("mine")

    def watched(path, target):
        for call in calls:
            call(path, Path(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watched)
    return out, calls


def test_what_cannot_be_moved_is_not_lost(tmp_path, replaced):
    out, calls = replaced

    def fail(path, target):
        if path.name == "m" and target.parent == out:
            raise OSError(16, "Device or resource busy")

    before = contents(tmp_path)
    calls.append(fail)
    with pytest.raises(OSError, match="busy"):
        emit_small(out, component=make.rom_source, entries=1)
    assert contents(tmp_path) == before and sorted(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("move", ["project", "z"])
def test_stopped_between_two_moves(tmp_path, replaced, number, move):
    """With a thread that gets the signals which the main one masks, as numpy and progress bars have."""
    out, calls = replaced
    handler, done = signal.getsignal(number), threading.Event()

    def stop(path, target):
        if path.name == move:
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    def interrupt(*_):
        raise KeyboardInterrupt

    calls.append(stop)
    signal.signal(number, interrupt)
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            emit_small(out, component=make.rom_source, entries=1)
    finally:
        done.set()
        other.join()
        signal.signal(number, handler)
    assert {"chip.v", "manifest.json", "a", "m", "z"} <= set(contents(out)) and sorted(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name, complaint", [("1x", "'1x'"), ("a-b", "'a-b'"),
                                             ("output", "no keyword, not 'output'"), ("", "''"),
                                             ("é", "é")])
def test_names_refused(tmp_path, name, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_output(tmp_path / "out", name)
    with pytest.raises(EmitError, match=complaint):
        emit_small(tmp_path / "out", name=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("manifest", [None, "not JSON", "[]", '{"generator": "another program", "files": {}}',
                                      '{"files": []}',
                                      "[" * 100_000,
                                      '{"generator": "hwgen", "files": {}}', '{"generator": {"hwgen": 1}, "files": {}}',
                                      "9" * 5000])
def test_other_peoples_folders_are_refused(tmp_path, manifest):
    (tmp_path / "thesis.tex").write_text("years of work")
    if manifest:
        (tmp_path / "manifest.json").write_text(manifest)
    before = contents(tmp_path)
    with pytest.raises(EmitError, match="must be new, empty or an earlier output"):
        emit_small(tmp_path)
    assert contents(tmp_path) == before


def test_places_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder"):
        check_output(tmp_path / "file", "chip")
    with pytest.raises(NotADirectoryError):
        check_output(tmp_path / "file" / "out", "chip")
    with pytest.raises(ValueError, match="/proc is a mount: name a folder in it"):
        check_output("/proc", "chip")
    check_output(tmp_path / "new" / "deep" / "out", "chip")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("changes, passes", [({}, 2), (dict(context=1), 1),
                                             (dict(slots=2, context=2, kv_block=1, kv_blocks=1), 1)])
def test_a_testbench_has_as_many_passes_as_there_is_room_for(changes, passes):
    design = small_design(**changes)
    assert len(_expected(design, random_model(design))) == passes
