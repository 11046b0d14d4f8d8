"""Twin of `hwgen.lib.secded`: words with check bits, as Python integers."""
from ..params.secded import check_bits, columns, pieces

__all__ = ["load", "store", "stored_bits"]


def stored_bits(width: int) -> int:
    """Bits of a stored word: the data, then the check bits of each piece."""
    return width + sum(check_bits(bits) for _, bits in pieces(width))


def _checks(data, bits):
    checks = 0
    for i, column in enumerate(columns(bits)):
        checks ^= column * (data >> i & 1)
    return checks


def store(data: int, width: int) -> int:
    """The word that is stored for ``width`` bits of data."""
    word, at = data, width
    for low, bits in pieces(width):
        word |= _checks(data >> low & ((1 << bits) - 1), bits) << at
        at += check_bits(bits)
    return word


def load(word: int, width: int) -> tuple[int, bool, bool]:
    """(data, whether something was corrected, whether something could not be) of a stored word."""
    out, at, corrected, failed = word & ((1 << width) - 1), width, False, False
    for low, bits in pieces(width):
        r = check_bits(bits)
        syndrome = _checks(out >> low & ((1 << bits) - 1), bits) ^ (word >> at & ((1 << r) - 1))
        at += r
        if syndrome in columns(bits):
            out ^= 1 << (low + columns(bits).index(syndrome))
        single = syndrome in columns(bits) or syndrome.bit_count() == 1
        corrected, failed = corrected or single, failed or bool(syndrome and not single)
    return out, corrected, failed
