"""A register map as others read it: C header, SystemVerilog package, SystemRDL, Markdown, JSON."""
from ..params.registers import ACCESS, IRQS, RESULT, RESULT_ERRORS

__all__ = ["c_header", "json_map", "markdown", "systemrdl", "systemverilog"]

def _words(command):
    """{word: (fields, what it is)}."""
    return {"command": (command, "an entry of a pass"), "result": (RESULT, "a result")}


def _constants(registers, name, command):
    """(name, value, bits, comment) of everything that C and SystemVerilog have names for."""
    prefix = name.upper()
    for register in registers.registers:
        yield f"{prefix}_{register.name}", register.offset, 32, register.text
        if register.window:
            yield f"{prefix}_{register.name}_COUNT", register.count, 32, "words"
            continue
        for field in register.fields:
            if field.access == "const":
                yield f"{prefix}_{register.name}_{_field_name(field)}EXPECTED", field.reset, 32, field.text
            if field.name != "value" or field.lsb:
                yield f"{prefix}_{register.name}_{field.name.upper()}_SHIFT", field.lsb, 32, f"{field.width} bit{'s' * (field.width > 1)}: {field.text}"
                yield f"{prefix}_{register.name}_{field.name.upper()}_MASK", field.mask, 32, ""
    for word, (fields, text) in _words(command).items():
        for field in fields:
            stem = f"{prefix}_{word.upper()}_{field.name.upper()}"
            yield f"{stem}_BIT", field.lsb, 32, f"of {text}; {field.width} bit{'s' * (field.width > 1)}: {field.text}"
            yield f"{stem}_BITS", field.width, 32, ""
    for i, (error, text) in enumerate(RESULT_ERRORS.items()):
        yield f"{prefix}_ERROR_CODE_{error.upper()}", i, 32, text


def _field_name(field):
    return "" if field.name == "value" else f"{field.name.upper()}_"


def c_header(registers, name, *, weights_id, counters):
    """A C99 header of macros, and of functions that pack an entry and take a result apart.

    Parameters
    ----------
    name : str              top module: prefix of all names
    weights_id : int        WEIGHTS_ID once a pass has read the weights that belong to this output
    counters : list of str  names of the counters
    """
    prefix, lower = name.upper(), name.lower()
    lines = [f"/* Registers of {name}: byte offsets, and fields as shift and mask. Made by hwgen. */", f"#ifndef {prefix}_REGISTERS_H",
             f"#define {prefix}_REGISTERS_H", "", "#include <stdint.h>", ""]
    lines += [f"#define {constant} {value:#x}u" + (f" /* {text} */" if text else "") for constant, value, _, text in _constants(registers, name)]
    lines += [f"#define {prefix}_WEIGHTS_ID_EXPECTED {weights_id:#x}u /* of the weights beside this file */",
              f"#define {prefix}_WEIGHT_ALIGNMENT 4096u /* bytes */"]
    lines += [f"#define {prefix}_COUNTER_{counter.upper()} {i}u" for i, counter in enumerate(counters)]
    arguments = ", ".join(f"uint32_t {field.name}" for field in COMMAND)
    packed = "\n        | ".join(f"(uint64_t){field.name} << {prefix}_COMMAND_{field.name.upper()}_BIT" for field in COMMAND)
    lines += ["", "/* An entry of a pass. */", f"static inline uint64_t {lower}_command({arguments})", "{", f"    return {packed};", "}"]
    for field in RESULT:
        stem = f"{prefix}_RESULT_{field.name.upper()}"
        lines += ["", f"/* {field.text} */", f"static inline uint32_t {lower}_result_{field.name}(uint64_t result)", "{",
                  f"    return (uint32_t)(result >> {stem}_BIT & ((UINT64_C(1) << {stem}_BITS) - 1));", "}"]
    return "\n".join([*lines, "", "#endif", ""])


def systemverilog(registers, name):
    """A SystemVerilog package of the same constants as the C header."""
    lines = [f"// Registers of {name}: byte offsets, and fields as shift and mask. Made by hwgen.", f"package {name}_registers;"]
    for constant, value, bits, text in _constants(registers, name):
        short = constant[len(name) + 1:]
        lines.append(f"  localparam logic [{bits - 1}:0] {short} = {bits}'h{value:x};" + (f"  // {text}" if text else ""))
    return "\n".join([*lines, "endpackage", ""])


_RDL = {"const": "sw = r; hw = na;", "ro": "sw = r; hw = w;", "rw": "sw = rw; hw = r;", "w1c": "sw = rw; hw = r; woclr; hwset;",
        "pulse": "sw = w; hw = r; singlepulse;", "push": "sw = w; hw = r;"}


def _quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def systemrdl(registers, name):
    """SystemRDL 2.0. What a push and a pulse do when they are refused is in the descriptions."""
    lines = [f"addrmap {name} {{", f"  name = {_quoted(f'Registers of {name}')};", "  default regwidth = 32;", "  default accesswidth = 32;",
             "  littleendian;"]
    for register in registers.registers:
        lines += ["  reg {", f"    desc = {_quoted(register.text)};"]
        for field in register.fields:
            reset = f" = {field.width}'h{field.reset:x}" if field.access in ("const", "rw", "w1c", "pulse") else ""
            lines.append(f"    field {{ desc = {_quoted(field.text)}; {_RDL[field.access]} }} {field.name}[{field.lsb + field.width - 1}:{field.lsb}]{reset};")
        array = f"[{register.count}]" if register.window else ""
        lines.append(f"  }} {register.name}{array} @ {register.offset:#x};")
    return "\n".join([*lines, "};", ""])


def markdown(registers, name):
    """A page: one table of registers and fields, and what the accesses mean."""
    lines = [f"# Registers of {name}", "", "32 bits each, at byte offsets. Whole words only: a write of less, and any access of another address, is answered",
             "with SLVERR.", "", "| offset | register | bits | field | access | reset | |", "|---|---|---|---|---|---|---|"]
    for register in registers.registers:
        end = f"..{register.offset + 4 * register.count - 4:#05x}" if register.count > 1 else ""
        lines.append(f"| {register.offset:#05x}{end} | **{register.name}** | | | | | {register.text} |")
        for field in register.fields:
            bits = str(field.lsb) if field.width == 1 else f"{field.lsb + field.width - 1}:{field.lsb}"
            reset = f"{field.reset:#x}" if field.access in ("const", "rw", "w1c") else ""
            lines.append(f"| | | {bits} | {field.name} | {field.access} | {reset} | {field.text} |")
    lines += ["", "| access | software may |", "|---|---|", *(f"| {key} | {text} |" for key, text in ACCESS.items())]
    for word, (fields, text) in _words(command).items():
        lines += ["", f"`{word}`: {text}.", "", "| bits | field | |", "|---|---|---|"]
        lines += [f"| {f.lsb if f.width == 1 else f'{f.lsb + f.width - 1}:{f.lsb}'} | {f.name} | {f.text} |" for f in fields]
    return "\n".join([*lines, ""])


def json_map(registers):
    """The map as the manifest has it."""
    def fields(found):
        return [{"name": f.name, "lsb": f.lsb, "width": f.width, "access": f.access, "reset": f.reset, "text": f.text} for f in found]

    return {"address_width": registers.address_width,
            "registers": [{"name": r.name, "offset": r.offset, "count": r.count, "window": r.window, "text": r.text, "fields": fields(r.fields)}
                          for r in registers.registers],
            **{word: fields(found) for word, (found, _) in _words(command).items()},
            "errors": list(RESULT_ERRORS), "irqs": list(IRQS)}
