"""Memory images: the weight stream as files that simulators, synthesis tools and hosts read."""
from ..lib.rom import hex_lines

__all__ = ["image_name", "write_image"]

_ROWS = 4096    # beats at a time: bounds the text in memory


def image_name(design):
    """``rom.hex`` ($readmemh, a beat a line) for source "rom"; ``weights.bin`` (the beats as they come) for "stream"."""
    return "rom.hex" if design.hw.source == "rom" else "weights.bin"


def write_image(path, stream, design):
    """Write the packed stream, uint8 [stream_beats, beat_bytes], in the form of `image_name`."""
    with open(path, "wb") as file:
        for start in range(0, len(stream), _ROWS):
            rows = stream[start:start + _ROWS]
            file.write(hex_lines(rows) if design.hw.source == "rom" else rows.tobytes())
