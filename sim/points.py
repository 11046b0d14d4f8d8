"""Functional points: what a bench has been through, as it is seen at the ports of its design (docs/coverage.md).

`watch` looks at all streams of a design, whatever the bench drives them with, and notes which points are hit; nothing
is ticked by hand. Points are of two kinds. `declared` makes those of each port from its shape: transfers, both kinds of
stalls, transfers in successive cycles, and of the fields that are transferred both values of a bit, all of an
enumeration, the first and the last of a range. `NAMED` has
what needs more than a port: each is a function of the transfers between two resets. A process writes the points of its
bench, hit or not, when it ends.
"""
import atexit
import enum
import json
import os
import re
from collections import Counter, defaultdict
from types import SimpleNamespace

from amaranth.hdl import Shape
from amaranth.lib import data
import cocotb
from cocotb.triggers import First, ReadOnly

from hwgen.lib.layouts import ERROR_BITS
from hwgen.params.card import CardError
from hwgen.params.errors import ErrorCode, KvOp
from hwgen.params.hardware import HwShape, Recipe
from hwgen.params.loader import LoadError
from hwgen.params.model import ModelShape
from sim import card_points
from sim.designs import small_design

__all__ = ["NAMED", "asked", "declared", "reached", "unit_of", "watch"]

STALLS = {"taken": "a transfer", "waits for ready": "an offer that is not taken",
          "waits for valid": "a taker without an offer",
          "in successive cycles": "a transfer in the cycle after another one"}
#: What a design has, among a bench's parameters.
FIELDS = {name for of in (ModelShape, HwShape, Recipe) for name in of.__dataclass_fields__}
#: What AXI answers.
ANSWERS = {"OKAY": 0, "SLVERR": 2, "DECERR": 3}
#: Bits of a field ``error``: what it tells.
ERRORS = {ERROR_BITS: ErrorCode, max(LoadError).bit_length(): LoadError}
#: Signals of a component with codes of its own.
CODES = {"CardReader": {"error": CardError}}


# Of each port, from its shape

def _values(name, shape):
    """{what is said of it: value} of a field."""
    cast = Shape.cast(shape)
    if isinstance(shape, type) and issubclass(shape, enum.Enum):
        return {each.name: each.value for each in shape}
    if name == "error" and cast.width in ERRORS:
        return {code.name: int(code) for code in ERRORS[cast.width]}
    if name == "op" and cast.width == 2:
        return {op.name: int(op) for op in KvOp}
    if isinstance(shape, range) and len(shape) > 1 and name != "token":
        return {"first": shape[0], "last": shape[-1]}
    return {"0": 0, "1": 1} if cast.width == 1 else {}


def _leaves(shape, offset=0, path=""):
    """[name, offset, width, values] of each field that has points."""
    if isinstance(shape, data.StructLayout):
        return [leaf for name, field in shape for leaf in _leaves(field.shape, offset + field.offset,
                                                                  f"{path}.{name}" if path else name)]
    if isinstance(shape, data.Layout) or shape is None:
        return []
    values = _values(path.rpartition(".")[2], shape)
    return [[path, offset, Shape.cast(shape).width, values]] if values else []


def _numbers(shape, offset=0, path=""):
    """[name, offset, width] of each number of a payload, but for those of arrays."""
    if isinstance(shape, data.StructLayout):
        return [leaf for name, field in shape for leaf in _numbers(field.shape, offset + field.offset,
                                                                   f"{path}.{name}" if path else name)]
    return [] if isinstance(shape, data.Layout) else [[path, offset, Shape.cast(shape).width]]


def unit_of(bench):
    """The unit that a bench is of."""
    unit = bench.rpartition(".")[2].removeprefix("bench_")
    return {"kv_ecc": "kv_cache", "noise": "sampler", "add_bf16": "arith"}.get(unit, unit)


def asked(component, bench, params, file):
    """What `watch` must know, as JSON: the fields of a component's ports, the unit that a bench is of, its design, and
    where to write."""
    unit = unit_of(bench)
    members = component.signature.flatten(component)
    payloads = {"__".join(map(str, path[:-1])): member.shape for path, member, _ in members if path[-1] == "payload"}
    changes = params.get("changes", params.get("design", params))
    return {"unit": unit, "file": str(file), "fields": _fields(component),
            "changes": changes | ({"source": "stream"} if "axi" in params else {}),
            "all": {port: _numbers(shape) for port, shape in payloads.items()} if unit in NAMED else {}}


