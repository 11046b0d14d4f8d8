"""An emitted project: a folder of files that an SoC project can use as it is."""
import errno
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amaranth.lib.wiring import Component

from ..lib.netlist import RESERVED
from ..lib.verilator import waiver_file
from ..lib.verilog import emit_design, hierarchy, ports
from ..lib.workdir import work_folder
from ..models.adapter_codes import QuantizedAdapter
from ..models.pack import model_id
from ..models.quantize import QuantizedModel
from ..models.wires import fixed_matrices
from ..params.axi import PAGE, AxiShape
from ..params.design import Design
from ..params.errors import MEANINGS, OPERATIONS
from ..top.axi import AxiDecoder
from ..top.decoder import Decoder
from .images import adapter_name, image_name, write_adapter, write_image
from .ipxact import ipxact, ipxact_file
from .manifest import manifest
from .ports import inst_file, instantiation, port_table
from .registers import Registers
from .replace import is_output, replace, rescue
from .testbench import has_testbench, testbench
from .vivado import packaging, script_file

__all__ = ["EmitError", "check_output", "emit", "existing_parent"]


class EmitError(Exception):
    """A project can't be written there; the message is one line."""


def existing_parent(folder: str | Path) -> Path:
    """The nearest of the folders above it that is there."""
    return next(parent for parent in Path(folder).absolute().parents if os.path.lexists(parent))


