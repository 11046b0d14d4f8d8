"""Projects of machines on buses: what is written of the registers is what others can read, and all of it says the
same."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hwgen.cli import main
from hwgen.emit import EmitError, emit
from hwgen.emit.ports import described_ports, port_table
from hwgen.lib import verilator
from hwgen.models import quantize, random_checkpoint
from hwgen.models.adapter_codes import pack_adapter, random_adapter
from hwgen.models.pack import model_id, pack
from hwgen.params.axi import AxiShape
from hwgen.params.registers import register_map
from hwgen.top.axi import AxiDecoder
from sim.designs import small_design
from tests.emitted import AXI, CHANGES, check_ipxact, check_packaging, check_ports, check_template, emit_chip

ROOT = Path(__file__).resolve().parent.parent
EMIT_AGAIN = """
import sys
from tests.emitted import emit_chip
emit_chip("chip")
"""


@pytest.fixture(scope="module")
def chip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emit") / "chip"
    return folder, *emit_chip(folder)


def values(chip):
    """Macros of the C header, as the compiler sees them."""
    text = (chip[0] / "chip_registers.h").read_text()
    return {name[5:]: int(value, 16) for name, value in re.findall(r"#define (CHIP_\w+) (0x[0-9a-f]+)u", text)}


def test_files(chip):
    folder, design, quantized = chip
    about = json.loads((folder / "manifest.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == sorted(about["files"])
    assert about["weights"]["alignment"] == 4096 and about["reset"].startswith("aresetn")
    assert (folder / "chip_weights.bin").read_bytes() == pack(quantized, design).tobytes()
    assert about["bus"]["axi"]["data_width"] == 128 and about["ports"]["m_axi_rdata"] == {
        "direction": "input", "width": 128, "text": "read data: the word", "payload": {"offset": 0, "width": 128}}
    assert about["bus"]["weights_id"] == model_id(quantized)
    assert [r["name"] for r in about["bus"]["registers"]] == [r.name for r in register_map(design, AXI).registers]
    assert "`chip_registers.md`" in (folder / "README.md").read_text()


def test_ports_and_template(chip, tmp_path):
    check_ports(chip[0], "chip")
    check_template(chip[0], "chip", tmp_path)


def test_packaging(chip):
    said = check_packaging(chip[0], "chip")
    assert {"ipx::associate_bus_interfaces -busif m_axi -clock aclk ", "set_property range 8192 ",
            "set_property value ACTIVE_LOW "} <= set(said)


def test_streams_have_their_bits():
    """Those of entries and results are words to the bus, and fields to people."""
    ports = described_ports(AxiDecoder(small_design(**CHANGES), AxiShape()), small_design(**CHANGES), AxiShape())
    table = port_table(ports)
    assert [name for name, port in ports.items() if not port["text"]] == []
    assert ("| `s_axis_command_tdata` | input | 128 | an entry of a pass: "
            "token 31:0, position 51:32, slot 61:52, want 62, last 63, key 95:64 |") in table
    assert ("| `m_axis_result_tdata` | output | 64 | a result: "
            "token 31:0, entry 47:32, error 55:48, bus_error 56, none 62, last 63 |") in table


def test_ipxact(chip):
    """Somebody else's importer reads the same registers from it as from the SystemRDL."""
    check_ipxact(chip[0], "chip")
    peakrdl, systemrdl = pytest.importorskip("peakrdl_ipxact"), pytest.importorskip("systemrdl")
    found = []
    for name, read in (("chip.xml", lambda compiler, file: peakrdl.IPXACTImporter(compiler).import_file(file)),
                       ("chip_registers.rdl", lambda compiler, file: compiler.compile_file(file))):
        compiler = systemrdl.RDLCompiler()
        read(compiler, str(chip[0] / name))
        found.append([(n.inst_name, n.absolute_address, n.get_property("desc"),
                       [(f.inst_name, f.low, f.width, f.is_sw_writable,
                         f.is_sw_readable, *map(f.get_property, ("onwrite", "reset", "desc")))
                        for f in n.fields()])
                      for n in compiler.elaborate().top.descendants(unroll=True)
                      if isinstance(n, systemrdl.node.RegNode)])
    assert found[0] == found[1] and len(found[0]) > 50


def test_verilog_is_clean(chip):
    verilator.lint(chip[0] / "chip.v", "chip")


def test_another_process_writes_the_same_bytes(chip, tmp_path):
    subprocess.run([sys.executable, "-c", EMIT_AGAIN], cwd=tmp_path, check=True,
                   env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)})
    assert {p.name: p.read_bytes() for p in (tmp_path / "chip").iterdir()} == {p.name: p.read_bytes()
                                                                               for p in chip[0].iterdir()}


def test_c_header(chip):
    _, design, _ = chip
    got = values(chip)
    for register in register_map(design, AXI).registers:
        assert got[register.name] == register.offset
        for field in register.fields if not register.window else ():
            stem = register.name if field.name == "value" else f"{register.name}_{field.name.upper()}"
            assert (got[f"{stem}_SHIFT"], got[f"{stem}_MASK"]) == (field.lsb, field.mask)
            assert field.access != "const" or got[f"{stem}_EXPECTED"] == field.reset
    assert got["SIGNATURE_COUNT"] == design.layers * design.hw.entries


def compile_c(folder, text):
    (folder / "test.c").write_text(text)
    return subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
                           f"-I{folder}",
                           folder / "test.c"],
                          capture_output=True, text=True)


