"""Twin of `hwgen.units.axi_writer`: the words of a beat, and how long it takes."""
from ..params.axi import AxiShape
from ..params.kv_port import WRITE_CYCLES

__all__ = ["beat_words", "write_period"]


def beat_words(axi: AxiShape, beat_bytes: int, address: int, data: bytes,
               strobe: int) -> tuple[int, list[tuple[bytes, int]]]:
    """(byte offset of the first word, [(word, strobe)]) of a beat."""
    word, first = axi.word_bytes, address * beat_bytes
    start = first // word * word
    whole = bytes(first - start) + data + bytes(-(first - start + beat_bytes) % word)
    bits = strobe << (first - start)
    return start, [(whole[at:at + word], bits >> at & (1 << word) - 1) for at in range(0, len(whole), word)]


def write_period(axi: AxiShape, beat_bytes: int, answer: int = WRITE_CYCLES) -> int:
    """Cycles from a beat that is taken to the next one that may be, with a memory that takes everything at once and
    answers so many cycles after the last word."""
    return 2 + max(1, beat_bytes // axi.word_bytes) + answer
