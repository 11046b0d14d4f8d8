"""Of a design: the units between a host and the passes of a machine."""
from ...lib.layouts import RequestSizes
from ...units.admission import Admission
from ...units.decode_loop import DecodeLoop

__all__ = ["admission", "decode_loop", "request_sizes"]


def request_sizes(design):
    """The `RequestSizes` of its machine."""
    hw = design.hw
    return RequestSizes(entries=hw.entries, slots=hw.slots, context=hw.context, vocab_size=design.model.vocab_size,
                        keyed=hw.sampler == "gumbel", adapters=hw.adapters)


def admission(design):
    """Its `Admission`."""
    return Admission(sizes=request_sizes(design))


def decode_loop(design):
    """Its `DecodeLoop`."""
    return DecodeLoop(sizes=request_sizes(design))
