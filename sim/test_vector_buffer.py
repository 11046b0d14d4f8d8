import random

import pytest

from hwgen.params.formats import E3M4, fp8
from hwgen.units.vector_buffer import VectorBuffer
from sim.runner import run, simulators

SHAPES = {
    "smallest": dict(rows=1, length=1, write_lanes=1, read_lanes=1, fmt="e3m4", meta=0),
    "narrow": dict(rows=2, length=12, write_lanes=1, read_lanes=4, fmt="e4m3", meta=3),
    "odd": dict(rows=3, length=24, write_lanes=4, read_lanes=8, fmt="e3m4", meta=5),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_vector_buffer(simulator, shape):
    p = SHAPES[shape]
    unit = VectorBuffer(**{**p, "fmt": fp8(p["fmt"])})
    run(unit, f"vector_buffer_{shape}", "bench_vector_buffer", params={**p, "zeros": 0.9, "rounds": 10}, sim=simulator)


@pytest.mark.parametrize("seed", range(2))
def test_random_shapes(seed):
    rng = random.Random(seed)
    write = rng.choice([1, 2, 4])
    read = write * rng.choice([1, 2, 4])
    p = dict(rows=rng.randint(1, 9), length=read * rng.randint(1, 7), write_lanes=write, read_lanes=read,
             fmt=rng.choice(["e3m4", "e4m3"]), meta=rng.randint(0, 3))
    run(VectorBuffer(**{**p, "fmt": fp8(p["fmt"])}), "vector_buffer_random", "bench_vector_buffer",
        params={**p, "zeros": 0.5, "rounds": 2}, sim=simulators()[-1], seed=seed)


@pytest.mark.parametrize("change, complaint", [
    ({"write_lanes": 3}, "Write lane count must be a power of two, not 3"),
    ({"read_lanes": 6}, "Read lane count must be a power of two, not 6"),
    ({"write_lanes": 8, "read_lanes": 4}, "Write lane count 8 must be at most the read lane count 4"),
    ({"length": 12}, "Row length 12 must be a multiple of the read lane count 8"),
    ({"rows": 0}, "Row count must be at least 1, not 0"),
])
def test_errors(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        VectorBuffer(**{**dict(rows=2, length=16, write_lanes=4, read_lanes=8, fmt=E3M4, meta=1), **change})
