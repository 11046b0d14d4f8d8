"""The order of the feeder's requests says the whole multiplication."""
import pytest

from hwgen.golden.feeder import duration, requests
from sim.designs import small_design


@pytest.mark.parametrize("head", ["single", "pair"])
def test_every_product_once(head):
    design = small_design(head=head, entries=3)
    for matmul in (*design.layer_matmuls, design.head_matmul):
        asked = list(requests(matmul, 3))
        assert len(asked) == matmul.tiles * 3 == duration(matmul, 3) - 1
        sums = {}                                         # entry -> parts of the sum under way
        finished = 0
        for tile, request in enumerate(asked):
            meta = request["meta"]
            assert meta["entry"] == request["row"] == tile % 3 and meta["tile_end"] == (tile % 3 == 2)
            if meta["first"]:
                sums[meta["entry"]] = []
            sums[meta["entry"]].append(request["part"])
            if meta["last"]:
                assert sums.pop(meta["entry"]) == [k for k in range(matmul.k_tiles) for _ in range(matmul.codes)]
                finished += 1
        assert finished == matmul.n_tiles * 3 and not sums
