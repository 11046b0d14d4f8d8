"""The ports of a top by its signature: order, bits and purpose, for manifest, README, template and IP-XACT."""
from typing import Any

from amaranth.hdl import Shape, Value
from amaranth.lib import data, wiring

from ..params.axi import AxiShape
from ..params.design import Design
from ..params.kv_port import KV_PREFIX, kv_axi
from ..params.phases import phases
from ..params.registers import RESULT, command_fields

__all__ = ["described_ports", "inst_file", "instantiation", "port_table"]

#: Streams of three ports, and what goes over each.
_STREAMS = {
    "command": "an entry of a pass", "outcome": "a result",
    "kv_command": "an operation on the KV memory (between passes)", "kv_answer": "the answer to it",
    "weight_req": "a request for beats of weights",
    "weight_beats": "a beat of weights, in the order asked for",
    "adapter": "a beat of an adapter that is loaded (between passes)"}
_HANDSHAKE = {"valid": "{} is offered", "ready": "{} is taken, if one is offered", "payload": "{}"}

#: Channels of AMBA's buses, by the start of their signals' names, and the signals.
_CHANNELS = {"aw": "write address", "w": "write data", "b": "write response", "ar": "read address", "r": "read data",
             "t": "stream"}
_SIGNALS = {
    "id": "identifier", "addr": "byte address", "len": "words of the burst, less one",
    "size": "binary logarithm of a word's bytes", "burst": "kind of the burst", "lock": "exclusive access",
    "cache": "attributes of the memory", "prot": "protection",
    "qos": "quality of service", "data": "the word", "strb": "its bytes that are written: all, or the answer is SLVERR",
    "resp": "0 OKAY, 2 SLVERR, 3 DECERR", "last": "the burst's last",
    "valid": "it is offered", "ready": "it is taken, if it is offered"}


def _text(name, design, axi):
    """What a port of a decoder is for, or "" for a port of something else."""
    lists = ", ".join(f"{phase.value} {phase.name}" for phase in phases(design.block))
    entry, result = "an entry of a pass", "a result"
    singles = {
        "clk": "clock, rising edge", "rst": "synchronous reset, active high, for one cycle or more",
        "aclk": "clock, rising edge", "aresetn": "synchronous reset, active low, for one cycle or more",
        "irq": "interrupt: high while a cause is set in IRQ_STATUS that IRQ_ENABLE enables",
        "busy": "a pass is under way, from its first entry to its last result: for lights and logic analyzers",
        "phase": f"where the pass is: {lists}", "layer": "the layer that the pass is in",
        "model_id": "which weights the latest pass read, from their header; 0 before",
        "counter_address": "number of the counter that is read", "counter_data": "that counter, one cycle later",
        "signature_address": f"layer * {design.hw.entries} + row of the signature that is read; "
                             "rows are the entries that were not refused",
        "signature_data": "that signature, one cycle later: CRC-32 of the row's residual after the layer",
        "inv_temperature": "1 / temperature, in units of 1/256; 0: the likeliest token",
        "seed": "of the sampler's noise: any",
        "kv_corrected": "rows of the KV memory in which an error was corrected, since reset",
        "kv_failed": "rows of the KV memory in which an error could not be corrected, since reset",
        "kv_fault": "where the first of those was",
        "s_axis_command_tdata": entry, "s_axis_command_tlast": f"{entry} closes it, as its `last` does",
        "m_axis_result_tdata": result, "m_axis_result_tlast": f"{result} is the pass's last",
        "s_axis_command_tvalid": f"{entry} is offered", "s_axis_command_tready": f"{entry} is taken, if one is offered",
        "m_axis_result_tvalid": f"{result} is offered", "m_axis_result_tready": f"{result} is taken, if one is offered"}
    if axi:
        singles |= _always("m_axi_", axi)
    if design.hw.kv_port:
        singles |= _always(KV_PREFIX, kv_axi(design.hw, axi)) | _KV_TEXTS
    if name in singles:
        return singles[name]
    stream, _, part = name.rpartition("__")
    if stream in _STREAMS:
        return _HANDSHAKE[part].format(_STREAMS[stream])
    if name.startswith(("m_axi_", "s_axi_")):
        signal = name.removeprefix(KV_PREFIX) if name.startswith(KV_PREFIX) else name[len("m_axi_"):]
        channel = next(start for start in _CHANNELS if signal.startswith(start) and signal[len(start):] in _SIGNALS)
        return f"{_CHANNELS[channel]}: {_SIGNALS[signal[len(channel):]]}"
    return ""


