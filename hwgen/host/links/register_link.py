"""A link to a machine by its registers (docs/axi.md), whatever they are reached over."""
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ...models.adapter_codes import QuantizedAdapter
from ...models.pack import model_id
from ...models.quantize import QuantizedModel
from ...params.axi import AxiShape
from ...params.design import Design
from ...params.errors import ErrorCode
from ...params.frames import MOST_WRITTEN
from ...params.loader import LoadError
from ...params.counters import EVENTS
from ...params.registers import MAGIC, RESULT, VERSION, command_fields, design_id, register_map
from .card import CardState
from .frames import FramePort, Read, Write
from .link import (Entry, KvAnswer, Link, LinkError, PassResult, check_fits, check_loaded, checked_adapter,
                   entry_errors, refusals)

__all__ = ["MemoryState", "RegisterLink"]

CHUNK = 4096        # bytes that a line is given at once


@dataclass(frozen=True)
class MemoryState:
    """What a loader says of its memory, and of the latest block.

    busy, ready, failed, loaded : bool
    error : LoadError       of the block
    count, crc : int        of the block's bytes
    weights : int           CRC-32 of the weights that are there
    """
    busy: bool
    ready: bool
    failed: bool
    loaded: bool
    error: LoadError
    count: int
    crc: int
    weights: int

    @classmethod
    def of(cls, words: Sequence[int]) -> Self:
        status, count, crc, _, weights = words      # from LOAD_STATUS to WEIGHTS_CRC
        code = status >> 8 & 7
        if code not in list(LoadError):
            raise LinkError(f"The machine's loader gave error {code}, which must be below {len(LoadError)}")
        busy, ready, failed, loaded = (bool(status >> bit & 1) for bit in range(4))
        return cls(busy, ready, failed, loaded, LoadError(code), count, crc, weights)


