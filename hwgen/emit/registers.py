"""A register map in other languages: C header, SystemVerilog package, SystemRDL, Markdown, JSON."""
from typing import Any

from ..params.axi import AXI_EVENTS, PAGE, AxiShape
from ..params.design import Design
from ..params.errors import MEANINGS, OPERATIONS, ErrorCode, KvOp
from ..params.counters import EVENTS
from ..params.registers import ACCESS, IRQS, RESULT, RESULT_ERRORS, command_fields, register_map

__all__ = ["Registers"]

#: SystemRDL of each access.
_RDL = {"const": "sw = r; hw = na;", "ro": "sw = r; hw = w;", "rw": "sw = rw; hw = r;",
        "w1c": "sw = rw; hw = r; woclr; hwset;", "pulse": "sw = w; hw = r; singlepulse;", "push": "sw = w; hw = r;"}


class Registers:
    """The register map of a design on buses, in every form. Names start with ``name``, the top module's.

    Parameters
    ----------
    design : Design
    axi : AxiShape
    name : str
    weights_id : int        what WEIGHTS_ID shows of the weights that belong to the output
    """

    def __init__(self, design: Design, axi: AxiShape, name: str, weights_id: int) -> None:
        self._map, self._name, self._weights_id = register_map(design, axi), name, weights_id
        self._words = {"command": (command_fields(design), "an entry of a pass"), "result": (RESULT, "a result")}

    def files(self) -> dict[str, tuple[str, str]]:
        """{file name: (purpose, text)}"""
        forms = (("h", "C", self.c_header), ("sv", "SystemVerilog", self.systemverilog),
                 ("rdl", "SystemRDL", self.systemrdl), ("md", "people", self.markdown))
        return {f"{self._name}_registers.{form}": (f"the registers, for {use}", text()) for form, use, text in forms}

    def _constants(self):
        """(name, value, comment) of everything that C and SystemVerilog have names for."""
        for register in self._map.registers:
            yield register.name, register.offset, register.text
            if register.window:
                yield f"{register.name}_COUNT", register.count, "words"
                continue
            for field in register.fields:
                stem = register.name if field.name == "value" else f"{register.name}_{field.name.upper()}"
                if field.access == "const":
                    yield f"{stem}_EXPECTED", field.reset, field.text
                yield f"{stem}_SHIFT", field.lsb, f"{_bits(field.width)}: {field.text}"
                yield f"{stem}_MASK", field.mask, ""
        for word, (fields, text) in self._words.items():
            for field in fields:
                yield (f"{word.upper()}_{field.name.upper()}_BIT", field.lsb,
                       f"of {text}; {_bits(field.width)}: {field.text}")
                yield f"{word.upper()}_{field.name.upper()}_BITS", field.width, ""
        for i, (error, text) in enumerate(RESULT_ERRORS.items()):
            yield f"ERROR_CODE_{error.upper()}", i, text
        for code in ErrorCode:
            yield f"REFUSED_{code.name}", int(code), MEANINGS[code]
        for op in KvOp:
            yield f"KV_COMMAND_OP_{op.name}", int(op), OPERATIONS[op]
        for i, event in enumerate([*EVENTS, *AXI_EVENTS]):
            yield f"COUNTER_{event.upper()}", i, ""
        yield "WEIGHTS_ID_EXPECTED", self._weights_id, "of the weights beside this file"
        yield "WEIGHT_ALIGNMENT", PAGE, "bytes"

    def c_header(self) -> str:
        """A C99 header: macros, and functions that put an entry together and take a result apart."""
        prefix, lower = self._name.upper(), self._name.lower()
        lines = [f"/* Registers of {self._name}: byte offsets, and fields as shift and mask. Made by hwgen. */",
                 f"#ifndef {prefix}_REGISTERS_H", f"#define {prefix}_REGISTERS_H", "", "#include <stdint.h>", ""]
        lines += [f"#define {prefix}_{constant} {value:#x}u" + (f" /* {text} */" if text else "")
                  for constant, value, text in self._constants()]
        fields, _ = self._words["command"]
        names = ", ".join(f"uint32_t {field.name}" for field in fields if field.lsb < 64)
        packed = "\n        | ".join(f"(uint64_t){field.name} << {prefix}_COMMAND_{field.name.upper()}_BIT"
                                     for field in fields
                                     if field.lsb < 64)
        lines += ["", "/* An entry of a pass, bits 63..0. */", f"static inline uint64_t {lower}_command({names})", "{",
                  f"    return {packed};", "}"]
        for field in RESULT:
            stem = f"{prefix}_RESULT_{field.name.upper()}"
            lines += ["", f"/* {field.text} */", f"static inline uint32_t {lower}_result_{field.name}(uint64_t result)",
                      "{", f"    return (uint32_t)(result >> {stem}_BIT & ((UINT64_C(1) << {stem}_BITS) - 1));", "}"]
        return "\n".join([*lines, "", "#endif", ""])

    def systemverilog(self) -> str:
        """A SystemVerilog package of the constants."""
        lines = [f"// Registers of {self._name}: byte offsets, and fields as shift and mask. Made by hwgen.",
                 f"package {self._name}_registers;"]
        lines += [f"  localparam logic [31:0] {constant} = 32'h{value:x};" + (f"  // {text}" if text else "")
                  for constant, value, text in self._constants()]
        return "\n".join([*lines, "endpackage", ""])

    def systemrdl(self) -> str:
        """SystemRDL 2.0."""
        lines = [f"addrmap {self._name}_registers {{", f"  name = {_quoted(f'Registers of {self._name}')};",
                 "  default regwidth = 32;", "  default accesswidth = 32;", "  littleendian;"]
        for register in self._map.registers:
            lines += ["  reg {", f"    desc = {_quoted(register.text)};"]
            for field in register.fields:
                reset = f" = {field.width}'h{field.reset:x}" if field.access in ("const", "rw", "w1c", "pulse") else ""
                lines.append(f"    field {{ desc = {_quoted(field.text)}; {_RDL[field.access]} }} "
                             f"{field.name}[{field.lsb + field.width - 1}:{field.lsb}]{reset};")
            array = f"[{register.count}]" if register.window else ""
            lines.append(f"  }} {register.name}{array} @ {register.offset:#x};")
        return "\n".join([*lines, "};", ""])

    def table(self, constants: bool = True) -> str:
        """Markdown: registers and fields (and, with ``constants``, values of this machine), the meaning of the
        accesses, entries and results."""
        shown = ("const", "rw", "w1c") if constants else ("rw", "w1c")
        lines = ["| offset | register | bits | field | access | reset | |", "|---|---|---|---|---|---|---|"]
        for register in self._map.registers:
            end = f" .. {register.offset + 4 * register.count - 4:#05x}" if register.count > 1 else ""
            lines.append(f"| {register.offset:#05x}{end} | **{register.name}** | | | | | {register.text} |")
            for field in register.fields:
                reset = f"{field.reset:#x}" if field.access in shown else ""
                lines.append(f"| | | {_range(field)} | {field.name} | {field.access} | {reset} | {field.text} |")
        lines += ["", "| access | software may |",
                  "|---|---|", *(f"| {key} | {text} |" for key, text in ACCESS.items())]
        for word, (fields, text) in self._words.items():
            lines += ["", f"A `{word}`, {text}:", "", "| bits | field | |", "|---|---|---|"]
            lines += [f"| {_range(field)} | {field.name} | {field.text} |" for field in fields]
        return "\n".join([*lines, ""])

    def markdown(self) -> str:
        """A page."""
        return f"""# Registers of {self._name}

32 bits each, at byte offsets. Whole words only: a write of less, and any access of another address, is answered with \
SLVERR. Reads
change nothing.

{self.table()}"""

    def json(self) -> dict[str, Any]:
        """The map as the manifest has it."""
        def fields(found):
            return [{"name": f.name, "lsb": f.lsb, "width": f.width, "access": f.access, "reset": f.reset,
                     "text": f.text} for f in found]

        return {"address_width": self._map.address_width, "weights_id": self._weights_id,
                "registers": [{"name": r.name, "offset": r.offset, "count": r.count, "window": r.window, "text": r.text,
                               "fields": fields(r.fields)}
                              for r in self._map.registers],
                **{word: fields(found) for word, (found, _) in self._words.items()},
                "errors": list(RESULT_ERRORS), "irqs": list(IRQS), "counters": [*EVENTS, *AXI_EVENTS]}


def _bits(width):
    return "1 bit" if width == 1 else f"{width} bits"


def _range(field):
    return str(field.lsb) if field.width == 1 else f"{field.lsb + field.width - 1}:{field.lsb}"


def _quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