def _fields(component):
    """{port: its fields that have points} of a component: of streams' payloads, and of signals that are no stream's."""
    found, members = {}, {"__".join(map(str, path)): (path, member)
                          for path, member, _ in component.signature.flatten(component)}
    wires = {wire for valid, ready, _ in _streams(members).values() for wire in (valid, ready)}
    for name, (path, member) in members.items():
        shape = member.shape
        if name.endswith("__payload"):
            found[name] = _leaves(shape) if isinstance(shape,
                                                       data.Layout) else [["", *leaf[1:]]
                                                                          for leaf in _leaves(shape, path=path[-1])]
        elif name not in wires and isinstance(shape, data.Layout):
            found[name] = _leaves(shape)
        elif name not in wires:
            found[name] = [["", *leaf[1:]] for leaf in _leaves(shape,
                                                               path=path[-1] if isinstance(path[-1], str) else "")]
    for name, codes in CODES.get(type(component).__name__, {}).items():
        found[name] = [["", 0, max(codes).bit_length(), {code.name: int(code) for code in codes}]]
    return {name: leaves for name, leaves in found.items() if leaves and name not in ("aclk", "aresetn")}


def _streams(names):
    """{stream: (valid, ready, payload or None)} of ports' names: ours, and those of AXI."""
    found = {}
    for name in names:
        stem = name.removesuffix("valid")
        if stem != name and stem + "ready" in names:
            payload = f"{stem}payload"
            found[stem.removesuffix("__")] = (name, stem + "ready", payload if payload in names else None)
    return found


def declared(names, leaves):
    """All points of a design's ports, by name."""
    points = [f"{_spelled(stream)}: {what}" for stream in _streams(names) for what in STALLS]
    for port, of_port in leaves.items():
        if port in names:
            points += [_of(port, path, said) for path, _, _, values in of_port for said in values]
    points += [f"{name} = {said}" for name in names if name.endswith(("_rresp", "_bresp")) for said in ANSWERS]
    return points


def _spelled(port):
    """Ports that differ in a number are one."""
    return re.sub(r"__\d+(?=__|$)", "__n", port)


def _of(port, path, said):
    return f"{_spelled(port.removesuffix('__payload'))}{'.' * bool(path)}{path} = {said}"


# What needs more than one port

def _accepted(design, seen):
    return [entry for entry in seen["entry"] or seen["command"] if not entry["none"]]


def _done(seen):
    """Operations on the KV memory that were done."""
    if seen["kv_command"] or seen["kv_answer"]:
        return [op for op, answer in zip(seen["kv_command"], seen["kv_answer"]) if not answer["error"]]
    return [op for op in seen["ask"] if op["op"] < len(KvOp)]


def _operation(op, right):
    return lambda design, seen: any(each["op"] == op and right(design, each["length"]) for each in _done(seen))


def _position(right):
    return lambda design, seen: any(right(design, entry["position"]) for entry in _accepted(design, seen))


def _inside(design, length):
    return length % design.hw.kv_block


def _begins(design, at):
    return at and at % design.hw.kv_block == 0


def _ends(design, at):
    return at % design.hw.kv_block == design.hw.kv_block - 1


def _passes(seen):
    """Commands, a pass at a time."""
    found, one = [], []
    for command in seen["command"]:
        one.append(command)
        if command["last"]:
            found.append(one)
            one = []
    return found


def _halves(first, second):
    """A pass with wanted outputs in the halves that are to have some, and in no other."""
    def hit(design, seen):
        half = design.hw.entries // 2
        return design.hw.halves == 2 and any(
            (any(e["want"] for e in one[:half]), any(e["want"] for e in one[half:])) == (first, second)
            and len(one) > half
            for one in _passes(seen))
    return hit


_BLOCKS = {
    "fork at the edge of a block": _operation(KvOp.FORK, _begins),
    "fork inside a block": _operation(KvOp.FORK, _inside),
    "fork of nothing": _operation(KvOp.FORK, lambda design, length: not length),
    "truncate to the edge of a block": _operation(KvOp.TRUNCATE, _begins),
    "truncate inside a block": _operation(KvOp.TRUNCATE, _inside),
    "truncate to nothing": _operation(KvOp.TRUNCATE, lambda design, length: not length),
    "free": _operation(KvOp.FREE, lambda design, length: True),
}
_POSITIONS = {
    "first position of a second block": _position(_begins),
    "last position of a block": _position(_ends),
    "last position of the context": _position(lambda design, at: at == design.hw.context - 1),
}
_GIVEN_BACK = {
    "position behind whose window a block is given back":
        _position(lambda design, at: design.model.sliding_window and at >= design.model.sliding_window
                  + design.hw.kv_block),
}
_PASSES = {
    "pass of one entry": lambda design, seen: any(len(one) == 1 for one in _passes(seen)),
    "pass of all entries": lambda design, seen: any(len(one) == design.hw.entries > 1 for one in _passes(seen)),
    "pass that wants nothing": lambda design, seen: any(not any(e["want"] for e in one) for one in _passes(seen)),
    "pass that goes on with a slot": lambda design, seen: any(a["slot"] == b["slot"] for one in _passes(seen)
                                                              for a, b in zip(one, one[1:])),
}
_HALVES = {"outputs in both halves": _halves(True, True), "outputs in the first half alone": _halves(True, False),
           "outputs in the second half alone": _halves(False, True)}


