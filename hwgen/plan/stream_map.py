"""Where a byte of the weight stream belongs, in words: for people who have flipped one, or found one flipped."""
from ..params.block import Norm
from ..params.stream import EMBEDDING, FINAL_NORM, HEAD, HEADER, POSITIONS

__all__ = ["describe", "title"]

_TITLES = {HEADER: "header", FINAL_NORM: "record of the final norm", HEAD: "LM head", EMBEDDING: "embedding table",
           POSITIONS: "table of positions"}


def title(design, section):
    """What people call a `hwgen.params.stream.Section`."""
    if section.layer is None:
        return _TITLES[section.name]
    norms = [norm.name for norm in design.block.of(Norm)]
    what = f"record of norm {norms.index(section.name) + 1}" if section.name in norms else section.name
    return f"layer {section.layer}: {what}"


def describe(design, beat, byte=0):
    """One line on the byte ``byte`` of beat ``beat``: which layer, which matrix, which row and column.

    Raises
    ------
    ValueError              if the stream has no such byte
    """
    hw = design.hw
    if not 0 <= beat < design.stream_beats:
        raise ValueError(f"Weight beat must be 0 to {design.stream_beats - 1}, not {beat}")
    if not 0 <= byte < hw.beat_bytes:
        raise ValueError(f"Byte of a weight beat must be 0 to {hw.beat_bytes - 1}, not {byte}")
    section = design.stream.at(beat)
    if section.matmul is None:
        return title(design, section)
    place = design.stream.place(section, beat, byte)
    kind = "" if section.matmul.codes == 1 else (" (high code)", " (low code)")[place.code]
    return f"{title(design, section)}, output {place.output}, input {place.input}{kind}"
