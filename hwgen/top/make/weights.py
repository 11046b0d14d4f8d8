"""The sources of the weight stream and what reads them, as a design has them."""
from ...lib.weight_stream import StreamParams
from ...units.axi_reader import AxiReader
from ...units.dispatcher import Dispatcher
from ...units.weights import RomSource, StreamPort

__all__ = ["axi_reader", "dispatcher", "rom_source", "stream_params", "stream_port"]


def rom_source(design, *, file=None):
    """The stream in a block memory, from the image ``file``."""
    hw = design.hw
    return RomSource(stream_beats=design.stream_beats, beat_bytes=hw.beat_bytes, tile_beats=hw.tile_beats, file=file)


def stream_port(design):
    return StreamPort(stream_beats=design.stream_beats, beat_bytes=design.hw.beat_bytes)


def axi_reader(design, axi):
    """The stream in a memory on a bus. ValueError if the bus cannot carry the design."""
    axi.check(design)
    hw = design.hw
    return AxiReader(axi, stream_beats=design.stream_beats, beat_bytes=hw.beat_bytes, tile_beats=hw.tile_beats)


def stream_params(design):
    """The `StreamParams` of a design's weight stream."""
    hw = design.hw
    return StreamParams(stream=design.stream, block=design.block, layers=design.layers, matmuls=design.layer_matmuls,
                        head_matmul=design.head_matmul, vocab_size=design.model.vocab_size,
                        positions=hw.context if design.model.learned_positions else 0, entries=hw.entries,
                        halves=hw.halves, lanes=hw.lanes, columns=hw.columns, vector_lanes=hw.vector_lanes,
                        tile_beats=hw.tile_beats, weight=design.array_format, largest_block=design.largest_block)


def dispatcher(design):
    return Dispatcher(stream_params(design))