def _asked(right):
    return lambda design, seen: any(right(design, each) for each in seen["ask"])


def _admitted(right):
    return _asked(lambda design, each: each["op"] > max(KvOp) and right(design, each["length"]))


_MEMORY = {
    "room for the first position of a second block": _admitted(_begins),
    "room for the last position of a block": _admitted(_ends),
    "room for the last position of the context": _admitted(lambda design, at: at == design.hw.context - 1),
    "room for a position behind whose window a block is given back":
        _admitted(lambda design, at: design.model.sliding_window and at >= design.model.sliding_window
                  + design.hw.kv_block),
}


def _follows(port, field):
    """A field's last value, and then its first."""
    def hit(design, seen):
        values = [each[field] for each in seen[port]]
        most = max(values, default=0)
        return most > 0 and any(a == most and b == 0 for a, b in zip(values, values[1:]))
    return hit


def _commanded(right):
    return lambda design, seen: any(right(design, each["position"]) for each in seen["cmd"])


def _comes_round(design, seen):
    """A count gets smaller, and was not cleared."""
    cycles = seen["cycles"]
    return any(b["data"] < a["data"] and not any(c["clear"] for c in cycles[k:k + 3])
               and len({c.get("address") for c in cycles[k:k + 3]}) == 1
               for k, (a, b) in enumerate(zip(cycles[1:], cycles[2:])))


def _more_blocks_than_there_are(design, seen):
    """Positions that begin a block, in more blocks than the memory has: some were given back, and taken again."""
    begun = [each for each in seen["ask"] if each["op"] > max(KvOp) and each["length"] % design.hw.kv_block == 0]
    return len(begun) > 2 * design.hw.blocks


def _cycle(right):
    """A cycle of which something is so."""
    return lambda design, seen: any(map(right, seen["cycles"]))


def _burst(channel, right):
    """An address that is taken, of whose place and bytes something is so."""
    return _cycle(lambda c: c[f"m_axi_{channel}valid"] and c[f"m_axi_{channel}ready"] and right(
        c[f"m_axi_{channel}addr"], c[f"m_axi_{channel}len"] + 1 << c[f"m_axi_{channel}size"],
        c[f"m_axi_{channel}len"] + 1))


def _bursts(channel):
    """Of a block, and several of another."""
    done = "written" if channel == "aw" else "read"
    return {f"a burst of one word is {done}": _burst(channel, lambda at, size, words: words == 1),
            f"a burst of several words is {done}": _burst(channel, lambda at, size, words: words > 1),
            f"a burst is {done} up to the end of a page": _burst(channel,
                                                                 lambda at, size, words: (at + size) % 4096 == 0),
            f"a burst is {done} from the beginning of a page": _burst(channel, lambda at, size, words: at % 4096 == 0)}


def _part_of_a_word(design, seen):
    """A strobe of some bytes, with a block's last word."""
    strobes = [c["m_axi_wstrb"] for c in seen["cycles"] if c["m_axi_wvalid"] and c["m_axi_wready"]]
    return min(strobes, default=0) < max(strobes, default=0)


def _another_after_an_error(design, seen):
    return any(a["error"] and (a["load"] or a["check"]) for a in seen["cycles"])


def _writes(seen):
    """[(first cycle, last cycle, whether it was refused)] of a start-up."""
    offered = [0, *(cycle["wb_cyc"] for cycle in seen["cycles"])]
    first = [k for k, pair in enumerate(zip(offered, offered[1:])) if pair == (0, 1)]
    last = [k - 1 for k, pair in enumerate(zip(offered, offered[1:])) if pair == (1, 0)]
    return [(begin, end, bool(seen["cycles"][end + 1]["failed"])) for begin, end in zip(first, last)]


def _write(right):
    return lambda design, seen: any(right(k, *write) for k, write in enumerate(_writes(seen)))


def _gap(right):
    """Cycles between two writes, of which something is so."""
    return lambda design, seen: any(right(b[0] - a[1] - 1) for writes in [_writes(seen)]
                                    for a, b in zip(writes, writes[1:]))


