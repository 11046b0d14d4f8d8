"""tools.bench_board: how much slower long texts are."""
import dataclasses

from hwgen.models import load
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.presets import hw_shape
from tools.bench_board import context_ratio, long_context


def demo(**more):
    shape = load("demo").shape
    hw = hw_shape("tiny,context=256,lanes=8,columns=16,attention_lanes=4", shape)
    return Design(model=shape, hw=dataclasses.replace(hw, **more), recipe=Recipe())


def test_attention_lanes_shorten_long_texts():
    assert context_ratio(demo(), 1) < context_ratio(demo(attention_lanes=8), 1) < 1


def test_texts_are_as_slow_as_their_weights():
    assert context_ratio(demo(), 1, 1_000_000) == 1


def test_boards_without_room_have_no_long_texts():
    assert not long_context("ulx3s-12f")
    assert dict(row[:2] for row in long_context("ulx3s-85f"))["long_context_texts"] == 1
