"""The golden grid with ROMs: what stands in the words makes the sums, each weight once; its time is an array's."""
import numpy as np
import pytest

from hwgen.golden.array_grid import grid_ops, rounds
from hwgen.golden.mac_array import mac_array
from hwgen.golden.numbers import fp8_ints
from hwgen.golden.rom_grid import array_codes, rom_grid, rom_grid_cycles, slices
from hwgen.params.formats import E2M1
from sim.designs import small_design
from sim.rom_grid_units import matrices

WIDE = dict(columns=4, vector_lanes=2, attention_lanes=2, intermediate_size=512, tie_word_embeddings=False)
FORMATS = {"blocks": "weights=e2m1", "no blocks": "weights=e2m1,block_range=0,scales=matrix", "rows": "scales=row",
           "plain": None}


@pytest.mark.parametrize("formats", FORMATS)
@pytest.mark.parametrize("rows, tiles, lanes", [(1, 1, 4), (2, 3, 64), (3, 2, 8)])
def test_words_make_the_sums(formats, rows, tiles, lanes):
    """Played by hand: word by word, each tile's own, whole rows added up; and the offsets of the rows."""
    design = small_design(**WIDE, lanes=lanes, formats=FORMATS[formats])
    hw, rng, bits = design.hw, np.random.default_rng(2), 4 if design.narrow else 8
    made = matrices(design, rows, tiles)
    found = slices(design, rows, tiles, made)
    assert found.words.shape[:3] == (rows, tiles, found.runs[-1][1] + 1)
    for (codes, blocks, offsets), (first, last) in zip(made, found.runs):
        n_rounds, k_rounds = rounds(design, rows, tiles, *codes.shape)
        assert last - first + 1 == n_rounds * k_rounds
        x = rng.integers(0, 100, (2, codes.shape[1])).astype(np.uint8)
        ops = grid_ops(design, rows, tiles, len(codes), x, [0, 0])
        sums = np.zeros((n_rounds, 2, tiles, hw.columns), np.int64)
        for r in range(rows):
            for h in range(tiles):
                for word in range(n_rounds * k_rounds):
                    value = int.from_bytes(found.words[r, h, first + word].tobytes(), "little")

                    def field(index, width, base=0, value=value):
                        return value >> base + index * width & (1 << width) - 1
                    tile = np.array([[field(c * lanes + lane, bits) for lane in range(lanes)]
                                     for c in range(hw.columns)])
                    base = hw.columns * lanes * bits
                    weights = fp8_ints(tile.astype(np.uint8),
                                       E2M1 if design.narrow else design.recipe.weight_format).astype(np.int64)
                    if design.largest_block:
                        groups = max(1, lanes // 32)
                        shift = np.array([[field(group * hw.columns + c, 4, base) for group in range(groups)]
                                          for c in range(hw.columns)])
                        weights <<= np.repeat(shift, lanes // groups, axis=1)
                        base += 4 * hw.columns * groups
                    if design.scaled:
                        at = (word // k_rounds * tiles + h) * hw.columns
                        wanted = [int(offsets[at + c]) if at + c < len(codes) else 0 for c in range(hw.columns)]
                        assert [field(c, 4, base) for c in range(hw.columns)] == wanted
                    for entry in range(2):
                        given = np.array(ops[r][word * 2 + entry]["codes"], np.uint8)
                        sums[word // k_rounds, entry,
                             h] += weights @ fp8_ints(given, design.recipe.activation_format).astype(np.int64)
        # in the units of the array's format, of which one of E2M1 is so many
        sums <<= E2M1.unit_exp - design.array_format.unit_exp if design.narrow else 0
        assert (sums == rom_grid(design, rows, tiles, codes, x, blocks)).all()
        assert (sums.swapaxes(0, 1).reshape(2, -1)[:, :len(codes)]
                == mac_array(design, array_codes(design, codes, blocks), x)).all()


@pytest.mark.parametrize("n", [1, 3])
def test_a_word_a_cycle(n):
    """One entry: each cycle a word of every ROM."""
    design = small_design(**WIDE, lanes=8, entries=3)
    ends = [rom_grid_cycles(design, count, 9, n)[-1] for count in (20, 30)]
    assert ends[1] - ends[0] == 10 * 9 * n
