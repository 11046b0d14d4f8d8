"""The AXI4 writer's twin."""
from hwgen.golden.axi_writer import beat_words, write_period
from hwgen.params.axi import AxiShape


def test_a_beat_in_a_wider_word():
    start, words = beat_words(AxiShape(data_width=64), 2, 7, b"ab", 0b10)
    assert (start, words) == (8, [(b"\0\0\0\0\0\0ab", 0b10000000)])


def test_a_beat_of_several_words():
    start, words = beat_words(AxiShape(data_width=16), 8, 3, b"abcdefgh", 0b1100_0011)
    assert (start, words) == (24, [(b"ab", 3), (b"cd", 0), (b"ef", 0), (b"gh", 3)])


def test_a_beat_waits_for_the_answer_to_the_one_before():
    assert [write_period(AxiShape(data_width=width), 8, answer)
            for width, answer in ((128, 1), (64, 1), (16, 1), (16, 20))] == [4, 4, 7, 26]
