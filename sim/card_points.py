"""Functional points of the card reader: what its bench has been through, between two resets (`sim.points`)."""
from hwgen.params.card import CardError

__all__ = ["POINTS", "SIGNALS"]

#: What is looked at, whenever one of them changes.
SIGNALS = ("rst", "ready", "busy", "error", "block", "load", "check", "loaded", "loader_busy", "loader_error",
           "card_logged", "card_log_in", "card_log_selected")
#: First bytes of CMD0, CMD18 and ACMD41.
_RESET, _READ, _START = 0x40, 0x52, 0x69


def _commands(seen):
    """First bytes of the commands that the card got: those behind a byte of ones."""
    sent = [(b["card_log_in"], b["card_log_selected"]) for a, b in zip(seen["cycles"], seen["cycles"][1:])
            if a["card_logged"] != b["card_logged"]]
    return [byte for (before, _), (byte, selected) in zip(sent, sent[1:])
            if before == 0xFF and selected and byte >> 6 == 1]


def _times(command, right):
    return lambda design, seen: right(_commands(seen).count(command))


def _loads(seen):
    """Blocks that the loader got, in order."""
    return [each["block"] for each in seen["cycles"] if each["load"]]


def _ended(right):
    """The state in which a boot ended, of which something is so."""
    def hit(design, seen):
        last = seen["cycles"][-1] if seen["cycles"] else {"busy": 1}
        return not last["busy"] and right(seen, last)
    return hit


def _bytes_until_done(seen):
    """Of each block, the bytes that went to the card until the loader was done: 512 and two of CRC, if the card waited
    for it."""
    found, bytes_ = [], 0
    for a, b in zip(seen["cycles"], seen["cycles"][1:]):
        if b["load"]:
            bytes_ = 0
        bytes_ += a["card_logged"] != b["card_logged"]
        if a["loader_busy"] and not b["loader_busy"] and bytes_:
            found.append(bytes_)
    return found


#: {point: whether what changed between two resets hit it; of no design}
POINTS = {
    "the memory is ready at once": lambda design, seen: any(each["ready"] for each in seen["cycles"][:1]),
    "the memory is ready later": lambda design, seen: bool(_commands(seen)) and not seen["cycles"][0]["ready"],
    "the first CMD0 is answered": _ended(lambda seen, last: _commands(seen).count(_RESET) == 1),
    "a later CMD0 is answered": _ended(lambda seen, last: _commands(seen).count(_RESET) > 1
                                       and last["error"] != CardError.NO_CARD),
    "the card is started at once": _times(_START, lambda times: times == 1),
    "the card starts for several answers": _times(_START, lambda times: times > 1),
    "block 0 is read again": lambda design, seen: _commands(seen).count(_READ) > 1 and not _loads(seen)[:1],
    "a block is read again": lambda design, seen: any(a == b for a, b in zip(_loads(seen), _loads(seen)[1:])),
    "all blocks at the first try": _ended(lambda seen, last: not last["error"] and _commands(seen).count(_READ) == 1),
    "all blocks, of which one was read again": _ended(lambda seen, last: not last["error"]
                                                      and _commands(seen).count(_READ) > 1),
    "an end at block 0": _ended(lambda seen, last: last["error"] and not last["block"]),
    "an end at a block of weights": _ended(lambda seen, last: last["error"] and last["block"]),
    "an end after the read-back": _ended(lambda seen, last: last["error"]
                                         and any(each["check"] for each in seen["cycles"])),
    "the loader is done before the block's CRC": lambda design, seen: min(_bytes_until_done(seen), default=999) < 514,
    "the loader is done after the block's CRC": lambda design, seen: max(_bytes_until_done(seen), default=0) >= 514,
    "a reset in a block": lambda design, seen: bool(seen["cycles"]) and bool(_loads(seen))
    and bool(seen["cycles"][-1]["busy"]),
}
