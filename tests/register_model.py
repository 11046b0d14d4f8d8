"""A machine's registers, made by hand, for tests of the host's end of them."""
from hwgen.models import quantize, random_checkpoint
from hwgen.models.pack import model_id
from hwgen.params.axi import AxiShape
from hwgen.params.registers import MAGIC, VERSION, design_id, register_map
from sim.designs import small_design

DESIGN, AXI = small_design(source="stream"), AxiShape(host="queue")
MODEL = quantize(random_checkpoint(DESIGN.model), DESIGN.recipe)


class Registers:
    """A port whose registers hold what they are given: enough to connect to, and results in a row."""

    def __init__(self, results=(), **changes):
        self.map, self.results = register_map(DESIGN, AXI), list(results)
        name = DESIGN.model.name.encode()[:16].ljust(16, b"\0")
        words = {"ID": MAGIC, "VERSION": VERSION, "DESIGN_ID": design_id(DESIGN, AXI), "WEIGHTS_ID": model_id(MODEL),
                 **{f"NAME{i}": int.from_bytes(name[4 * i:4 * i + 4], "little") for i in range(4)}} | changes
        self.words = {self.map[register].offset: word for register, word in words.items()}
        self.ready = [1 << 63]          # the result of the pass with which the host connects

    def transact(self, operations):
        return [[self._word(op.address + 4 * i) for i in range(op.count)] if hasattr(op, "count") else self._written(op)
                for op in operations]

    def _word(self, address):
        name = {self.map[r].offset: r for r in ("QUEUE", "RESULT_LO", "RESULT_HI")}.get(address)
        if name is None:
            return self.words.get(address, 0)
        return {"QUEUE": len(self.ready) << 8, "RESULT_LO": self.ready and self.ready[0] & 0xFFFFFFFF,
                "RESULT_HI": self.ready and self.ready[0] >> 32}[name]

    def _written(self, operation):
        if operation.address == self.map["QUEUE"].offset and operation.words[0] >> 16:
            self.ready.pop(0)
            if not self.ready:
                self.ready, self.results = self.results, []

    def read(self, address, count=1):
        return [self._word(address + 4 * i) for i in range(count)]

    def write(self, address, *words):
        pass
