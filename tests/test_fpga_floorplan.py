"""The picture of a placed design."""
import xml.etree.ElementTree as xml

import pytest

from hwgen.fpga.floorplan import floorplan, floorplan_svg, unit

DECODER = "machine.machine.decoder."
#: Names, kinds and places as nextpnr-ecp5 and nextpnr-himbaechel write them.
CELLS = {f"{DECODER}mac_array.column0.a_LUT4_Z": ("TRELLIS_COMB", "X3/Y2/SLICEA.LUT0"),
         f"{DECODER}mac_array.b": ("TRELLIS_FF", "X3/Y2/SLICEA.FF0"),
         f"{DECODER}rope.c": ("TRELLIS_COMB", "X3/Y2/SLICEB.LUT0"),
         f"{DECODER}kv_cache.ram.0.0": ("DP16KD", "X10/Y0/EBR0"),
         "machine.uart.d": ("LUT4", "X4Y7/LUT3"), "$PACKER_VCC": ("TRELLIS_COMB", "X0/Y0/SLICEA.LUT0"),
         "not_placed": ("LUT4", "")}


def placed(cells):
    return {"modules": {"top": {"cells": {
        name: {"type": kind, "attributes": {"NEXTPNR_BEL": bel} if bel else {}}
        for name, (kind, bel) in cells.items()}}}}


def step(begin, end, delay):
    return {"from": dict(zip(("cell", "loc"), begin)), "to": dict(zip(("cell", "loc"), end)), "delay": delay}


def report():
    a, b, c = (f"{DECODER}rope.c", [3, 2]), ("machine.uart.d", [4, 7]), (f"{DECODER}kv_cache.ram.0.0", [10, 0])
    return {"critical_paths": [{"from": "posedge c", "to": "posedge c",
                                "path": [step(a, a, .5), step(a, b, 4), step(b, c, 6.25)]},
                               {"from": "<async>", "to": "posedge c", "path": [step(a, b, 99)]}]}


def test_a_place_has_the_unit_with_most_cells_there():
    assert floorplan(placed(CELLS)) == {"tiles": {"3,2": ["mac_array", False], "10,0": ["kv_cache", True],
                                                  "4,7": ["uart", False]},
                                        "cells": {"mac_array": 2, "rope": 1, "kv_cache": 1, "uart": 1}}


@pytest.mark.parametrize("cell, name", [("clock_LUT4", "top"), ("settled.x", "settled"),
                                        ("machine.machine.registers.a.b", "registers")])
def test_unit(cell, name):
    assert unit(cell) == name


def test_the_picture_has_each_unit_and_the_slowest_path_between_registers():
    text = floorplan_svg("a <board>", floorplan(placed(CELLS)), report())
    said = [element.text for element in xml.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
    assert {"a <board>", "mac_array", "40.0%", "slowest path, 10.75 ns:", "rope to kv_cache"} <= {*said}


def test_many_units_are_one_colour():
    cells = {f"{DECODER}unit{n}.x{i}": ("TRELLIS_COMB", f"X{n}/Y{i}/SLICEA.LUT0") for n in range(20)
             for i in range(n + 1)}
    text = floorplan_svg("", floorplan(placed(cells)), {})
    assert "others" in text and ">unit19<" in text and ">unit3<" not in text
