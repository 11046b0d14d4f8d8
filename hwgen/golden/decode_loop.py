"""Golden twin of hwgen/units/decode_loop.py: what follows a pass."""

__all__ = ["GAP", "follow"]

GAP = 1     # cycles from the transfer of a pass's last result to the offer of the next pass's entry


def follow(design, left, entry, outcome, stop=None):
    """(left, entry) behind a pass.

    Parameters
    ----------
    left : int          passes that may follow
    entry : dict        the pass's last entry: slot, position, token, want, last, and key if the machine has it
    outcome : dict      its last result: token, none, and error if the machine has it
    stop : int          a token behind which nothing follows, or None

    Returns the entry of the pass that follows, or None.
    """
    if left == 0 or outcome["none"]:
        return left, None
    if not entry["want"] or entry["position"] == design.hw.context - 1 or outcome.get("error") or outcome["token"] == stop:
        return 0, None
    entry = {**entry, "position": entry["position"] + 1, "token": outcome["token"], "want": 1, "last": 1}
    if "key" in entry:
        entry["key"] = (entry["key"] + 1) % 2**32
    return left - 1, entry
