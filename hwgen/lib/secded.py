"""Error correction of memory words, combinational: `hwgen.params.secded` has the code and its source."""
from amaranth.hdl import Cat, Const, Signal, Value

from ..params.secded import check_bits, columns, pieces

__all__ = ["correct", "stored_bits", "store", "syndromes"]


def stored_bits(width):
    """Bits of a stored word: the data, then the check bits of each piece."""
    return width + sum(check_bits(bits) for _, bits in pieces(width))


def _checks(data, bits):
    """The check bits of a piece."""
    table = columns(bits)
    return Cat(Cat(data[i] for i in range(bits) if table[i] >> r & 1).xor() if any(c >> r & 1 for c in table)
               else Const(0, 1)
               for r in range(check_bits(bits)))


def store(data):
    """``data`` with its check bits."""
    data = Value.cast(data)
    return Cat(data, *(_checks(data[low:low + bits], bits) for low, bits in pieces(len(data))))


def syndromes(word, width):
    """First half of reading a stored word of ``width`` data bits: all pieces' syndromes, 0 where nothing is wrong."""
    out, at = [], width
    for low, bits in pieces(width):
        r = check_bits(bits)
        out.append(_checks(word[low:low + bits], bits) ^ word[at:at + r])
        at += r
    return Cat(out)


def correct(m, data, syndrome, *, name):
    """Second half: (data, whether something was corrected, whether something could not be)."""
    data, at, flips, corrected, failed = Value.cast(data), 0, [], [], []
    for piece, (_, bits) in enumerate(pieces(len(data))):
        r = check_bits(bits)
        s = Signal(r, name=f"{name}_syndrome{piece}")
        m.d.comb += s.eq(syndrome[at:at + r])
        at += r
        flip, single = Signal(bits, name=f"{name}_flip{piece}"), Signal(name=f"{name}_single{piece}")
        m.d.comb += [flip.eq(Cat(s == column for column in columns(bits))),
                     single.eq(flip.any() | Cat(s == 1 << i for i in range(r)).any())]
        flips.append(flip)
        corrected.append(single)
        failed.append(s.any() & ~single)
    return data ^ Cat(flips), Cat(corrected).any(), Cat(failed).any()