#: Signals that are noted in each cycle, as ``cycles``.
SAMPLED = {"counters": ("data", "address", "clear"),
           "memory_loader": ("load", "check", "length", "rx_valid", "raw", "error", "m_axi_wvalid", "m_axi_wready",
                             "m_axi_wstrb",
                             *(f"m_axi_{channel}{name}" for channel in ("aw", "ar")
                               for name in ("valid", "ready", "addr", "len", "size"))),
           **dict.fromkeys(("ddr3_start", "sdram_start"), ("wb_cyc", "ready", "failed")),
           "card_reader": card_points.SIGNALS}
#: Units whose cycles are too many to look at all: looked at are those in which a signal changes, of which one is rst.
CHANGES = ("card_reader",)
_STARTS = {
    "a write is answered in its first cycle": _write(lambda k, first, last, refused: first == last),
    "a write waits for its answer": _write(lambda k, first, last, refused: first < last),
    "the first write is refused": _write(lambda k, first, last, refused: refused and k == 0),
    "a later write is refused": _write(lambda k, first, last, refused: refused and k > 0),
    "a write without a pause behind it": _gap(lambda cycles: cycles == 1),
    "a write with a pause behind it": _gap(lambda cycles: cycles > 1),
    "a reset before the end": lambda design, seen: bool(_writes(seen))
    and not any(c["ready"] or c["failed"] for c in seen["cycles"])}
#: Unit -> {point: whether the transfers between two resets, by port, hit it; of a `Design`}
NAMED = {
    "admission": {**_POSITIONS, **_BLOCKS, **_GIVEN_BACK, **_PASSES},
    "kv_cache": {**_MEMORY, **_BLOCKS,
                 "keys are read up to the last row, and again from the first": _follows("k_req", "position"),
                 "blocks come round": _more_blocks_than_there_are},
    "counters": {"a count comes round": _comes_round},
    "decoder": {**_PASSES, **_HALVES, **_BLOCKS, **_POSITIONS},
    "memory_loader": {
        **_bursts("aw"), **_bursts("ar"),
        "a load of one byte": _cycle(lambda c: c["load"] and c["length"] == 1),
        "a check of one byte": _cycle(lambda c: c["check"] and c["length"] == 1),
        "a word of which some bytes are written": _part_of_a_word,
        "a byte that is nobody's": _cycle(lambda c: c["rx_valid"] and not c["raw"]),
        "a byte that comes too late, and is thrown away": _cycle(lambda c: c["rx_valid"] and c["raw"]
                                                                 and c["error"] == LoadError.SILENCE),
        "a block after one with an error": _another_after_an_error},
    **dict.fromkeys(("ddr3_start", "sdram_start"), _STARTS),
    "card_reader": card_points.POINTS,
    "mac_array": {"ring: the last entry, then the first": _follows("x", "entry"),
                  "a tile of one operation": lambda design, seen: any(
        (k == 0 or seen["x"][k - 1]["tile_end"]) and x["tile_end"] for k, x in enumerate(seen["x"])),
        "a sum of one operation": lambda design, seen: any(x["first"] and x["last"] for x in seen["x"])},
    "vector_buffer": {"a row's last granule, then its first": _follows("w", "part"),
                      "a row's last slice, then a first": _follows("r", "part")},
    "residual": {"a row's last granule, then a first": _follows("read", "part")},
    "rmsnorm": {"a row's last granule, then a first": _follows("o", "part"),
                "the last row, then the first": _follows("o", "row")},
    "rope": {"a head's last granule, then a first": _follows("o", "part"),
             "the last entry, then the first": _follows("o", "entry")},
    "qk_norm": {"the last head, then the first": _follows("o", "head"),
                "a head's last granule, then a first": _follows("o", "part")},
    "convert": {"a last granule, then a first": _follows("o", "part")},
    "swiglu": {"a row's last granule, then a first": _follows("o", "part")},
    "feeder": {"a row's last slice, then a first": _follows("o", "part"),
               "the last row, then the first": _follows("o", "row")},
    "attention": {"the last entry, then the first": _follows("o", "entry"),
                  "a row's last granule, then a first": _follows("o", "part"),
                  "a command for the first position of a second block": _commanded(_begins),
                  "a command for the last position of a block": _commanded(_ends)},
}


def reached(folder):
    """{unit: {point: times}} of what benches have written to a folder."""
    found = defaultdict(Counter)
    for file in sorted(folder.glob("points-*.json")):
        record = json.loads(file.read_text())
        found[record["unit"]].update(record["points"])
    return found


# In the simulator

_about, _hits, _open = None, Counter(), []


