"""CRC-32 of several words at once, as XORs of bits."""
from amaranth.hdl import Cat

__all__ = ["crc_matrices", "matrix_times"]

CRC_POLYNOMIAL = 0xEDB88320    # IEEE 802.3, reflected: as in zlib
WORD = 32


def crc_matrices(words):
    """CRC-32 of ``words`` words as two linear maps, (state, words) -> state: for each bit of the result the inputs it
    is the XOR of."""
    def run(state, data):
        for word in range(words):
            state ^= data >> (WORD * word) & ((1 << WORD) - 1)
            for _ in range(WORD):
                state = state >> 1 ^ (CRC_POLYNOMIAL if state & 1 else 0)
        return state

    def transposed(columns):
        return [[k for k, column in enumerate(columns) if column >> bit & 1] for bit in range(WORD)]

    return (transposed([run(1 << k, 0) for k in range(WORD)]),
            transposed([run(0, 1 << k) for k in range(WORD * words)]))


def matrix_times(matrix, value):
    """A linear map of the bits of ``value``, a Value or a list of them, combinational: bit k is the XOR of the bits
    ``matrix[k]``."""
    return Cat(Cat(value[k] for k in row).xor() for row in matrix)
