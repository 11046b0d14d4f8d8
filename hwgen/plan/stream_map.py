"""Where a byte of the weight stream belongs: for people who have flipped one, or found one flipped."""

__all__ = ["describe", "sections"]


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
    for name, start, length, matmul in sections(design):
        if start <= beat < start + length:
            return name if matmul is None else f"{name}, {_element(design, matmul, beat - start, byte)}"
    raise AssertionError("sections must cover the stream")


def sections(design):
    """(name, first beat, beats, Matmul or None) of each part of the stream, in the order of `hwgen.models.pack.sections`."""
    found, at = [], 0

    def add(name, matmul=None, beats=None):
        nonlocal at
        beats = design.matmul_beats(matmul) if matmul else beats
        found.append((name, at, beats, matmul))
        at += beats

    add("header", beats=design.header_beats)
    qkv, o, gate_up, down = design.layer_matmuls
    for layer in range(design.layers):
        add(f"layer {layer}: record of norm 1", beats=design.record_beats)
        add(f"layer {layer}: qkv", qkv)
        add(f"layer {layer}: o", o)
        add(f"layer {layer}: record of norm 2", beats=design.record_beats)
        add(f"layer {layer}: gate_up", gate_up)
        add(f"layer {layer}: down", down)
    add("record of the final norm", beats=design.record_beats)
    add("LM head", design.head_matmul)
    if not design.model.tie_word_embeddings:
        add("embedding table", design.head_matmul)
    return found


def _element(design, matmul, beat, byte):
    hw = design.hw
    tile, part = divmod(beat, hw.tile_beats)
    tile, code = divmod(tile, matmul.codes)
    n_tile, k_tile = divmod(tile, matmul.k_tiles)
    column, lane = divmod(part * hw.beat_bytes + byte, hw.lanes)
    kind = "" if matmul.codes == 1 else (" (high code)", " (low code)")[code]
    return f"output {n_tile * hw.columns + column}, input {k_tile * hw.lanes + lane}{kind}"
