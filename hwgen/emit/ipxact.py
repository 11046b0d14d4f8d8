"""IP-XACT of a top (IEEE 1685-2014), from its manifest: ports, bus interfaces, registers and files."""
import xml.etree.ElementTree as ET
from pathlib import Path

__all__ = ["ipxact", "ipxact_file"]

_NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
_SCHEMA = f"{_NAMESPACE} {_NAMESPACE}/index.xsd"

#: Kinds of bus interface: (vendor, library, bus, abstraction, version). AMBA's are ARM's own names; for single wires there are only Xilinx's.
_BUSES = {
    "axi": ("amba.com", "AMBA4", "AXI4", "AXI4_rtl", "r0p0_0"), "lite": ("amba.com", "AMBA4", "AXI4-Lite", "AXI4-Lite_rtl", "r0p0_0"),
    "stream": ("amba.com", "AMBA4", "AXI4Stream", "AXI4Stream_rtl", "r0p0_1"), "clock": ("xilinx.com", "signal", "clock", "clock_rtl", "1.0"),
    "reset": ("xilinx.com", "signal", "reset", "reset_rtl", "1.0"), "interrupt": ("xilinx.com", "signal", "interrupt", "interrupt_rtl", "1.0")}

#: Interfaces that a top may have: (name, kind, role, the ports' prefix), or the port for a single wire.
_INTERFACES = (
    ("clk", "clock", "slave", "CLK"), ("rst", "reset", "slave", "RST"), ("aclk", "clock", "slave", "CLK"), ("aresetn", "reset", "slave", "RST"),
    ("m_axi", "axi", "master", None), ("s_axi", "lite", "slave", None), ("irq", "interrupt", "master", "INTERRUPT"),
    ("s_axis_command", "stream", "slave", None), ("m_axis_result", "stream", "master", None))

#: What software may do with a field of each access: (access, what a written 1 does).
_ACCESS = {"const": ("read-only", None), "ro": ("read-only", None), "rw": ("read-write", None), "w1c": ("read-write", "oneToClear"),
           "pulse": ("write-only", None), "push": ("write-only", None)}

#: Types of files by the end of their names; others are "user".
_TYPES = {".v": "verilogSource", ".sv": "systemVerilogSource", ".h": "cSource"}


def ipxact_file(name):
    return f"{name}.xml"


def _node(tag, *parts, **attributes):
    """An element; parts are elements, or its text. None is nothing."""
    node = ET.Element(f"ipxact:{tag}", attributes)
    for part in parts:
        if isinstance(part, ET.Element):
            node.append(part)
        elif part is not None:
            node.text = str(part)
    return node


def _named(tag, name, *parts, text=None):
    return _node(tag, _node("name", name), _node("description", text) if text else None, *parts)


def _parameters(tag, values):
    """Parameters of text, if there are some."""
    made = (_node(tag, _node("name", name), _node("value", f'"{value}"'), parameterId=name, type="string") for name, value in values.items())
    return _node(f"{tag}s", *made) if values else None


def _interfaces(about):
    """(name, kind, role, {logical port: port}) of each bus interface."""
    for name, kind, role, single in _INTERFACES:
        ports = [name] if single else [port for port in about["ports"] if port.startswith(f"{name}_")]
        if all(port in about["ports"] for port in ports) and ports:
            yield name, kind, role, {single or port[len(name) + 1:].upper(): port for port in ports}


def _bus_interface(about, name, kind, role, ports, buses):
    vendor, library, bus, abstraction, version = _BUSES[kind]
    maps = (_node("portMap", _node("logicalPort", _node("name", logical)), _node("physicalPort", _node("name", port))) for logical, port in ports.items())
    inside = {"axi": _node("addressSpaceRef", addressSpaceRef=name), "lite": _node("memoryMapRef", memoryMapRef="registers")}.get(kind)
    if kind == "clock":
        parameters = ({"ASSOCIATED_BUSIF": ":".join(buses)} if buses else {}) | {"ASSOCIATED_RESET": {"clk": "rst", "aclk": "aresetn"}[name]}
    else:
        parameters = {"reset": {"POLARITY": "ACTIVE_LOW" if name == "aresetn" else "ACTIVE_HIGH"}, "interrupt": {"SENSITIVITY": "LEVEL_HIGH"}}.get(kind, {})
    return _named("busInterface", name, _node("busType", vendor=vendor, library=library, name=bus, version=version),
                  _node("abstractionTypes", _node("abstractionType", _node("abstractionRef", vendor=vendor, library=library, name=abstraction, version=version),
                                                  _node("portMaps", *maps))),
                  _node(role, inside), _parameters("parameter", parameters))


