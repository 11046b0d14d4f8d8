"""Continuous batching on the RTL: any schedule, with sampling and drafts, equals the golden model, and each request its
run alone."""
import random

import pytest

from hwgen.host.serving.drafts import NgramDrafter
from hwgen.host.serving.policies import Policy
from hwgen.host.serving.scheduler import Request, Scheduler
from sim.decoders import SHAPES, checked
from sim.designs import small_design

# a shape that sim/test_decoder.py builds too: one build serves both
DESIGN = small_design(source="stream", **SHAPES["gumbel"])


def requests():
    rng = random.Random(3)
    return [Request(tuple(rng.randrange(300) for _ in range(rng.randint(1, 12))), rng.randint(2, 8), arrival=1500 * i,
                    seed=i, name=str(i))
            for i in range(5)]


@pytest.mark.parametrize("inverse", [0, 300])
def test_any_schedule(tmp_path, inverse):
    with checked(DESIGN, tmp_path) as link:
        link.configure(inverse, 99)
        outputs = []
        for policy, more in ((Policy("decode-first", budget=3), {"blocks": 4}), (Policy("fair", full="keep"), {}),
                             (Policy("fcfs", chunk=2), {"drafter": NgramDrafter(1), "draft_tokens": 2})):
            scheduler = Scheduler(link, policy, **more)
            for request in requests():
                scheduler.add(request)
            outputs.append([s.output for s in scheduler.run()])
            assert max(len(p.parts) for p in scheduler.passes) > 1
        for request, *found in zip(requests(), *outputs):
            alone = Scheduler(link.golden, Policy(chunk=1))
            alone.add(Request(request.prompt, request.max_tokens, seed=request.seed))
            assert found == [alone.run()[0].output] * 3
