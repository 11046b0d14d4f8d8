"""What `pytest sim/ --design` finds in a design."""
import pytest

from hwgen.top import make
from sim.design_benches import BUFFERS, IN, buffers
from sim.designs import small_design


def test_each_buffer_of_a_decoder_has_its_shape():
    design = small_design(attention_lanes=8, lanes=4, columns=8)
    found = buffers(design)
    assert tuple(found) == BUFFERS
    assert (found["xa"]["read_lanes"], found["qkv"]["read_lanes"]) == (4, 8)


@pytest.mark.parametrize("port", [0, 32])
def test_a_design_has_one_memory_of_keys_and_values(port):
    design = small_design(source="stream", kv_port=port)
    assert [unit for unit in ("kv_cache", "kv_port") if IN[unit](design)] == ["kv_port" if port else "kv_cache"]
    assert ("jobs" in make.attention(design).signature.members) == bool(port)
