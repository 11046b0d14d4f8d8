"""Yosys scripts of somebody who takes an emitted machine in: they run, and no register is left that nothing writes."""
import shutil

import pytest

from hwgen.fpga.tools import ToolError
from hwgen.lib.verilog import emit_verilog
from hwgen.params.design import Design
from hwgen.params.model import DEMO
from hwgen.params.presets import hw_shape, recipe
from hwgen.top import make
from tools import take_in


def emitted(folder, shape, formats=None):
    """A machine's array, on whose decoded operands Yosys' opt once failed."""
    design = Design(model=DEMO, hw=hw_shape(shape, DEMO), recipe=recipe(formats))
    (folder / "chip.v").write_text(emit_verilog(make.mac_array(design), "chip"))
    return folder


@pytest.mark.parametrize("shape, formats", [("tiny", None), ("tiny,entries=2,slots=2,dsp_columns=2", "e4m3")])
def test_no_register_is_unwritten(tmp_path, shape, formats):
    folder = emitted(tmp_path, shape, formats)
    (tmp_path / "work").mkdir()
    assert take_in.unwritten(folder, "chip", tmp_path / "work") == []


@pytest.mark.parametrize("script", ["proc; opt", "proc; flatten; opt -fast"])
def test_an_array(tmp_path, script):
    (tmp_path / "work").mkdir()
    assert take_in.run(emitted(tmp_path, "tiny"), "chip", script, tmp_path / "work") > 0


def test_the_specimen(tmp_path):
    assert take_in.unwritten(take_in.SPECIMEN, "specimen", tmp_path) == []


def test_slang_finds_the_instances_of_the_hierarchy(tmp_path):
    pytest.importorskip("pyslang")
    folder = shutil.copytree(take_in.SPECIMEN, tmp_path / "specimen")
    assert take_in.slang(folder, "specimen") > 0
    listed = folder / "specimen_hierarchy.json"
    listed.write_text(listed.read_text().replace("specimen.rope", "specimen.other"))
    with pytest.raises(ToolError, match="other instances"):
        take_in.slang(folder, "specimen")
    verilog = folder / "specimen.v"
    verilog.write_text(verilog.read_text().replace("endmodule", "assign absent = nothing;\nendmodule", 1))
    with pytest.raises(ToolError, match="errors, the first"):
        take_in.slang(folder, "specimen")
