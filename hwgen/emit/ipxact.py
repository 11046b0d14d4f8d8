"""IP-XACT of a top (IEEE 1685-2014), from its manifest: ports, bus interfaces, registers and files."""
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["bus_ports", "ipxact", "ipxact_file"]

_NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
_HEAD = {"xmlns:ipxact": _NAMESPACE, "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
         "xsi:schemaLocation": f"{_NAMESPACE} {_NAMESPACE}/index.xsd"}

#: Kinds of bus interface: (vendor, library, bus, version). AMBA's names are ARM's own; for single wires there are only
#: Xilinx's.
_BUSES = {
    "axi": ("amba.com", "AMBA4", "AXI4", "r0p0_0"), "lite": ("amba.com", "AMBA4", "AXI4-Lite", "r0p0_0"),
    "stream": ("amba.com", "AMBA4", "AXI4Stream", "r0p0_1"), "clock": ("xilinx.com", "signal", "clock", "1.0"),
    "reset": ("xilinx.com", "signal", "reset", "1.0"), "interrupt": ("xilinx.com", "signal", "interrupt", "1.0")}

#: Interfaces that a top may have: (name, kind, role, and if it is a single wire, what the bus calls it).
_INTERFACES = (
    ("clk", "clock", "slave", "CLK"), ("rst", "reset", "slave", "RST"),
    ("aclk", "clock", "slave", "CLK"), ("aresetn", "reset", "slave", "RST"),
    ("m_axi", "axi", "master", None), ("m_axi_kv", "axi", "master", None),
    ("s_axi", "lite", "slave", None), ("irq", "interrupt", "master", "INTERRUPT"),
    ("s_axis_command", "stream", "slave", None), ("m_axis_result", "stream", "master", None))

#: The AXI4 masters, and what is in the memory of each.
_MEMORIES = {"m_axi": "the memory with the weights", "m_axi_kv": "the memory of keys and values"}

#: What software may do with a field of each access: (access, what a written 1 does).
_ACCESS = {"const": ("read-only", None), "ro": ("read-only", None), "rw": ("read-write", None),
           "w1c": ("read-write", "oneToClear"), "pulse": ("write-only", None), "push": ("write-only", None)}

#: Types of files by the end of their names; others are "user".
_TYPES = {".v": "verilogSource", ".sv": "systemVerilogSource", ".h": "cSource"}


def ipxact_file(name: str) -> str:
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
    made = [_node(tag, _node("name", name), _node("value", f'"{value}"'), parameterId=name, type="string")
            for name, value in values.items()]
    return _node(f"{tag}s", *made) if made else None


def bus_ports(ports: Iterable[str], bus: str) -> list[str]:
    """Those of a bus interface: their names begin with its own, and with no longer one's."""
    longer = tuple(f"{name}_" for name, *_ in _INTERFACES if name.startswith(f"{bus}_"))
    return [port for port in ports if port.startswith(f"{bus}_") and not port.startswith(longer)]


def _interfaces(about):
    """(name, kind, role, {logical port: port}) of each bus interface."""
    for name, kind, role, single in _INTERFACES:
        ports = [name] if single else bus_ports(about["ports"], name)
        if all(port in about["ports"] for port in ports) and ports:
            yield name, kind, role, {single or port[len(name) + 1:].upper(): port for port in ports}


def _bus_interface(about, name, kind, role, ports, buses):
    def reference(tag, end):
        vendor, library, bus, version = _BUSES[kind]
        return _node(tag, vendor=vendor, library=library, name=bus + end, version=version)

    maps = (_node("portMap", _node("logicalPort", _node("name", logical)), _node("physicalPort", _node("name", port)))
            for logical, port in ports.items())
    inside = {"axi": _node("addressSpaceRef", addressSpaceRef=name),
              "lite": _node("memoryMapRef", memoryMapRef="registers")}.get(kind)
    clocked = {"ASSOCIATED_RESET": "aresetn" if name == "aclk"
               else "rst"} | ({"ASSOCIATED_BUSIF": ":".join(buses)} if buses else {})
    parameters = {"reset": {"POLARITY": "ACTIVE_LOW" if name == "aresetn" else "ACTIVE_HIGH"},
                  "interrupt": {"SENSITIVITY": "LEVEL_HIGH"}, "clock": clocked}
    abstraction = _node("abstractionType", reference("abstractionRef", "_rtl"), _node("portMaps", *maps))
    return _named("busInterface", name, reference("busType", ""), _node("abstractionTypes", abstraction),
                  _node(role, inside), _parameters("parameter", parameters.get(kind, {})))


