"""The AXI4 reader's twin: bursts cover what is wanted and nothing else, and its cycles are those of a machine that
never waits needlessly."""
import random

import pytest

from hwgen.golden.axi_reader import bursts, reading
from hwgen.golden.weights import request_list
from hwgen.params.axi import AxiShape
from sim.designs import small_design

WIDTHS = [8, 32, 64, 256, 1024]


def design_and_axi(width, **axi):
    return small_design(source="stream", tile_beats=2, columns=8, lanes=8), AxiShape(data_width=width, **axi)


def bytes_of(design, address, count, stride):
    size, step = design.hw.beat_bytes, design.hw.tile_beats if stride else 1
    return {b for i in range(count) for b in range((address + i * step) * size, (address + i * step + 1) * size)}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("burst", [1, 8, 256])
def test_bursts(width, burst):
    design, axi = design_and_axi(width, burst=burst)
    rng = random.Random(width * burst)
    for _ in range(50):
        stride, count = rng.randrange(2), rng.randint(1, 20)
        request = rng.randrange(design.stream_beats - (count - 1) * 2), count, stride
        found = bursts(design, axi, *request)
        got = [b for x in found for b in range(x.offset, x.offset + x.words * axi.word_bytes)]
        want = bytes_of(design, *request)
        assert want <= set(got) and all(b // axi.word_bytes in {w // axi.word_bytes for w in want} for b in got)
        if not stride:
            assert len(got) == len(set(got))
        for x in found:
            assert 1 <= x.words <= burst and x.offset % axi.word_bytes == 0
            assert x.offset // 4096 == (x.offset + x.words * axi.word_bytes - 1) // 4096


def test_long_requests_take_long_bursts():
    design, axi = design_and_axi(128, burst=256)
    assert [b.words for b in bursts(design, axi, 0, 140, 0)] == [256, 24]        # 32 bytes a beat, 4 KiB a page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("latency", [1, 30, 200])
def test_reading(width, latency):
    design, axi = design_and_axi(width, prefetch=256, outstanding=64)
    requests = request_list(design, [3, 7], True)
    got = reading(design, axi, requests, latency)
    assert len(got.beats) == sum(count for _, count, _ in requests)
    assert got.addresses[0][0] == 2 and got.words[0] == 2 + latency
    assert all(b > a for a, b in zip(got.words, got.words[1:])) and all(b > a for a, b in zip(got.beats, got.beats[1:]))
    # the body: words without a gap if they are narrower than beats, beats without a gap if those are narrower
    body = got.beats[-requests[-1][1]:]
    per_beat = max(1, design.hw.beat_bytes // axi.word_bytes)
    assert body[-1] - body[0] <= (len(body) - 1) * per_beat + (2 * latency + 64 if width == 1024 else 0)


def test_too_few_bursts_under_way_make_the_memory_wait():
    design, _ = design_and_axi(64)
    requests = request_list(design, [0], True)
    few, many = (reading(design, AxiShape(burst=8, outstanding=n), requests, 50).beats[-1] for n in (1, 16))
    assert few > 4 * many


@pytest.mark.parametrize("field, value, complaint", [
    ("data_width", 48, "power of two, not 48"), ("data_width", 4, "8 to 1024"), ("data_width", 2048, "8 to 1024"),
    ("burst", 512, "1 to 256"),
    ("burst", 24, "power of two"), ("address_width", 12, "13 to 64"), ("outstanding", 0, "1 to 256"),
    ("prefetch", 0, "1 to 65536"),
    ("id_width", 0, "1 to 32"), ("host", "usb", "'stream' or 'queue'")])
def test_refused(field, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        AxiShape(**{field: value})


def test_refused_kinds():
    with pytest.raises(TypeError, match="must be an integer, not '64'"):
        AxiShape(data_width="64")


@pytest.mark.parametrize("changes, axi, complaint", [
    (dict(source="stream"), dict(address_width=13, data_width=8), ""),
    (dict(source="stream", vocab_size=900), dict(address_width=13), "must reach 18"),
    (dict(source="stream", slots=1025), {}, "Slot count must be at most 1024 on bus axi, not 1025")])
def test_designs_refused(changes, axi, complaint):
    design = small_design(**changes)
    if not complaint:
        AxiShape(**axi).check(design)
        return
    with pytest.raises(ValueError, match=complaint):
        AxiShape(**axi).check(design)