def check_output(folder: str | Path, name: str) -> None:
    """Refuse a folder that is not ours to replace, or cannot be written. Raises ValueError or OSError; writes
    nothing."""
    folder = Path(folder)
    if not name.isidentifier() or not name.isascii() or name in RESERVED:
        raise ValueError(f"Top module's name must be a plain Verilog identifier and no keyword, not {name!r}")
    if folder.exists():
        if not folder.is_dir():
            raise ValueError(f"Output must be a folder, and {folder} is a file")
        if os.path.ismount(folder):     # it cannot be moved
            raise ValueError(f"Output must be a folder that can be replaced, and {folder} is a mount: name a "
                             "folder in it")
        if any(folder.iterdir()) and not is_output(folder):
            raise ValueError("Output folder must be new, empty or an earlier output (with manifest.json), and "
                             f"{folder} is none of these")
    parent = existing_parent(folder)
    if not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(parent, os.W_OK | os.X_OK) or (folder.exists() and not os.access(folder, os.W_OK)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def emit(design: Design, quantized: QuantizedModel, folder: str | Path, *, name: str,
         component: Callable[..., Component] | None = None, axi: AxiShape | None = None,
         adapters: Sequence[QuantizedAdapter] = ()) -> dict[str, Any]:
    """Write a decoder's project: Verilog, memory image, manifest, file list, FuseSoC core, README.

    Everything is written beside ``folder`` and moved there at the end: an interruption leaves nothing (after a kill -9
    it is the next call that removes it), and an earlier output stays until the new one is whole. Files in there that
    are not of an output stay. The bytes depend on the arguments and on the versions of Amaranth and its Yosys only.

    Parameters
    ----------
    design : Design
    quantized : QuantizedModel      of the same model and recipe
    folder : path                   new, empty, or an earlier output
    name : str                      top module, and prefix of all modules
    component : callable            Design (and ``wires`` as of `Decoder`, where matrices are logic) -> the component to
                                    emit, if not the decoder
    axi : AxiShape                  on buses: the decoder is `hwgen.top.axi.AxiDecoder`, and its registers are described
                                    in several forms
    adapters : [QuantizedAdapter]   whose images are written too; the first is the testbench's

    Returns the manifest, a dict.

    Raises
    ------
    EmitError                       if the folder or the name is refused
    OSError                         if the folder cannot be written
    """
    folder = Path(folder)
    try:
        check_output(folder, name)
    except ValueError as error:
        raise EmitError(str(error)) from None
    if os.path.lexists(folder):
        folder = folder.resolve()       # a link stays one
    folder.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(folder.parent, f".{folder.name}-", rescue=lambda dead: rescue(folder, dead / "old")) as work:
        project = work / "project"
        project.mkdir()
        wires = {"wires": fixed_matrices(quantized, design)} if design.hw.wired else {}
        top = (component(design, **wires) if component else AxiDecoder(design, axi, **wires)
               if axi else Decoder(design, **wires))
        verilog = emit_design(top, name)
        image = image_name(design, name)
        digest = write_image(project / image, quantized, design)
        loaded = {adapter_name(name, number): adapter for number, adapter in enumerate(adapters, 1)}
        digests = [write_adapter(project / file, adapter, design) for file, adapter in loaded.items()]
        registers = Registers(design, axi, name, model_id(quantized)) if axi else None
        described = registers.files() if registers else {}
        if component is None and has_testbench(design):
            described |= {f"{name}_tb.v": ("testbench: two passes, with the tokens and signatures that must come",
                                           testbench(design, quantized, name, ports(verilog, name), axi, adapters))}
        files = _purposes(design, axi, name, image, loaded, described)
        about = manifest(top, design, verilog, name, model_id=quantized.digest, image_digest=digest, files=files,
                         axi=axi, registers=registers, adapters=digests)
        for file, text in _texts(about, verilog, described).items():
            (project / file).write_text(text, encoding="utf-8", newline="\n")
        replace(folder, project, work / "old")
    return about


def _purposes(design, axi, name, image, loaded, described):
    """File -> what it is for, of each file of the project."""
    return {f"{name}.v": "the machine; every module's name starts with the top's",
            image: _about_image(design, axi), "manifest.json": "shape, formats, ports, counters, memory map",
            f"{name}.f": "file list", f"{name}.core": "FuseSoC core",
            f"{name}.vlt": "waivers of Verilator's warnings in the machine, each with its reason",
            f"{name}_hierarchy.json": "each instance of the machine: its module, and the source and the page on that",
            inst_file(name): "an instance of it, to paste into a module",
            ipxact_file(name): "IP-XACT (IEEE 1685-2014)",
            script_file(name): "packages it as an IP of Vivado's (written, not run)",
            "README.md": "how to use these files",
            **{file: f"adapter {number}: its beats, as they are loaded" for number, file in enumerate(loaded, 1)},
            **{file: purpose for file, (purpose, _) in described.items()}}


def _texts(about, verilog, described):
    """File -> its text, of each file but the images."""
    name = about["top"]
    return {f"{name}.v": verilog, f"{name}_hierarchy.json": _hierarchy(verilog, name),
            "manifest.json": json.dumps(about, indent=1) + "\n", f"{name}.f": f"{name}.v\n",
            f"{name}.core": _core(about), f"{name}.vlt": waiver_file(f"{name}.v"),
            inst_file(name): instantiation(about), ipxact_file(name): ipxact(about),
            script_file(name): packaging(about), "README.md": _readme(about),
            **{file: text for file, (_, text) in described.items()}}


def _about_image(design, axi):
    if axi:
        return f"weights: from a multiple of {PAGE} on in the memory at m_axi"
    if not design.hw.inside:
        return "weights, beat after beat: serve them at weight_beats"
    return ("what is not logic of the weights" if design.hw.wired else "weights") + ", read by $readmemh"


def _hierarchy(verilog, name):
    """Where each instance comes from, one a line."""
    places = [{"instance": ".".join((name, *place.path)), "module": place.module, "source": place.source,
               "page": place.page} for place in hierarchy(verilog, name)]
    return "[\n" + ",\n".join(f" {json.dumps(place)}" for place in places) + "\n]\n"


def _adapters_of(about):
    """The files of the adapters' images."""
    return [image["image"] for image in about.get("adapters", {}).get("images", ())]


def _core(about):
    """A FuseSoC (CAPI2) description."""
    name, hw, files = about["top"], about["hardware"], about["files"]
    description = json.dumps(f"Decoder of {about['model']['name']}, {hw['lanes']} x {hw['columns']} multipliers, "
                             "generated by hwgen")
    image, rom, bench = about["weights"]["image"], hw["source"] != "stream", f"{name}_tb.v" in files
    # under that name, which is no other machine's, where tools run
    copied = f"{image} : {{file_type : user, copyto : {image}}}"
    adapters = [f"{file} : {{file_type : user, copyto : {file}}}" for file in _adapters_of(about)]
    parameter = "ROM_FILE" if rom else "WEIGHTS"
    filesets = {"rtl": [f"{name}.v : {{file_type : verilogSource-2005}}", *([copied] if rom else [])],
                "waivers": [f"{name}.vlt : {{file_type : vlt}}"],
                "hierarchy": [f"{name}_hierarchy.json : {{file_type : user}}"]}
    if "bus" in about:
        kinds = {"h": "cSource, is_include_file : true", "sv": "systemVerilogSource"}
        filesets["registers"] = [f"{name}_registers.{form} : {{file_type : {kinds.get(form, 'user')}}}"
                                 for form in ("h", "sv", "rdl", "md")]
    if bench:
        filesets["testbench"] = [f"{name}_tb.v : {{file_type : verilogSource-2005}}", *([] if rom
                                                                                        else [copied]), *adapters]
    # Waivers go to all tools: a flow sets no flag that names its tool, and its tools leave out files that they do not
    # know. In edalize's older interface two write a command of Vivado's for them.
    targets = [_target("default", name, "rtl, !tool_design_compiler ? (!tool_genus ? (waivers)), "
                                        "hierarchy ? (hierarchy)"
                       + (", registers ? (registers)" if "bus" in about else "")),
               _target("lint", name, "rtl, waivers", "lint", "tool : verilator, verilator_options : [-Wall]")]
    if bench:
        targets += [_target("sim", f"{name}_tb", "rtl, testbench", "sim",
                            "tool : icarus, iverilog_options : [-g2005]", parameter),
                    _target("sim_verilator", f"{name}_tb", "rtl, testbench, waivers", "sim",
                            "tool : verilator, mode : binary, verilator_options : [--timing]", parameter)]
    for arch, options in (("ecp5", "-nowidelut"), ("xilinx", "-flatten")):
        targets.append(_target(f"synth_{arch}", name, "rtl", "generic",
                               f"tool : yosys, arch : {arch}, output_format : json, yosys_synth_options : [{options}]",
                               parameter if rom else ""))
    listed = "\n".join(f"  {key}:\n    files:\n" + "\n".join(f"      - {file}" for file in of)
                       for key, of in filesets.items())
    parameters = f"""
parameters:
  {parameter}:
    datatype: str
    paramtype: vlogparam
    description: Where the weights are, if not in {image} where the tool runs
""" if rom or bench else ""
    return f"""CAPI=2:
name: hwgen:decoder:{name}:{about["version"]}
description: {description}
filesets:
{listed}
targets:
{"".join(targets)}{parameters}"""


def _target(name, toplevel, filesets, flow="", options="", parameter=""):
    """A target of a FuseSoC core."""
    lines = [f"  {name}:", f"    toplevel: {toplevel}",
             "    filesets: [" + ", ".join(f'"{part}"' for part in filesets.split(", ")) + "]"]
    lines += [f"    flow: {flow}", f"    flow_options: {{{options}}}"] if flow else []
    lines += [f"    parameters: [{parameter}]"] if parameter else []
    return "\n".join([*lines, ""])


def _readme(about):
    """What a person needs who was given nothing but the folder."""
    name, hw = about["top"], about["hardware"]
    files = "\n".join(f"| `{file}` | {purpose} |" for file, purpose in about["files"].items())
    return f"""# {name}

A machine that runs {about["model"]["name"]} and nothing else: {hw["lanes"]} x {hw["columns"]} multipliers, up to \
{hw["entries"]} entries a pass, {hw["slots"]} slots of
{hw["context"]} positions. Made by hwgen {about["generator"]["hwgen"]}; make it again rather than change it.

| file | |
|---|---|
{files}

{_on_buses(about) if "bus" in about else _on_streams(about)}"""


def _on_streams(about):
    """How to use a machine whose ports are streams."""
    name, weights, hw = about["top"], about["weights"], about["hardware"]
    if hw["source"] != "stream":
        source = (f"The memory `{name}_rom` reads `{weights['image']}` when a simulation or a synthesis starts, from "
                  "where the tool runs (Yosys: or from "
                  f"beside\n`{name}.v`). The top's parameter `{weights['parameter']}` names another place, as does "
                  f"the macro `{weights['macro']}`: "
                  f"`.{weights['parameter']}(\"path/{weights['image']}\")` where\nit is instantiated, `verilator "
                  f"'-G{weights['parameter']}=\"path/{weights['image']}\"'` "
                  f"or `iverilog '-P{name}.{weights['parameter']}=\"path/{weights['image']}\"'` where it is the\ntop. "
                  "A file that is not there is only a warning in some tools: compare `model_id` after the first pass "
                  f"with `32'h{about['model_id'][:8]}`.")
    else:
        source = (f"A request at `weight_req` wants `count` beats of {weights['bytes_per_beat']} bytes, from beat "
                  "`address` on: each is 1 "
                  f"further than the one before,\nor {hw['tile_beats']} with `stride`. Serve the beats of all "
                  "requests in order at "
                  f"`weight_beats`; beat n is the bytes from n * {weights['bytes_per_beat']}\nof "
                  f"`{weights['image']}`, the first in the lowest bits.")
    errors = "\n".join(f"| {code.value} | {code.name} | {text} |" for code, text in MEANINGS.items())
    operations = "\n".join(f"| {op.value} | {op.name} | {text} |" for op, text in OPERATIONS.items())
    return f"""Verilog-2005, one clock (`clk`, rising edge), synchronous reset (`rst`, active high) for one cycle or \
more. Streams are three
ports, `x__valid`, `x__ready` and `x__payload`: a transfer is a cycle in which valid and ready are high; an offer \
stays until it is
taken. Fields of a payload are named with their bits.

{port_table(about["ports"])}

A pass: give up to {hw["entries"]} entries at `command`, the final one with `last`; each that has `want` gets the \
token after it at `outcome`,
and the final result has `last`. A pass in which none wants output has one result, with `none`. An entry's position \
is the next of its slot.
Entries that are wrong are left out, and have a result with `error`; `kv_command` forks, truncates and frees slots \
between passes, and
`kv_answer` says whether that was done:

| code | | |
|---|---|---|
{errors}

| op | | |
|---|---|---|
{operations}

## Weights

{source}
{_adapters(about)}{_keys_and_values(about)}
## Size and place

{_tools(about)}For ECP5: `yosys -p 'read_verilog {name}.v; synth_ecp5
-nowidelut -top {name}'`.
"""


def _on_buses(about):
    """How to use a machine on buses."""
    name, weights, bus = about["top"], about["weights"], about["bus"]["axi"]
    streams, adapter = "stream" == bus["host"], ", COMMAND_ADAPTER" if "adapters" in about else ""
    give = ("Send entries at `s_axis_command`, TLAST on a pass's last; results come at `m_axis_result`, TLAST on the "
            "pass's last."
            if streams
            else f"Write entries to COMMAND_LO, COMMAND_KEY (if there is one){adapter} and COMMAND_HI, "
                 "last of all with `last`; read results from\n"
            "RESULT_LO and RESULT_HI while QUEUE.results is not 0, and write QUEUE.pop after each.")
    host = ", `s_axis_command` and `m_axis_result` AXI4-Streams of entries and results" if streams else ""
    kv = about.get("kv")
    host += (f". `m_axi_kv` is an AXI4 master of {kv['data_width']} bits, which reads and writes keys and values"
             if kv else "")
    bases = "WEIGHT_BASE_LO (and _HI), KV_BASE_LO (and _HI), TIMEOUT" if kv else "WEIGHT_BASE_LO (and _HI), TIMEOUT"
    return f"""Verilog-2005, one clock. `m_axi` is an AXI4 read master of {bus["data_width"]} bits, which reads the \
weights, `s_axi` an AXI4-Lite slave with the registers
(`{name}_registers.md`){host}.

{port_table(about["ports"])}

Bring-up:

1. Put `{weights["image"]}` ({weights["beats"] * weights["bytes_per_beat"]:,} bytes) into the memory at `m_axi`, from \
a multiple of {weights["alignment"]} on.
2. Read ID, VERSION and DESIGN_ID, and compare them with the header's `_EXPECTED`.
3. Write {bases}, IRQ_ENABLE; then CONTROL.run.
4. {give}
5. After the first pass compare WEIGHTS_ID with the header's. On IRQ_STATUS.error read ERROR and ERROR_ADDRESS, then \
write the bit.
{_bus_adapters(about)}{_keys_and_values(about)}
{_tools(about).rstrip()}
"""


def _adapters(about):
    """How adapters get into a machine whose ports are streams, if it has room for some."""
    if "adapters" not in about:
        return ""
    room, images = about["adapters"], ", ".join(f"`{image}`" for image in _adapters_of(about))
    return f"""
## Adapters

There is room for {room["count"]} of rank {room["rank"]} or less. One is loaded by its {room["beats"]:,} beats of \
{room["bytes_per_beat"]} bytes at `adapter`, in order: the first of them has `first` and, in
`adapter`, the number less 1; all are taken at once. Load between passes that use it. An entry names one by its \
number in `adapter`, or has 0; a number that was never loaded
is taken for what the memory holds.{f" Images of adapters, beat after beat: {images}." * bool(images)}
"""


def _bus_adapters(about):
    """How adapters get into a machine on buses, if it has room for some."""
    if "adapters" not in about:
        return ""
    room, images = about["adapters"], ", ".join(f"`{image}`" for image in _adapters_of(about))
    return f"""
There is room for {room["count"]} adapters of rank {room["rank"]} or less. Write a number from 1 on to ADAPTER_LOAD, \
then the ADAPTER_WORDS words of the adapter to ADAPTER_DATA, the first byte
lowest, at any time when no entry with that number waits or runs; ADAPTER_STATUS says whether it is there. An entry \
names it by its number in `adapter`, or has 0.
{f"Images of adapters: {images}.{chr(10)}" * bool(images)}"""


def _keys_and_values(about):
    """Where keys and values are, of a machine that has them outside."""
    if "kv" not in about:
        return ""
    kv, buses = about["kv"], "bus" in about
    where = ("KV_BASE on, which is behind weights at 0 at first: one memory may have both" if buses
             else "`kv_base` on. Hold\n`kv_flush` until `kv_flushed` before a reset; after `kv_bad` a pass's tokens "
                  "are of no use")
    return f"""
## Keys and values

They are {kv["bytes"]:,} bytes of the memory at `m_axi_kv`, from {where}.
The address is a multiple of {kv["alignment"]}; change it while no slot has a position. What is there at first does \
not matter. Each K/V head of a layer has {kv["blocks"]} blocks
of {kv["positions_per_block"]} positions and {kv["bytes_per_block"]:,} bytes: K rows of {kv["bytes_per_k_row"]} bytes, \
of which {kv["bytes_of_exponents"]} begin with the exponents of K and V, then V rows of {kv["bytes_per_v_row"]}.
"""


def _tools(about):
    """What the files for tools are for."""
    name = about["top"]
    bench = (f"`{name}_tb.v` compares two passes with what must come, in any simulator: `iverilog -g2005 -o sim "
             f"{name}_tb.v {name}.v && ./sim`.\n"
             if f"{name}_tb.v" in about["files"]
             else "There is no testbench: a simulator of Verilog would take hours for a pass of these weights.\n")
    return f"{bench}`{name}.f` lists the sources for any tool, `{name}.core` is for FuseSoC, " \
           f"`{name}.vlt` for Verilator's lint. "