class RegisterLink(Link):
    """A machine whose registers are that of ``register_map(design, axi)``, with host "queue".

    Connecting resets the machine, and refuses another one than expected: by its registers' version, its shape and its
    model.

    Parameters
    ----------
    port : FramePort
    design : Design
    axi : AxiShape
    quantized : QuantizedModel      the model that it should hold
    patience : float                seconds for a pass
    details : bool                  read counters and signatures after each pass
    weights : bool                  it must hold the model's weights now; without, `check_weights` is for later
    """

    def __init__(self, port: FramePort, design: Design, axi: AxiShape, quantized: QuantizedModel, *,
                 patience: float = 10.0, details: bool = True, weights: bool = True) -> None:
        self.design, self._port, self._patience, self.details = design, port, patience, details
        self._quantized, self._loaded = quantized, set()
        self._map = registers = register_map(design, axi)
        self._check_identity(design, axi)
        self.reset()
        if axi.loader:
            self._port.write(registers["TIMEOUT"].offset, 1 << 24)
        if weights:
            self.check_weights()

    def check_weights(self) -> None:
        """LinkError unless the machine has the model's weights."""
        loader = self._map if "LOAD" in self._map else None
        card = self.card()
        if loader and not self.memory().loaded:
            raise LinkError("The board's memory holds no weights that were loaded since it was switched on"
                            f"{f' (its card: {card})' if card else ''}: {self._load_them()}")
        # the weights say what they are when they are read
        self.reset()
        self._give([Entry(0, 0, 0)])
        self._results(1)
        found, wanted = self._port.read(self._register("WEIGHTS_ID"))[0], model_id(self._quantized)
        if found != wanted:
            raise LinkError(f"{self._name()} runs with weights {found:#010x}, and {self.design.model.name} in these "
                            f"formats has {wanted:#010x}: "
                            + (self._load_them() if loader else "build its bitstream again"))
        self.reset()

    @staticmethod
    def _load_them():
        return "hwgen load MODEL --board B --link L writes them"

    def _name(self):
        words = self._port.read(self._map["NAME0"].offset, 4)
        return b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0").decode("ascii", "replace")

    def _check_identity(self, design, axi):
        magic, version = self._port.read(self._map["ID"].offset, 2)
        if magic != MAGIC:
            raise LinkError(f"What answers is no machine of hwgen: its ID is {magic:#010x}, not {MAGIC:#010x}")
        if version != VERSION:
            raise LinkError(f"The machine has version {version} of the registers, and this hwgen knows {VERSION}: "
                            "build the bitstream again")
        name, wanted = self._name(), design.model.name[:16]
        if name != wanted:
            raise LinkError(f"The machine is built for the model {name if name.isprintable() else repr(name)}, not "
                            f"for {wanted}: configure the board with the bitstream of {wanted}")
        found = self._port.read(self._map["DESIGN_ID"].offset)[0]
        if found != design_id(design, axi):
            lanes, capacity, context = (self._port.read(self._map[r].offset)[0]
                                        for r in ("ARRAY", "CAPACITY", "CONTEXT"))
            hw = design.hw
            raise LinkError(f"The machine has another shape: {lanes & 0xFFFF} x {lanes >> 16} multipliers, "
                            f"{capacity & 0xFFFF} entries, {capacity >> 16} slots of {context} tokens; asked for are "
                            f"{hw.lanes} x {hw.columns}, {hw.entries}, "
                            f"{hw.slots} of {hw.context}: build its bitstream again, or name its --shape and --formats")

    def _register(self, name):
        return self._map[name].offset

    def reset(self) -> None:
        self._port.write(self._register("CONTROL"), 2)
        self._wait(lambda: not self._port.read(self._register("STATUS"))[0] & 2, "the reset")
        self._port.write(self._register("CONTROL"), 1)

    def configure(self, inv_temperature: int, seed: int) -> None:
        if "INV_TEMPERATURE" in self._map:
            self._port.write(self._register("INV_TEMPERATURE"), inv_temperature)
            self._port.write(self._register("SEED"), seed)

    def _wait(self, condition, what):
        deadline = time.monotonic() + self._patience
        while not condition():
            if time.monotonic() > deadline:
                raise LinkError(f"The machine has not ended {what} in {self._patience:g} s")

    def _give(self, entries):
        """Write the entries of a pass; the machine takes them when all are there, so that the line's speed is none of
        its cycles."""
        fields, control = command_fields(self.design), self._register("CONTROL")
        operations = [Write(control, (0,))]
        for index, e in enumerate(entries):
            values = {"token": e.token, "position": e.position, "slot": e.slot, "want": int(e.want),
                      "last": int(index == len(entries) - 1), "key": e.key, "adapter": e.adapter}
            word = sum(values.get(f.name, 0) << f.lsb for f in fields)
            operations.append(Write(self._register("COMMAND_LO"), (word & 0xFFFFFFFF,)))
            if "COMMAND_KEY" in self._map:
                operations.append(Write(self._register("COMMAND_KEY"), (word >> 64 & 0xFFFFFFFF,)))
            if "COMMAND_ADAPTER" in self._map:
                operations.append(Write(self._register("COMMAND_ADAPTER"), (word >> 96,)))
            operations.append(Write(self._register("COMMAND_HI"), (word >> 32 & 0xFFFFFFFF,)))
        self._port.transact([*operations, Write(control, (1,))])

    def _pop(self, entries):
        """The results that are there of a pass of so many entries, oldest first: dicts of `params.registers.RESULT`."""
        count = self._port.read(self._register("QUEUE"))[0] >> 8 & 0xFF
        pop = Write(self._register("QUEUE"), (1 << 16,))
        words = self._port.transact([op for _ in range(count)
                                     for op in (Read(self._register("RESULT_LO"), 2), pop)]) if count else []
        results = [_fields(low | high << 32) for low, high in words[::2]]
        for result in results:
            for field, count in (("token", self.design.model.vocab_size), ("entry", entries),
                                 ("error", len(ErrorCode))):
                if result[field] >= count and not (result["none"] and field != "error"):
                    raise LinkError(f"The machine gave a result with {field} {result[field]}, which must be below "
                                    f"{count}")
        return results

    def _results(self, entries):
        """All results of a pass of so many entries."""
        results = []

        def done():
            results.extend(self._pop(entries))
            return bool(results) and results[-1]["last"]
        self._wait(done, "its pass")
        if any(r["bus_error"] for r in results):
            raise LinkError("The machine could not read its weights")
        return results

    def load_adapter(self, number: int, quantized: QuantizedAdapter) -> None:
        """As `Link.load_adapter`. LinkError if entries with the adapter of that number wait or run."""
        words = np.frombuffer(checked_adapter(self.design, number, quantized).tobytes(), "<u4").tolist()
        data = self._register("ADAPTER_DATA")
        parts = (words[i:i + MOST_WRITTEN] for i in range(0, len(words), MOST_WRITTEN))
        self._loaded.discard(number)
        self._port.transact([Write(self._register("ADAPTER_LOAD"), (number,)),
                             *(Write(data, tuple(part), fixed=True) for part in parts)])
        if not self._port.read(self._register("ADAPTER_STATUS"))[0] >> number - 1 & 1:
            raise LinkError(f"The machine has not taken adapter {number} as a whole")
        self._loaded.add(number)

    def run_pass(self, entries: Sequence[Entry]) -> PassResult:
        check_fits(self.design, entries)
        check_loaded(entries, self._loaded)
        if not entries:     # the registers have no word for it
            return PassResult(tokens={}, signatures=[[] for _ in range(self.design.layers)],
                              errors=entry_errors([], {None: ErrorCode.EMPTY_PASS}))
        self._give(entries)
        results = self._results(len(entries))
        tokens = {r["entry"]: r["token"] for r in results if not r["none"] and not r["error"]}
        errors = refusals(self.design, entries, ((None if r["none"] else r["entry"], r["error"]) for r in results))
        if not self.details:
            return PassResult(tokens=tokens, signatures=None, errors=errors)
        layers, rows = self.design.layers, self.design.hw.entries
        counters = dict(zip(EVENTS, self.counters()))
        words = self._port.read(self._register("SIGNATURE"), layers * rows)
        ran = len(entries) - len([i for i in errors if i is not None])
        return PassResult(tokens=tokens, errors=errors, cycles=counters["cycles"], counters=counters,
                          signatures=[words[layer * rows:layer * rows + ran] for layer in range(layers)])

    def operate(self, op: int, slot: int, other: int = 0, length: int = 0) -> KvAnswer:
        check_fits(self.design, slots=(slot, other), length=length)
        answer = self._register("KV_ANSWER")
        self._port.transact([Write(self._register("KV_LENGTH"), (length,)),
                             Write(self._register("KV_COMMAND"), (op | slot << 4 | other << 16,))])
        self._wait(lambda: not self._port.read(answer)[0] & 1, "the operation on its KV memory")
        code = self._port.read(answer)[0] >> 8 & 0xFF
        if code >= len(ErrorCode):
            raise LinkError(f"The machine answered an operation on its KV memory with code {code}, which must be "
                            f"below {len(ErrorCode)}")
        return KvAnswer(ErrorCode(code))

    # -- the memory of a machine that has a loader

    def memory(self) -> MemoryState:
        """`MemoryState`, when its start-up is over. LinkError if that fails, or takes too long."""
        def state():
            found.append(MemoryState.of(self._port.read(self._register("LOAD_STATUS"), 5)))
            return found[-1].ready or found[-1].failed
        found = []
        self._wait(state, "its memory's start-up")
        if found[-1].failed:
            raise LinkError("The board's memory does not work: its start-up has failed")
        return found[-1]

    def card(self, progress: Callable[[int], object] = lambda block: None) -> CardState | None:
        """`CardState` when the machine has read its card, or None of one that has none. ``progress(block)`` is called
        as blocks come. LinkError if none does for ``patience`` seconds."""
        if "CARD" not in self._map:
            return None
        self.memory()
        latest, state = -1, None

        def moved():
            nonlocal state
            state = CardState.of(self._port.read(self._register("CARD"), 2))
            return not state.busy or state.block != latest
        while state is None or state.busy:
            self._wait(moved, "the reading of its card")
            assert state is not None        # moved() was called
            latest = state.block
            progress(latest)
        return state

    def check_block(self, address: int, length: int) -> MemoryState:
        """`MemoryState` behind a block that was read back."""
        return self._block("CHECK", address, length)

    def load_block(self, address: int, data: bytes, sent: Callable[[int], object] = lambda count: None) -> MemoryState:
        """`MemoryState` behind a block that was written; it says whether that went well. ``sent(count)`` is called as
        bytes go."""
        repeats = self._port.repeats
        self._port.transact([Write(self._register("LOAD_ADDRESS"), (address,)),
                             Write(self._register("LOAD"), (len(data),))])
        # or the answer was lost, and the block has taken the question for its bytes
        if self._port.repeats == repeats:
            for start in range(0, len(data), CHUNK):
                self._port.send(data[start:start + CHUNK])
                sent(min(start + CHUNK, len(data)))
        return self._ended()

    def seal(self, crc: int) -> None:
        """Says that weights of this CRC are in the memory, of which all have just been read back."""
        self._port.write(self._register("SEAL"), crc)

    def _block(self, register, address, length):
        self._port.transact([Write(self._register("LOAD_ADDRESS"), (address,)),
                             Write(self._register(register), (length,))])
        return self._ended()

    def _ended(self):
        """`MemoryState` when no block is under way."""
        state = None

        def done():
            nonlocal state
            state = self.memory()
            return not state.busy
        self._wait(done, "a block of its memory")
        return state

    def counters(self) -> list[int]:
        """The machine's counters of the latest pass, in the order of `params.counters.EVENTS`."""
        return self._port.read(self._register("COUNTER"), len(EVENTS))

    def follow(self, entries: Sequence[Entry], count: int,
               stop: int | None = None) -> Generator[tuple[int, int], None, None]:
        """Run a pass, and up to ``count`` more of the entries that gave tokens by the machine alone
        (`hwgen.units.decode_loop`): one text for each entry, in slots of their own. Yields (index of the entry, token)
        as they come, pass by pass.

        The machine does not wait for the line between tokens: it is as fast as its passes are.
        """
        check_fits(self.design, entries)
        check_loaded(entries, self._loaded)
        self._port.transact([Write(self._register("STOP"), ((stop or 0) | (stop is not None) << 31,)),
                             Write(self._register("LOOP"), (min(count, 0xFFFF),))])
        self._give(entries)
        # of the pass under way; of the next; passes that ended
        texts, going, passes, ended = list(range(len(entries))), [], 0, False
        try:
            while not ended:
                found = []

                def there(found=found, texts=texts):
                    found.extend(self._pop(len(texts)))
                    return bool(found)
                self._wait(there, "its pass")
                for result in found:
                    if result["entry"] >= len(texts):   # of the next pass, and found with the results of the one before
                        raise LinkError(f"The machine gave a result with entry {result['entry']}, which must be below "
                                        f"{len(texts)}")
                    if result["error"]:
                        raise entry_errors(entries, {texts[result["entry"]]: result["error"]})[texts[result["entry"]]]
                    if not result["none"]:
                        text = texts[result["entry"]]
                        if result["token"] != stop and entries[text].position + passes < self.design.hw.context - 1:
                            going.append(text)
                        yield text, result["token"]
                    if result["last"]:
                        texts, going, passes = going, [], passes + 1
                ended = not self._port.read(self._register("LOOP"))[0] >> 16 and not self._under_way()
        finally:
            if not ended:       # nobody wants the rest
                self._port.write(self._register("LOOP"), 0)
                self._wait(lambda: not self._pop(self.design.hw.entries) and not self._under_way(), "its pass")

    def _under_way(self):
        """A pass is, or results of one have not been taken."""
        status, queue = self._port.read(self._register("STATUS"))[0], self._port.read(self._register("QUEUE"))[0]
        return status & 1 or queue >> 8 & 0xFF

    def close(self) -> None:
        self._port.close()


def _fields(word):
    return {f.name: word >> f.lsb & (1 << f.width) - 1 for f in RESULT}
