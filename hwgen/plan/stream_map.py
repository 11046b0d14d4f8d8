"""The place of a byte of the weight stream in the model, in words: for injected faults, and for faults that were
found."""
from ..params.block import Norm
from ..params.design import Design
from ..params.stream import BLOCK, EMBEDDING, FINAL_NORM, HEAD, HEADER, POSITIONS, Section

__all__ = ["describe", "title"]

_TITLES = {HEADER: "header", FINAL_NORM: "record of the final norm", HEAD: "LM head", EMBEDDING: "embedding table",
           POSITIONS: "table of positions"}


def title(design: Design, section: Section) -> str:
    """The name of a `hwgen.params.stream.Section` in a message."""
    if section.layer is None:
        return _TITLES[section.name]
    norms = [norm.name for norm in design.block.of(Norm)]
    what = f"record of norm {norms.index(section.name) + 1}" if section.name in norms else section.name
    return f"layer {section.layer}: {what}"


def _in_record(design, section, word):
    """What of a record a 16-bit word of it is; "" where it is nothing. Elements and outputs are numbered as they are
    stored."""
    lanes = design.hw.vector_lanes
    if word < design.record_header_granules * lanes:
        return (f"exponent of {_TITLES.get(name := section.exponents[word], name)}" if word < len(section.exponents)
                else "")
    word -= design.record_header_granules * lanes
    block, gains = design.block, design.padded_hidden_size // lanes * lanes
    if word < gains:
        return f"gain, element {word}"
    word -= gains
    for vector, (_, granules) in zip(block.final_vectors if section.layer is None else block.vectors(section.name),
                                     section.vectors):
        if word < granules * lanes:
            what = {block.queries.name: "gain of queries", block.keys.name: "gain of keys"}.get(vector.matrix, "bias")
            return f"bias of {vector.project}, output {word}" if vector.project else f"{what}, element {word}"
        word -= granules * lanes
    return ""


def describe(design: Design, beat: int, byte: int = 0) -> str:
    """One line on the byte ``byte`` of beat ``beat``: its layer, matrix, row and column, or its place in a norm's
    record.

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
    if section.name == HEADER:
        return title(design, section)
    if section.matmul is None:
        what = _in_record(design, section, ((beat - section.address) * hw.beat_bytes + byte) // 2)
        return title(design, section) + (f", {what}" if what else "")
    place = design.stream.place(section, beat, byte)
    if place.of != "codes":
        pair = f"outputs {place.output} and {place.output + 1}"
        what = {"rows": f", offsets of {pair}",
                "blocks": f", offsets of {pair}, inputs {place.input} to {place.input + BLOCK - 1}", "": ""}[place.of]
        return title(design, section) + what
    if section.tiling.narrow:
        return f"{title(design, section)}, output {place.output}, inputs {place.input} and {place.input + 1}"
    if section.name == HEAD and place.input >= design.model.hidden_size and design.model.head_bias:
        return f"{title(design, section)}, output {place.output}, bias (input {place.input})"
    kind = "" if section.matmul.codes == 1 else (" (high code)", " (low code)")[place.code]
    return f"{title(design, section)}, output {place.output}, input {place.input}{kind}"