def _field(field):
    access, written = _ACCESS[field["access"]]
    resets = _node("resets", _node("reset", _node("value", f"'h{field['reset']:x}"))) if field["access"] in ("const", "rw", "w1c", "pulse") else None
    return _named("field", field["name"], _node("bitOffset", field["lsb"]), resets, _node("bitWidth", field["width"]),
                  _node("volatile", "true") if field["access"] in ("ro", "w1c") else None, _node("access", access),
                  _node("modifiedWriteValue", written) if written else None, text=field["text"])


def _memory_map(bus):
    registers = (_named("register", register["name"], _node("dim", register["count"]) if register["count"] > 1 else None,
                        _node("addressOffset", f"'h{register['offset']:x}"), _node("size", 32), *map(_field, register["fields"]), text=register["text"])
                 for register in bus["registers"])
    block = _named("addressBlock", "registers", _node("baseAddress", 0), _node("range", 1 << bus["address_width"]), _node("width", 32),
                   _node("usage", "register"), *registers)
    return _node("memoryMaps", _named("memoryMap", "registers", block, _node("addressUnitBits", 8)))


def _address_space(about):
    axi = about["bus"]["axi"]
    space = _named("addressSpace", "m_axi", _node("range", 1 << axi["address_width"]), _node("width", axi["data_width"]), _node("addressUnitBits", 8),
                   text="the memory with the weights")
    return _node("addressSpaces", space)


def _port(name, port):
    vector = _node("vectors", _node("vector", _node("left", port["width"] - 1), _node("right", 0))) if port["width"] > 1 else None
    return _named("port", name, _node("wire", _node("direction", port["direction"][:-3]), vector), text=port["text"])


def _model(about):
    name, weights = about["top"], about["weights"]
    parameters = _parameters("moduleParameter", {weights["parameter"]: weights["image"]} if "parameter" in weights else {})
    verilog = _named("componentInstantiation", "verilog", _node("language", "verilog", strict="true"), _node("moduleName", name), parameters,
                     _node("fileSetRef", _node("localName", "rtl")))
    return _node("model", _node("views", _named("view", "rtl", _node("componentInstantiationRef", "verilog"))), _node("instantiations", verilog),
                 _node("ports", *(_port(*port) for port in about["ports"].items())))


def _file_sets(about):
    name, image = about["top"], about["weights"]["image"]
    sets = {"rtl": [f"{name}.v", image], "registers": [f"{name}_registers.{end}" for end in ("h", "sv", "rdl", "md")], "testbench": [f"{name}_tb.v"]}

    def entry(file):
        kind = _TYPES.get(Path(file).suffix)
        what = _node("fileType", kind) if kind else _node("fileType", "user", user="memory image" if file == image else file.rpartition(".")[2])
        return _node("file", _node("name", file), what, _node("isIncludeFile", "true") if file.endswith(".h") else None,
                     _node("description", about["files"][file]))

    return _node("fileSets", *(_named("fileSet", key, *(entry(file) for file in files if file in about["files"])) for key, files in sets.items()
                               if files[0] in about["files"]))


def ipxact(about):
    """The component that a manifest describes, as XML."""
    found = list(_interfaces(about))
    buses = [name for name, kind, _, _ in found if kind in ("axi", "lite", "stream")]
    spaces = [_address_space(about)] if "m_axi" in buses else []
    maps = [_memory_map(about["bus"])] if "s_axi" in buses else []
    identifier = (("vendor", "hwgen"), ("library", "decoder"), ("name", about["top"]), ("version", about["version"]))
    root = _node("component", *(_node(key, text) for key, text in identifier), _node("busInterfaces", *(_bus_interface(about, *one, buses) for one in found)),
                 *spaces, *maps, _model(about), _file_sets(about), _node("description", f"A machine that runs {about['model']['name']} and nothing else"),
                 **{"xmlns:ipxact": _NAMESPACE, "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance", "xsi:schemaLocation": _SCHEMA})
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