#: Of a decoder with ports of streams.
_KV_TEXTS = {
    "kv_base": "address of the first byte of keys and values: a multiple of 4096, to be changed while no slot has a "
               "position",
    "kv_timeout": "cycles of silence of the memory of keys and values that are an error; 0: never",
    "kv_flush": "before a reset: nothing more is asked of the memory of keys and values; hold it until kv_flushed",
    "kv_flushed": "the memory of keys and values owes nothing",
    "kv_bad": "for one cycle: a beat of keys or values could not be read or written",
    "kv_fault": "for one cycle: a word that failed; code 1 SLVERR, 2 DECERR, 3 a burst's last word at the wrong place, "
                "4 silence",
    f"{KV_PREFIX}wstrb": "write data: its bytes that are written"}


def _always(prefix, bus):
    """Texts of an AXI4 master's outputs that do not change."""
    constant = {"id": 0, "size": bus.word_bytes.bit_length() - 1, "burst": "1 (INCR)", "lock": 0,
                "cache": "3 (modifiable, bufferable)", "prot": 0, "qos": 0}
    return {**{f"{prefix}{channel}{signal}": f"{_CHANNELS[channel]}: {_SIGNALS[signal]}, always {value}"
               for channel in ("ar", "aw") for signal, value in constant.items()},
            f"{prefix}rready": "read data: it is taken, always",
            f"{prefix}bready": "write response: it is taken, always"}


def _layout(shape, offset=0):
    """Bits of a payload, as {offset, width, signed} or with ``fields`` / ``element`` and ``length``."""
    cast = Shape.cast(shape)
    out = {"offset": offset, "width": cast.width}
    if isinstance(shape, data.StructLayout):
        out["fields"] = {name: _layout(field.shape, field.offset) for name, field in shape}
    elif isinstance(shape, data.ArrayLayout):
        out |= {"length": shape.length, "element": _layout(shape.elem_shape)}
    elif cast.signed:
        out["signed"] = True
    return out


def described_ports(component: wiring.Component, design: Design,
                    axi: AxiShape | None = None) -> dict[str, dict[str, Any]]:
    """The ports of a component as the manifest has them: {name: {direction, width, text, payload}}.

    Clock and reset come first, then the others as its signature orders them. Those of no width are left out, as in the
    Verilog.
    """
    clocks = {} if axi else {name: {"direction": "input", "width": 1} for name in ("clk", "rst")}
    found = {name: port | {"text": _text(name, design, axi)} for name, port in clocks.items()}
    words = {"s_axis_command_tdata": command_fields(design), "m_axis_result_tdata": RESULT}
    for path, member, value in component.signature.flatten(component):
        name, width = "__".join(map(str, path)), len(Value.cast(value))
        if not width:
            continue
        payload = _layout(member.shape)
        if axi and name in words:
            payload["fields"] = {field.name: {"offset": field.lsb, "width": field.width} for field in words[name]}
        direction = "input" if member.flow == wiring.In else "output"
        found[name] = {"direction": direction, "width": width, "text": _text(name, design, axi), "payload": payload}
    return found


def _bits(layout):
    first, last = layout["offset"], layout["offset"] + layout["width"] - 1
    return str(first) if first == last else f"{last}:{first}"


def _about(port):
    """What a port is for, and the bits of its payload's fields."""
    fields = port.get("payload", {}).get("fields", {})
    bits = ", ".join(f"{name} {_bits(layout)}" for name, layout in fields.items() if layout["width"])
    return ": ".join(filter(None, (port["text"], bits)))


def port_table(ports: dict[str, dict[str, Any]]) -> str:
    """A Markdown table of `described_ports`."""
    rows = [f"| `{name}` | {port['direction']} | {port['width']} | {_about(port)} |" for name, port in ports.items()]
    return "\n".join(["| port | | bits | |", "|---|---|---|---|", *rows])


def inst_file(name: str) -> str:
    """The name of the template's file. It is not a module and not a source: tools that read all .v files of a folder
    leave it alone."""
    return f"{name}_inst.vh"


def instantiation(about: dict[str, Any]) -> str:
    """Verilog to paste into a module, or to `include there: wires, and an instance of a manifest's top that they are
    connected to."""
    name, ports, weights = about["top"], about["ports"], about["weights"]
    wide = max(len(port) for port in ports)
    ranges = {port: f"[{p['width'] - 1}:0]" if p["width"] > 1 else "" for port, p in ports.items()}
    column = max(map(len, ranges.values()))
    wires = [f"wire {ranges[port]:{column}} {name}_{port};" for port in ports]
    parameter = weights.get("parameter")
    opening = f"{name} #(.{parameter}(\"{weights['image']}\")) {name}_0 (" if parameter else f"{name} {name}_0 ("
    final = list(ports)[-1]
    wired = {port: f"({name}_{port})" + ("" if port == final else ",") for port in ports}
    rows = [f"    .{port:{wide}} {wired[port]:{wide + len(name) + 4}}  // {p['direction']}: {_about(p)}"
            for port, p in ports.items()]
    title = (f"// An instance of {name}, to paste into a module: connect the wires, "
             "or put your own signals in their place. Made by hwgen.")
    return "\n".join([title, *wires, "", opening, *rows, ");", ""])
