"""Golden twin of hwgen/units/decode_loop.py: the entries of the pass that follows a pass."""
from collections.abc import Sequence

from ..params.design import Design

__all__ = ["GAP", "follow"]

# cycles from the transfer of a pass's last result to the offer of the next pass's first entry, if its first goes on
GAP = 2


def follow(design: Design, left: int, entries: Sequence[dict[str, int]], outcomes: Sequence[dict[str, int]],
           stop: int | None = None) -> tuple[int, list[tuple[int, dict[str, int]]]]:
    """(left, the entries that follow) after a pass.

    Parameters
    ----------
    left : int          passes that may follow
    entries : [dict]    the pass's entries, without those that are ``none``: slot, position, token, want, last, and key
                        and adapter if the machine has them
    outcomes : [dict]   its results: entry, token, none, error
    stop : int          a token behind which nothing follows, or None

    Returns [(cycle, entry)] of the pass that follows, if the machine takes each at once: cycles from the transfer of
    the last result.
    """
    given = {o["entry"]: o for o in outcomes if not o["none"]}
    if left == 0 or not given:
        return left, []
    going = []
    for index, (entry, outcome) in enumerate(zip(entries[:design.hw.entries], map(given.get, range(len(entries))))):
        if not outcome or outcome["error"] or outcome["token"] == stop:
            continue
        if entry["want"] and entry["position"] != design.hw.context - 1:
            entry = {**entry, "position": entry["position"] + 1, "token": outcome["token"], "want": 1, "last": 0}
            if "key" in entry:
                entry["key"] = (entry["key"] + 1) % 2**32
            going.append((GAP + index, entry))
    if not going:
        return 0, []
    going[-1][1]["last"] = 1
    return left - 1, going
