"""The buses around a machine: what a user chooses, and the sizes that follow."""
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .checks import check_int

if TYPE_CHECKING:
    from .design import Design

__all__ = ["AXI_EVENTS", "AxiShape", "CardShape", "LoaderShape", "PAGE"]

PAGE = 4096     # bytes that no burst crosses; the weights start at a multiple

#: Counters of the reader, by number behind those of `hwgen.params.counters.EVENTS`: cycles of the pass in which ...
AXI_EVENTS = {
    "axi_bursts": "the address of a burst was taken by the memory",
    "axi_words": "a word came from the memory",
    "axi_waits": "the memory owed a word and gave none",
    "axi_full": "a burst was not asked for because there was no room for it",
}


@dataclass(frozen=True, kw_only=True)
class AxiShape:
    """The buses of an `AxiDecoder`.

    Parameters
    ----------
    data_width          bits of the weights' AXI4 data: a power of two, 8 to 1024
    address_width       bits of its addresses, 13 to 64
    id_width            bits of its identifiers, of which only 0 is used: 1 to 32
    burst               words that a burst has at most: a power of two, 1 to 256; 4 KiB are a limit as well
    outstanding         bursts asked for and not received yet, at most: 1 to 256
    prefetch            words asked for before they are wanted, at least: 1 to 65536. It should cover the memory's
                        latency, and, so that a memory that limits never rests, the machine's longest pause
    host                how commands and results go: "stream" (AXI4-Stream ports), or "queue" (among the registers)
    queue               results that wait for software with host "queue", at least: 1 to 128
    """
    data_width: int = 64
    address_width: int = 32
    id_width: int = 1
    burst: int = 64
    outstanding: int = 8
    prefetch: int = 256
    host: str = "stream"
    queue: int = 4
    #: Whether the machine itself writes the memory: `LoaderShape`.
    loader = False
    #: Whether it does so from a card: `CardShape`.
    card = False

    def __post_init__(self) -> None:
        for noun, field, low, high in (("AXI data width", "data_width", 8, 1024),
                                       ("AXI address width", "address_width", 13, 64),
                                       ("AXI id width", "id_width", 1, 32), ("AXI burst length", "burst", 1, 256),
                                       ("Outstanding bursts", "outstanding", 1, 256),
                                       ("Prefetch", "prefetch", 1, 65536), ("Queue length", "queue", 1, 128)):
            value = getattr(self, field)
            check_int(noun, value, low, high)
            if field in ("data_width", "burst") and value & (value - 1):
                raise ValueError(f"{noun} must be a power of two, not {value}")
        if self.host not in ("stream", "queue"):
            raise ValueError(f"Host port must be 'stream' or 'queue', not {self.host!r}")

    @property
    def word_bytes(self) -> int:
        return self.data_width // 8

    @property
    def burst_words(self) -> int:
        """Words of the longest burst. Bursts start where they end at the latest at a multiple of it: never across 4
        KiB."""
        return min(self.burst, PAGE // self.word_bytes)

    @property
    def fifo_words(self) -> int:
        """Places for words: those ahead, and the burst that waits for its room."""
        return 1 << (self.prefetch + 2 * self.burst_words - 1).bit_length()

    def check(self, design: "Design") -> None:
        """Refuse a design that the bus cannot carry: its sizes, adapters, or weights beyond the addresses. Raises
        ValueError."""
        for noun, value, most in (("Slot count", design.hw.slots, 1 << 10),
                                  ("Context", design.hw.context, (1 << 20) - 1),
                                  ("Entry count", design.hw.entries, 1 << 16)):
            if value > most:
                raise ValueError(f"{noun} must be at most {most} on bus axi, not {value}")
        words = design.adapter_map.beats * design.hw.beat_bytes // 4 if design.hw.adapters else 0
        if words >= 1 << 24:
            raise ValueError(f"Adapter must be at most {(1 << 24) - 1} words of 32 bits on bus axi, not {words}: "
                             "take a smaller adapter_rank")
        if design.hw.source == "stream":
            self.check_reach(design.stream_beats * design.hw.beat_bytes)
        if design.hw.kv_port:
            self.check_reach(design.memory_bytes, "weights, keys and values")

    def check_reach(self, size: int, what: str = "weights") -> None:
        """Refuse so many bytes of something that they go beyond the addresses. Raises ValueError."""
        if size > 1 << self.address_width:
            raise ValueError(f"AXI address width {self.address_width} must reach {size} bytes of {what}")


@dataclass(frozen=True, kw_only=True)
class LoaderShape(AxiShape):
    """Buses of a machine that has its memory for itself, and loads it over its line (`hwgen.units.memory_loader`): with
    host "queue", and 32 bits of addresses at most."""
    host: str = "queue"
    loader = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("AXI address width with a loader", self.address_width, 13, 32)
        if self.host != "queue":
            raise ValueError(f"Host port with a loader must be 'queue', not {self.host!r}")

    def check(self, design: "Design") -> None:
        super().check(design)
        if design.hw.source != "stream":
            raise ValueError(f"Weight source must be 'stream' with a loader, not {design.hw.source!r}")


@dataclass(frozen=True, kw_only=True)
class CardShape(LoaderShape):
    """The same with weights that come from an SD card by themselves (`hwgen.units.card_reader`)."""
    card = True
