"""Projects of machines whose keys and values are outside: both tops, with the memory's port as a bus of its own."""
import json
import re
import shutil
import subprocess

import pytest

from hwgen.cli import main
from hwgen.emit import emit
from hwgen.emit.ipxact import bus_ports
from hwgen.emit.testbench import has_testbench
from hwgen.models import quantize, random_checkpoint
from hwgen.params.axi import AxiShape
from sim.designs import small_design
from tests.emitted import check_ipxact, check_packaging, check_ports, check_template

SMALL = dict(source="stream", lanes=2, columns=2, vector_lanes=2, num_hidden_layers=1, hidden_size=8,
             intermediate_size=6)
#: Words of the bus narrower than beats, and wider.
CHIPS = {"streams": (dict(attention_lanes=4, kv_port=8), None),
         "buses": (dict(attention_lanes=2, kv_port=128, slots=1), AxiShape(host="queue", address_width=40))}


@pytest.fixture(scope="module", params=CHIPS)
def chip(request, tmp_path_factory):
    """(folder, design, `AxiShape` or None)."""
    changes, axi = CHIPS[request.param]
    folder, design = tmp_path_factory.mktemp("emit") / "chip", small_design(**SMALL | changes)
    emit(design, quantize(random_checkpoint(design.model), design.recipe), folder, name="chip", axi=axi)
    return folder, design, axi


def test_a_bus_of_its_own(chip, tmp_path):
    folder, _, axi = chip
    buses = ["m_axi", "m_axi_kv"] if axi else ["m_axi_kv"]
    check_ports(folder, "chip")
    check_template(folder, "chip", tmp_path)
    root, said = check_ipxact(folder, "chip"), "\n".join(check_packaging(folder, "chip"))
    assert [space.findtext("{*}name") for space in root.iter("{*}addressSpace")] == buses
    for interface in root.iter("{*}busInterface"):
        if (name := interface.findtext("{*}name")).startswith("m_axi"):
            logical = {node.text for node in interface.iterfind(".//{*}logicalPort/{*}name")}
            assert {"ARADDR", "RDATA"} <= logical and ("WDATA" in logical) == (name == "m_axi_kv")
            assert interface.find(".//{*}addressSpaceRef").get("addressSpaceRef") == name
    assert re.findall(r"associate_bus_interfaces -busif (m_axi\w*) ", said) == buses


def test_ports_of_a_bus_are_no_longer_ones():
    assert bus_ports(["m_axi_rdata", "m_axi_kv_rdata", "s_axi_rdata"], "m_axi") == ["m_axi_rdata"]
    assert bus_ports(["m_axi_rdata", "m_axi_kv_rdata"], "m_axi_kv") == ["m_axi_kv_rdata"]


def test_where_rows_are(chip):
    """The manifest and the README say it: a block holds its rows."""
    folder, design, axi = chip
    about, text = json.loads((folder / "manifest.json").read_text()), (folder / "README.md").read_text()
    kv = about["kv"]
    rows = kv["positions_per_block"] * (kv["bytes_per_k_row"] + kv["bytes_per_v_row"])
    assert kv["bytes_per_k_row"] - kv["bytes_of_exponents"] == kv["bytes_per_v_row"] == design.padded_head_dim
    assert rows <= kv["bytes_per_block"] and kv["bytes"] == kv["blocks"] * kv["bytes_per_block"]
    assert kv["data_width"] == design.hw.kv_port and kv["address_width"] == (axi or AxiShape()).address_width
    assert f"{kv['bytes']:,} bytes" in text and ("KV_BASE" if axi else "`kv_base`") in text
    assert about["derived"]["kv_places"]["beat_bytes"] == design.hw.attention_lanes


@pytest.mark.skipif(not shutil.which("iverilog"), reason="Icarus Verilog is not installed")
def test_the_testbench_has_the_memory(chip, tmp_path):
    """What is in it at first nobody knows; and a bit of it that is wrong is noticed."""
    bench = (chip[0] / "chip_tb.v").read_text()
    written = bench.replace("<= m_axi_kv_wdata[8 * kv_byte +: 8]", "<= m_axi_kv_wdata[8 * kv_byte +: 8] ^ 64")
    assert written != bench
    said = []
    for text in (bench, written):
        (tmp_path / "tb.v").write_text(text)
        subprocess.run(["iverilog", "-g2005", "-o", tmp_path / "sim", tmp_path / "tb.v", "chip.v"], cwd=chip[0],
                       check=True)
        said.append(subprocess.run([tmp_path / "sim"], cwd=chip[0], capture_output=True, text=True).stdout)
    assert "PASS: chip: 2 passes" in said[0] and "FAIL: chip: pass " in said[1]


def test_no_testbench_with_a_memory_that_is_too_large():
    assert has_testbench(small_design(**SMALL, kv_port=32, context=64))
    assert not has_testbench(small_design(**SMALL, kv_port=32, slots=64, context=1 << 14,
                                          max_position_embeddings=1 << 14))


@pytest.mark.parametrize("shape, complaint", [
    ("kv_port=64", "Weight source must be stream where keys and values are outside (kv_port), not rom"),
    ("source=stream,kv_port=64,kv_ecc=1", "KV ECC must be 0 where"),
    ("source=stream,kv_port=64,entries=2,halves=2", "Half-batch count must be 1 where"),
    ("source=stream,kv_port=48", "KV port must be a power of two, 8 to 1024 bits, or 0 "),
    ("source=stream,kv_port=2048", "KV port must be a power of two, 8 to 1024 bits, or 0 ")])
def test_refused(shape, complaint, tmp_path, capsys):
    assert main(["emit", "demo", "--shape", f"tiny,{shape}", "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert complaint in said and len(said.splitlines()) == 1 and not (tmp_path / "out").exists()
