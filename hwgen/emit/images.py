"""Memory images: the weight stream as files that simulators, synthesis tools and hosts read."""
import hashlib

from ..lib.rom import hex_lines
from ..models.pack import sections

__all__ = ["image_name", "write_image"]

_ROWS = 4096    # beats at a time: bounds the text in memory


def image_name(design, name):
    """``NAME_rom.hex`` ($readmemh, a beat a line) for a memory inside; ``NAME_weights.bin`` (the beats as they come)
    for source "stream"."""
    return f"{name}_rom.hex" if design.hw.inside else f"{name}_weights.bin"


def write_image(path, quantized, design):
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
