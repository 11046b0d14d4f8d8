"""Registers on AXI4-Lite, made from their description."""
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..lib.axi import LiteSlave, lite_slave

__all__ = ["AxiRegisters"]


class AxiRegisters(wiring.Component):
    """The registers of a `RegisterMap` behind an AXI4-Lite slave of 32 bits (see `LiteSlave` for its speed and its
    refusals).

    An address without a register is answered with SLVERR; writing to what can only be read does nothing.

    Parameters
    ----------
    registers : RegisterMap

    Members (REGISTER_field in lower case; those of "const" fields are left out)
    -------
    s_axi_*             AXI4-Lite
    "ro": In            what software reads
    "rw": Out           what software has written
    "w1c": Out, and NAME_set: In(1)     the bit, and what sets it (which wins over clearing)
    "pulse": Out(1)     high for a cycle
    "push": Out, with REGISTER_write: Out(1), REGISTER_refuse: In(1)    the value, with write; refused, it is answered
    with SLVERR
    of a window: REGISTER_address: Out, REGISTER_data: In(32)           the data of an address are there one cycle later
    """

    def __init__(self, registers):
        self._map = registers
        members = dict(lite_slave(registers.address_width))
        for register, field, name in self._fields():
            if register.window:
                members |= {f"{register.name.lower()}_address": Out(range(register.count)),
                            f"{register.name.lower()}_data": In(32)}
            elif field.access == "ro":
                members[name] = In(field.width)
            elif field.access in ("rw", "w1c", "pulse", "push"):
                members[name] = Out(field.width, **({"init": field.reset} if field.access == "rw" else {}))
            if field.access == "w1c":
                members[f"{name}_set"] = In(1)
            if field.access == "push":
                members |= {f"{register.name.lower()}_write": Out(1), f"{register.name.lower()}_refuse": In(1)}
        super().__init__(members)

    def _fields(self):
        """(register, field, name of the member) of each field."""
        for register in self._map.registers:
            for field in register.fields:
                yield register, field, f"{register.name}_{field.name}".lower()

    def elaborate(self, platform):
        m = Module()
        m.submodules.slave = slave = LiteSlave(self._map.address_width)
        for name in lite_slave(0):
            outside, inside = getattr(self, name), getattr(slave, name)
            is_input = self.signature.members[name].flow == In
            m.d.comb += inside.eq(outside) if is_input else outside.eq(inside)

        known, refused = Signal(name="known"), Signal()
        m.d.comb += slave.write_refused.eq(~known | refused)
        for _, field, name in self._fields():
            if field.access == "pulse":
                m.d.sync += getattr(self, name).eq(0)
        with m.Switch(slave.write_address):
            for register in self._map.registers:
                with m.Case(self._words(register)):
                    m.d.comb += known.eq(self._within(register, slave.write_address))
                    with m.If(slave.write):
                        self._write(m, register, slave.write_data, refused)
        for register, field, name in self._fields():
            if field.access == "w1c":
                with m.If(getattr(self, f"{name}_set")):
                    m.d.sync += getattr(self, name).eq(1)
            elif field.access == "push":
                m.d.comb += getattr(self, name).eq(slave.write_data[field.lsb:field.lsb + field.width])

        # Which register is read is known a cycle before its value is taken.
        read = [Signal(name=f"reads_{register.name.lower()}") for register in self._map.registers]
        m.d.sync += [one.eq(slave.read_address.matches(self._words(register))
                            & self._within(register, slave.read_address))
                     for one, register in zip(read, self._map.registers)]
        m.d.sync += [slave.read_data.eq(reduce(or_, (Mux(one, self._value(register), 0)
                                                     for one, register in zip(read, self._map.registers)))),
                     slave.read_refused.eq(~Cat(read).any())]
        for register in self._map.registers:
            if register.window:
                m.d.comb += getattr(self, f"{register.name.lower()}_address").eq(slave.read_address)
        return m

    def _words(self, register):
        """The pattern of word addresses that belong to a register."""
        free = (register.count - 1).bit_length()
        width = self._map.address_width - 2
        return f"{register.offset >> 2 + free:0{width - free}b}" + "-" * free

    @staticmethod
    def _within(register, address):
        """Whether an address that has the pattern is one of the register's."""
        free = (register.count - 1).bit_length()
        return Const(1) if register.count == 1 << free else address[:free] < register.count

    def _value(self, register):
        """What a read gives."""
        if register.window:
            return getattr(self, f"{register.name.lower()}_data")
        parts, at = [], 0
        for field in register.fields:
            name = f"{register.name}_{field.name}".lower()
            held = Const(0) if field.access in ("pulse", "push") else Const(field.reset,
                                                                            field.width) if field.access == "const" \
                else getattr(self, name)
            parts += [Const(0, field.lsb - at), held | Const(0, field.width)]
            at = field.lsb + field.width
        return Cat(*parts)

    def _write(self, m, register, data, refused):
        """What a write does."""
        for field in register.fields:
            name = f"{register.name}_{field.name}".lower()
            bits = data[field.lsb:field.lsb + field.width]
            if field.access in ("rw", "pulse"):
                m.d.sync += getattr(self, name).eq(bits)
            elif field.access == "w1c":
                m.d.sync += getattr(self, name).eq(getattr(self, name) & ~bits)
        if any(field.access == "push" for field in register.fields):
            refuse = getattr(self, f"{register.name.lower()}_refuse")
            m.d.comb += [refused.eq(refuse), getattr(self, f"{register.name.lower()}_write").eq(~refuse)]
