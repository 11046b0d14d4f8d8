"""What is kept of each row of the residual beside its numbers: their largest magnitude, and their CRC."""
from amaranth.hdl import Cat, Const, Mux, unsigned
from amaranth.lib import memory

from .crc import crc_matrices, matrix_times

__all__ = ["row_crcs", "row_magnitudes"]


def row_magnitudes(m, entries, op, valid, total, ored):
    """The memory of the OR over each row of ``x ^ (x >> 31)``.

    Parameters
    ----------
    m : Module
    entries : int           rows
    op, valid               the operation in the stage after that of ``total``, and whether there is one. ``settled``:
                            its granule counts; ``row_first``: it starts its row
    total : list            the granule's numbers
    ored : Signal           register between the two stages
    """
    spread = [x[:-1] ^ x[-1].replicate(len(ored)) for x in total]
    m.d.sync += [bit.eq(Cat(x[k] for x in spread).any()) for k, bit in enumerate(ored)]
    return _row_memory(m, entries, len(ored), op, valid & op.settled, ored, lambda old: old | ored)


def row_crcs(m, entries, op, valid, total, checked):
    """The memory of each row's CRC-32, not yet inverted; parameters as of `row_magnitudes`, but for the register
    ``checked``."""
    width = len(checked)
    of_state, of_words = crc_matrices(len(total))
    # bit by bit: Amaranth would copy a Cat of them for each bit that is taken from it
    m.d.sync += checked.eq(matrix_times(of_words, [bit for number in total for bit in number]))
    first = matrix_times(of_state, Const(-1, width)) ^ checked
    return _row_memory(m, entries, width, op, valid, first, lambda old: matrix_times(of_state, old) ^ checked)


def _row_memory(m, entries, bits, op, valid, first, follow):
    """A memory of one word for each row: in the row's first granule it is ``first``, and in each other one ``follow``
    of what it was."""
    made = memory.Memory(shape=unsigned(bits), depth=entries, init=[])
    old, new = made.read_port(domain="comb"), made.write_port()
    m.d.comb += [old.addr.eq(op.entry), new.addr.eq(op.entry), new.en.eq(valid),
                 new.data.eq(Mux(op.row_first, first, follow(old.data)))]
    return made
