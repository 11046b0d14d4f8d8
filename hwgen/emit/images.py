"""Memory images: the weight stream as files that simulators, synthesis tools and hosts read."""
import hashlib
from pathlib import Path

from ..lib.rom import hex_lines
from ..models.adapter_codes import QuantizedAdapter, pack_adapter
from ..models.pack import sections
from ..models.quantize import QuantizedModel
from ..params.design import Design

__all__ = ["adapter_name", "image_name", "write_adapter", "write_image"]

_ROWS = 4096    # beats at a time: bounds the text in memory


def image_name(design: Design, name: str) -> str:
    """``NAME_rom.hex`` ($readmemh, a beat a line) for a memory inside; ``NAME_weights.bin`` (the beats as they come)
    for source "stream"."""
    return f"{name}_rom.hex" if design.hw.inside else f"{name}_weights.bin"


def write_image(path: str | Path, quantized: QuantizedModel, design: Design) -> str:
    """Write the packed stream in the form of `image_name`, a matrix at a time. Returns the file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for beats in sections(quantized, design):
            for start in range(0, len(beats), _ROWS):
                rows = beats[start:start + _ROWS]
                data = hex_lines(rows) if design.hw.inside else rows.tobytes()
                digest.update(data)
                file.write(data)
    return digest.hexdigest()


def adapter_name(name: str, number: int) -> str:
    """The image of an adapter: its beats as they are loaded."""
    return f"{name}_adapter{number}.bin"


def write_adapter(path: str | Path, adapter: QuantizedAdapter, design: Design) -> str:
    """Write a `QuantizedAdapter` as the machine's memory has it. Returns the file's SHA-256."""
    data = pack_adapter(adapter, design).tobytes()
    Path(path).write_bytes(data)
    return hashlib.sha256(data).hexdigest()
