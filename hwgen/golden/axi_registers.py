"""Twin of `hwgen.units.axi_registers`: software's view of the registers, from their description.

``inputs`` is what the hardware shows: {(register, field): value} of "ro" fields, {(register, index): value} of windows.
"""
from collections.abc import Container, Mapping

from ..params.registers import RegisterMap

__all__ = ["OKAY", "READ_CYCLES", "SLVERR", "WRITE_CYCLES", "RegisterModel"]

OKAY, SLVERR = 0, 2
READ_CYCLES = 4     # from the first cycle of an address that is waited for to that of its answer
WRITE_CYCLES = 2    # from the first cycle of address and data


class RegisterModel:
    """Registers of a `RegisterMap`; ``pulses`` lists the effects of writes: (register, field, value)."""

    def __init__(self, registers: RegisterMap) -> None:
        self._at = {r.offset + 4 * i: (r, i) for r in registers.registers for i in range(r.count)}
        self.reset()

    def reset(self) -> None:
        self.kept = {(r.name, f.name): f.reset for r, _ in self._at.values() for f in r.fields
                     if f.access in ("rw", "w1c")}
        self.pulses = []

    def happen(self, register: str, field: str) -> None:
        """An event sets a w1c bit."""
        self.kept[register, field] = 1

    def read(self, address: int, inputs: Mapping[tuple[str, str | int], int]) -> tuple[int, int]:
        """(data, response) of a read."""
        register, index = self._at.get(address & ~3, (None, 0))
        if register is None:
            return 0, SLVERR
        if register.window:
            return inputs[register.name, index], OKAY
        data = 0
        for field in register.fields:
            if field.access == "const":
                value = field.reset
            elif field.access == "ro":
                value = inputs[register.name, field.name]
            else:
                value = self.kept.get((register.name, field.name), 0)       # pulse and push have none
            data |= value << field.lsb
        return data, OKAY

    def write(self, address: int, data: int, strobe: int = 0b1111, refused: Container[str] = ()) -> int:
        """The response to a write. ``refused``: names of registers whose push has no place."""
        register, _ = self._at.get(address & ~3, (None, 0))
        if register is None or strobe != 0b1111:
            return SLVERR
        if register.name in refused and any(f.access == "push" for f in register.fields):
            return SLVERR
        for field in register.fields:
            value = (data & field.mask) >> field.lsb
            key = register.name, field.name
            if field.access == "rw":
                self.kept[key] = value
            elif field.access == "w1c":
                self.kept[key] &= ~value
            elif field.access == "push" or (field.access == "pulse" and value):
                self.pulses.append((*key, value))
        return OKAY
