"""The description of the registers, and its twin of what software sees."""
import re

import pytest

from hwgen.golden.axi_registers import OKAY, SLVERR, RegisterModel
from hwgen.params.axi import AxiShape
from hwgen.params.registers import ACCESS, RESULT, command_fields, register_map, word_bits
from sim.designs import small_design

SHAPES = [(dict(sampler="gumbel"), dict(host="queue", address_width=40)), (dict(), dict()),
          (dict(entries=1, num_hidden_layers=1), dict(address_width=14)),
          (dict(entries=300, num_hidden_layers=9), dict(address_width=64))]


def shape(changes, axi):
    return register_map(small_design(source="stream", **changes), AxiShape(**axi))


@pytest.mark.parametrize("changes, axi", SHAPES)
def test_the_map_is_sound(changes, axi):
    registers = shape(changes, axi)
    end = 0
    for register in registers.registers:
        assert register.offset % 4 == 0 and register.offset >= end, register.name
        end = register.offset + 4 * register.count
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", register.name) and register.text
        assert register.window or register.count == 1
        if register.window:
            assert register.offset % (1 << (4 * register.count - 1).bit_length()) == 0
        at = 0
        for field in register.fields:
            assert field.access in ACCESS and field.lsb >= at and field.width >= 1 and field.text, field.name
            assert field.reset < 1 << field.width
            at = field.lsb + field.width
        assert at <= 32
    assert end <= 1 << registers.address_width


@pytest.mark.parametrize("fields, bits", [(command_fields(small_design()), 64),
                                          (command_fields(small_design(sampler="gumbel")), 128),
                                          (command_fields(small_design(adapters=3)), 128),
                                          (RESULT, 64)])
def test_words(fields, bits):
    used = [bit for field in fields for bit in range(field.lsb, field.lsb + field.width)]
    assert len(used) == len(set(used)) and max(used) < bits == word_bits(fields)
    assert all(field.lsb // 32 == (field.lsb + field.width - 1) // 32 for field in fields)


def test_machines_are_told_apart():
    found = {shape(*s)["DESIGN_ID"].fields[0].reset for s in SHAPES}
    assert len(found) == len(SHAPES)


def test_model():
    registers = shape(*SHAPES[0])
    model = RegisterModel(registers)
    offset = {r.name: r.offset for r in registers.registers}
    assert model.read(offset["ID"], {}) == (int.from_bytes(b"HWGN", "little"), OKAY)
    assert model.write(offset["ID"], 0) == OKAY and model.read(offset["ID"], {})[0] != 0
    assert model.write(offset["CONTROL"], 3) == OKAY
    assert model.read(offset["CONTROL"], {}) == (1, OKAY) and model.pulses == [("CONTROL", "reset", 1)]
    model.happen("IRQ_STATUS", "error")
    assert model.read(offset["IRQ_STATUS"], {}) == (4, OKAY)
    assert model.write(offset["IRQ_STATUS"], 3) == OKAY and model.read(offset["IRQ_STATUS"], {}) == (4, OKAY)
    assert model.write(offset["IRQ_STATUS"], 4) == OKAY and model.read(offset["IRQ_STATUS"], {}) == (0, OKAY)
    assert model.write(offset["SEED"], 7, strobe=0b0111) == SLVERR and model.read(offset["SEED"], {}) == (0, OKAY)
    assert model.write(offset["COMMAND_HI"], 5, refused=["COMMAND_HI"]) == SLVERR and len(model.pulses) == 1
    assert model.read(offset["SIGNATURE"] + 4, {("SIGNATURE", 1): 99}) == (99, OKAY)
    assert model.read(0x0F0, {}) == (0, SLVERR) and model.write(0x0F0, 1) == SLVERR