def test_c_functions(chip, tmp_path):
    """They put entries together and take results apart as the description says: run, not only compiled."""
    (tmp_path / "test.c").write_text("""
#include <stdio.h>
#include "chip_registers.h"
int main(void)
{
    uint64_t result = 0x8143000512345678u;
    printf("%llx %x %x %x %x %x\\n", (unsigned long long)chip_command(0x12345, 7, 3, 1, 0),
           chip_result_token(result), chip_result_entry(result), chip_result_error(result),
           chip_result_bus_error(result), chip_result_last(result));
    return 0;
}
""")
    subprocess.run(["cc", "-std=c99", "-Wall", "-Werror", f"-I{chip[0]}", "-o", tmp_path / "test", tmp_path / "test.c"],
                   check=True)
    said = subprocess.run([tmp_path / "test"], capture_output=True, text=True, check=True).stdout
    assert said.split() == [f"{0x12345 | 7 << 32 | 3 << 52 | 1 << 62:x}", "12345678", "5", "43", "1", "1"]


def test_the_documents_driver_compiles(chip, tmp_path):
    text = (ROOT / "docs" / "axi.md").read_text(encoding="utf-8")
    driver, = re.findall(r"^```c\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "chip_registers.h").write_bytes((chip[0] / "chip_registers.h").read_bytes())
    done = compile_c(tmp_path, driver)
    assert done.returncode == 0, done.stderr
    broken = compile_c(tmp_path, driver.replace("CHIP_QUEUE_POP_MASK", "CHIP_QUEUE_PUP_MASK"))
    assert broken.returncode != 0


@pytest.mark.parametrize("what", ["ports", "table"])
def test_the_documents_tables_are_of_today(what):
    """docs/axi.md shows the ports of the demo shape, and the registers with --axi-host queue: `python -m
    tools.registers` writes them."""
    from tools import registers
    assert getattr(registers,
                   what)() in (ROOT / "docs" / "axi.md").read_text(encoding="utf-8"), "run: python -m tools.registers"


def test_systemverilog(chip, tmp_path):
    """Verilator takes the package, and its constants are the C header's."""
    folder = chip[0]
    constants = values(chip)
    got = {name: int(value, 16) for name, value in re.findall(r"logic \[31:0\] (\w+) = 32'h([0-9a-f]+);",
                                                              (folder / "chip_registers.sv").read_text())}
    assert got == constants
    (tmp_path / "user.sv").write_text("module user(output logic [31:0] o);\n  import chip_registers::*;\n  assign o = "
                                      "QUEUE;\nendmodule\n")
    subprocess.run([verilator.root() / "bin/verilator_bin", "--lint-only", "-Wall", "-Wno-UNUSEDPARAM",
                    "-Wno-DECLFILENAME",
                    "--top-module", "user",
                    folder / "chip_registers.sv", tmp_path / "user.sv"], check=True, env=verilator.environment())


def test_systemrdl(chip):
    """Somebody else's compiler reads the same registers, fields and accesses."""
    systemrdl = pytest.importorskip("systemrdl")
    folder, design, _ = chip
    compiler = systemrdl.RDLCompiler()
    compiler.compile_file(str(folder / "chip_registers.rdl"))
    top = compiler.elaborate().top
    assert top.inst_name == "chip_registers"
    found = [(n.inst_name, n.absolute_address, [(f.inst_name, f.low, f.width, f.is_sw_writable, f.is_sw_readable)
                                                for f in n.fields()])
             for n in top.registers(unroll=True)]
    assert found == [(r.name, r.offset + 4 * i, [(f.name, f.lsb, f.width, f.access not in ("const", "ro"),
                                                  f.access not in ("pulse", "push"))
                                               for f in r.fields]) for r in register_map(design, AXI).registers
                                               for i in range(r.count)]


@pytest.mark.parametrize("arguments, complaint", [
    (["--shape", "tiny,source=rom", "--bus", "axi"], "leave source=rom out"),
    (["--axi-burst", "8"], "Option --axi-burst needs --bus axi"),
    (["--bus", "axi", "--axi-data-width", "48"], "power of two, not 48"),
    (["--bus", "axi", "--axi-address-width", "13"], "must reach 2"),
    (["--bus", "pci"], "invalid choice: 'pci'")])
def test_refused(arguments, complaint, tmp_path, capsys):
    assert main(["emit", "demo", "-o", str(tmp_path / "out"), *arguments]) == 2
    assert complaint in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_emit_error_is_still_one(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(EmitError, match="must be new"):
        emit_chip(tmp_path)


@pytest.mark.nightly
@pytest.mark.skipif(not shutil.which("iverilog"), reason="Icarus Verilog is not installed")
@pytest.mark.parametrize("host, changes", [("queue", dict(adapters=3)), ("stream", dict(adapters=1, sampler="greedy"))])
def test_the_testbench_loads_an_adapter(host, changes, tmp_path):
    """By the registers, for its last pass; another one in its place is noticed."""
    design = small_design(**CHANGES | dict(hidden_size=8, intermediate_size=6, adapter_rank=2) | changes)
    quantized, adapters = quantize(random_checkpoint(design.model),
                                   design.recipe), [random_adapter(design, seed) for seed in (1, 2)]
    folder = tmp_path / "chip"
    emit(design, quantized, folder, name="chip", axi=AxiShape(host=host), adapters=adapters[:design.hw.adapters])
    verilator.lint(folder / "chip.v", "chip")
    check_ports(folder, "chip")
    check_ipxact(folder, "chip")
    subprocess.run(["iverilog", "-g2005", "-o", "sim", "chip_tb.v", "chip.v"], cwd=folder, check=True)
    said = []
    for adapter in adapters:
        (folder / "chip_adapter1.bin").write_bytes(pack_adapter(adapter, design).tobytes())
        said.append(subprocess.run(["./sim"], cwd=folder, capture_output=True, text=True).stdout)
    assert "PASS: chip: 2 passes" in said[0] and "FAIL: chip: pass 1: " in said[1]