def _field(field):
    access, written = _ACCESS[field["access"]]
    known = field["access"] in ("const", "rw", "w1c", "pulse")
    resets = _node("resets", _node("reset", _node("value", f"'h{field['reset']:x}"))) if known else None
    return _named("field", field["name"], _node("bitOffset", field["lsb"]), resets, _node("bitWidth", field["width"]),
                  _node("volatile", "true") if field["access"] in ("ro", "w1c") else None, _node("access", access),
                  _node("modifiedWriteValue", written) if written else None, text=field["text"])


def _memory_map(bus):
    registers = (_named("register", register["name"], _node("dim", register["count"])
                        if register["count"] > 1 else None,
                        _node("addressOffset", f"'h{register['offset']:x}"),
                        _node("size", 32), *map(_field, register["fields"]), text=register["text"])
                 for register in bus["registers"])
    block = _named("addressBlock", "registers", _node("baseAddress", 0), _node("range", 1 << bus["address_width"]),
                   _node("width", 32), _node("usage", "register"), *registers)
    return _node("memoryMaps", _named("memoryMap", "registers", block, _node("addressUnitBits", 8)))


def _address_spaces(about, buses):
    """Of each AXI4 master."""
    def space(bus, text):
        address, data = (about["ports"][f"{bus}_{port}"]["width"] for port in ("araddr", "rdata"))
        return _named("addressSpace", bus, _node("range", 1 << address), _node("width", data),
                      _node("addressUnitBits", 8), text=text)

    there = [space(bus, text) for bus, text in _MEMORIES.items() if bus in buses]
    return [_node("addressSpaces", *there)] if there else []


def _port(name, port):
    vector = _node("vectors", _node("vector", _node("left", port["width"] - 1),
                                    _node("right", 0))) if port["width"] > 1 else None
    return _named("port", name, _node("wire", _node("direction", port["direction"][:-3]), vector), text=port["text"])


def _model(about):
    name, weights = about["top"], about["weights"]
    parameters = _parameters("moduleParameter", {weights["parameter"]: weights["image"]}
                             if "parameter" in weights else {})
    verilog = _named("componentInstantiation", "verilog", _node("language", "verilog", strict="true"),
                     _node("moduleName", name), parameters, _node("fileSetRef", _node("localName", "rtl")))
    view = _named("view", "rtl", _node("componentInstantiationRef", "verilog"))
    ports = _node("ports", *(_port(*port) for port in about["ports"].items()))
    return _node("model", _node("views", view), _node("instantiations", verilog), ports)


def _file_sets(about):
    name, image = about["top"], about["weights"]["image"]
    sets = {"rtl": [f"{name}.v", image], "registers": [f"{name}_registers.{end}" for end in ("h", "sv", "rdl", "md")],
            "testbench": [f"{name}_tb.v"]}

    def entry(file):
        end = Path(file).suffix
        if end in _TYPES:
            what = _node("fileType", _TYPES[end])
        else:
            what = _node("fileType", "user", user="memory image" if file == image else end[1:])
        return _node("file", _node("name", file), what, _node("isIncludeFile", "true") if file.endswith(".h") else None,
                     _node("description", about["files"][file]))

    there = {key: [file for file in files if file in about["files"]] for key, files in sets.items()}
    return _node("fileSets", *(_named("fileSet", key, *map(entry, files)) for key, files in there.items() if files))


def ipxact(about: dict[str, Any]) -> str:
    """The component that a manifest describes, as XML."""
    found = list(_interfaces(about))
    buses = [name for name, kind, _, _ in found if kind in ("axi", "lite", "stream")]
    spaces = _address_spaces(about, buses)
    maps = [_memory_map(about["bus"])] if "s_axi" in buses else []
    identifier = (("vendor", "hwgen"), ("library", "decoder"), ("name", about["top"]), ("version", about["version"]))
    text = f"A machine that runs {about['model']['name']} and nothing else"
    root = _node("component", *(_node(key, value) for key, value in identifier),
                 _node("busInterfaces", *(_bus_interface(about, name, kind, role, ports, buses)
                                          for name, kind, role, ports in found)),
                 *spaces, *maps, _model(about), _file_sets(about), _node("description", text), **_HEAD)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