class _Segment:
    """What is transferred between two resets."""

    def __init__(self):
        self.transfers = defaultdict(list)      # port: payloads' bits

    def close(self):
        named = NAMED.get(_about["unit"], {})
        if not named or not self.transfers:
            return
        seen = defaultdict(list, {port: [{path: bits >> offset & (1 << width) - 1
                                          for path, offset, width in _about["all"].get(port, [])}
                                         for bits in items]
                                  for port, items in self.transfers.items() if port != "cycles"},
                                  cycles=self.transfers["cycles"])
        for point, hit in named.items():
            if hit(_about["design"], seen):
                _hits[point] += 1


def _write():
    while _open:
        _open.pop().close()
    points = {point: _hits[point] for point in [*_about["points"], *NAMED.get(_about["unit"], {})]}
    with open(_about["file"], "w", encoding="utf-8") as out:
        json.dump({"unit": _about["unit"], "points": points}, out)


def _begin():
    global _about
    _about = json.loads(os.environ["HWGEN_BENCH_POINTS"])
    _about["names"] = [name for name, *_ in json.loads(os.environ["HWGEN_BENCH_PORTS"])]
    _about["points"] = list(dict.fromkeys(declared(_about["names"], _about["fields"])))
    _about["design"] = small_design(**{name: value for name, value in _about["changes"].items()
                                       if name in FIELDS}) if _about["all"] else None
    atexit.register(_write)


def watch(dut, clock):
    """Note the points of a test, from now on. Does nothing unless they are asked for."""
    if "HWGEN_BENCH_POINTS" not in os.environ:
        return
    if _about is None:
        _begin()
    while _open:
        _open.pop().close()
    cocotb.start_soon(_watch(dut, clock))


def value_of(handle):
    """A signal's value as an unsigned int; 0 where it has X or Z, as at the start."""
    value = handle.value
    return int(value) if value.is_resolvable else 0


async def _watch(dut, clock):
    ports, keep = _about["fields"], _about["all"]
    streams = [SimpleNamespace(name=_spelled(name), port=name, valid=getattr(dut, valid), ready=getattr(dut, ready),
                               payload=getattr(dut, payload) if payload else None,
                               leaves=ports.get(payload, []), last=None)
               for name, (valid, ready, payload) in _streams(_about["names"]).items()]
    taken = {valid for valid, *_ in _streams(_about["names"]).values()}
    signals = [(port, getattr(dut, port), leaves) for port, leaves in ports.items()
               if not port.endswith("__payload") and port in _about["names"] and port not in taken]
    answers = [(name, getattr(dut, name), getattr(dut, name.replace("resp", "valid")),
                getattr(dut, name.replace("resp", "ready")))
               for name in _about["names"] if name.endswith(("_rresp", "_bresp"))]
    sampled = {name: getattr(dut, name) for name in SAMPLED.get(_about["unit"], ()) if name in _about["names"]}
    changing = [*sampled.values(), *(handle for _, handle, _ in signals)] if _about["unit"] in CHANGES else []
    segment = _Segment()
    _open.append(segment)
    while True:
        await ReadOnly()
        if clock.in_reset or changing and value_of(dut.rst):
            if segment.transfers:
                segment.close()
                segment.transfers = defaultdict(list)
        else:
            cycle = clock.cycle
            for s in streams:
                valid, ready = value_of(s.valid), value_of(s.ready)
                if valid and ready:
                    _hits[f"{s.name}: taken"] += 1
                    if s.last == cycle - 1:
                        _hits[f"{s.name}: in successive cycles"] += 1
                    s.last = cycle
                    if s.payload is not None and (s.leaves or s.port in keep):
                        bits = value_of(s.payload)
                        if s.port in keep:
                            segment.transfers[s.port].append(bits)
                        _note(s.port, s.leaves, bits)
                elif valid or ready:
                    _hits[f"{s.name}: waits for {'ready' if valid else 'valid'}"] += 1
            if sampled:
                segment.transfers["cycles"].append({name: value_of(handle) for name, handle in sampled.items()})
            for port, handle, leaves in signals:
                _note(port, leaves, value_of(handle))
            for name, answer, valid, ready in answers:
                if value_of(valid) and value_of(ready):
                    said = value_of(answer)
                    _hits.update(f"{name} = {word}" for word, value in ANSWERS.items() if value == said)
        await (First(*(handle.value_change for handle in changing)) if changing else clock.edge())


def _note(port, leaves, bits):
    for path, offset, width, values in leaves:
        value = bits >> offset & (1 << width) - 1
        for said, wanted in values.items():
            if value == wanted:
                _hits[_of(port, path, said)] += 1
