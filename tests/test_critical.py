"""The slow paths that `tools.critical` finds."""
import pytest

from hwgen.fpga.floorplan import unit
from tools.critical import guess, paths, read

SDF = """\
(INTERCONNECT a/Q l/A (900:900:1000) (900:900:1000))
(INTERCONNECT b/Q l/B (900:900:1500) (900:900:1500))
(INTERCONNECT l/F c/DI (0:0:0) (0:0:0))
(INTERCONNECT b/Q c/CE (900:900:2000) (900:900:2000))
(INTERCONNECT $PACKER_VCC/F c/LSR (9000:9000:9000) (9000:9000:9000))
{registers}(INSTANCE l)
(IOPATH A F (200:200:240) (200:200:240))
(IOPATH B F (200:200:240) (200:200:240))
""".format(registers="".join(f"""\
(INSTANCE {name})
(IOPATH CLK Q (500:500:530) (500:500:530))
{"".join(f"(SETUPHOLD (posedge {port}) (posedge CLK) (0:0:100) (0:0:0))" + chr(10) for port in ("DI", "CE", "LSR"))}"""
for name in "abc"))


def cell(kind, **nets):
    return {"type": kind, "connections": {port: [bit] for port, bit in nets.items()},
            "port_directions": {port: "output" if port in ("Q", "Z") else "input" for port in nets}}


def test_paths_of_a_placed_design():
    found = {path.steps[-1][1]: path for path in paths(*read(SDF.splitlines()))}
    assert {port: path.delay for port, path in found.items()} == pytest.approx({"DI": 0.53 + 1.5 + 0.24 + 0.1,
                                                                                "CE": 0.53 + 2 + 0.1})
    assert [step[:2] for step in found["DI"].steps] == [("b", "Q"), ("l", "B"), ("c", "DI")] and found["DI"].levels == 1
    assert found["DI"].wire == pytest.approx(1.5)


def test_paths_of_a_netlist():
    cells = {"a": cell("TRELLIS_FF", CLK=0, DI=5, Q=1), "l": cell("LUT4", A=1, Z=2), "m": cell("LUT4", A=2, Z=3),
             "c": cell("TRELLIS_FF", CLK=0, DI=3, CE=2, Q=4)}
    found = {path.steps[-1][1]: path for path in paths(*guess({"modules": {"top": {"cells": cells}}}))}
    assert {port: (path.delay, path.levels) for port, path in found.items()} == {
        "DI": (pytest.approx(0.52 + 0.9 + 0.24 + 1.12 + 0.24 + 0 + 0.1), 2),
        "CE": (pytest.approx(0.52 + 0.9 + 0.24 + 1.12 + 0.1), 1)}


def test_a_loop_is_refused():
    cells = {"l": cell("LUT4", A=3, Z=2), "m": cell("LUT4", A=2, Z=3), "c": cell("TRELLIS_FF", CLK=0, DI=3, Q=4)}
    with pytest.raises(SystemExit, match="no loop of logic"):
        list(paths(*guess({"modules": {"top": {"cells": cells}}})))


def test_units_by_their_names():
    assert [unit(name) for name in ("machine.machine.decoder.array.column0.x_TRELLIS_FF_Q", "machine.machine.loop.left",
                                    "machine.bridge.crc", "led_Q")] \
        == ["array", "loop", "bridge", "top"]
