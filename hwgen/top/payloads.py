"""Values as bits: of a stream's payload, and of a register's word."""
from amaranth.hdl import Cat, Const

__all__ = ["beyond", "packed", "payload"]


def payload(stream, values):
    """The bits of a stream's payload; a field without a value is 0. (In one piece: some simulators never look at a part
    that is constant.)"""
    return Cat((values.get(name, Const(0)) | Const(0, field.width))[:field.width] for name, field in stream.p.shape())


def beyond(stream, values):
    """Whether a value has bits that its field of a stream's payload has not."""
    return Cat(value[len(stream.p[name]):].any() for name, value in values.items()).any()


def packed(fields, values):
    """Values at their fields' places; a field without a value is 0."""
    parts, at = [], 0
    for field in fields:
        value = values.get(field.name, Const(0))
        parts += [Const(0, field.lsb - at), (value | Const(0, field.width))[:field.width]]
        at = field.lsb + field.width
    return Cat(*parts)
