"""A text that a board's whole simulated top writes, with its memory's chip behind the pins."""
import contextlib
import tempfile

from hwgen.fpga.boards import board
from hwgen.host.links.board import build_with_chip, buses, pins_link
from hwgen.host.links.golden_link import GoldenLink
from hwgen.host.links.link import Entry
from hwgen.host.links.loader import load_weights
from hwgen.models import load, quantize
from hwgen.models.pack import pack
from hwgen.params.axi import AXI_EVENTS
from hwgen.params.counters import EVENTS
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.presets import hw_shape
from hwgen.plan.loading import pass_bytes, read_time

__all__ = ["decode"]

#: Cycles per bit of a line that a simulation does not wait long for.
DIVISOR = 4


def decode(tokens, *, model="demo", shape, held=False, prompt="She was", name="ulx3s-85f-sdram",
           progress=lambda done, total: None):
    """(Text behind the prompt, counters of each of its passes, the bound of their cycles for the memory, `Loaded`) of a
    board's top that decodes a model from its chip, as golden does. ``held``: the chip has the weights already. Beside
    the counters ``attention_model``, the cycle model's attention."""
    chosen = board(name)
    checkpoint = load(model)
    design = Design(model=checkpoint.shape, hw=hw_shape(shape, checkpoint.shape), recipe=Recipe())
    quantized = quantize(checkpoint, design.recipe)
    executable = build_with_chip(chosen, design, quantized, divisor=None if chosen.memory_clock else DIVISOR)
    words = checkpoint.tokenizer.encode(prompt)
    golden, passes, text, stream = GoldenLink(design, quantized), [], [], pack(quantized, design)
    with tempfile.NamedTemporaryFile() as memory, contextlib.ExitStack() as stack:
        if held:
            memory.write(stream.data)
            memory.flush()
        link = stack.enter_context(pins_link(executable, design, quantized, axi=buses(chosen), loaded=False,
                                             memory=memory.name if held else None, timeout=600))
        loaded = load_weights(link, stream, progress=progress)
        link.check_weights()
        for position in range(len(words) + tokens - 1):
            token = words[position] if position < len(words) else text[-1]
            entry = Entry(0, position, token, position >= len(words) - 1)
            result, wanted = link.run_pass([entry]), golden.run_pass([entry])
            assert result.tokens == wanted.tokens, f"token {position}: {result.tokens}, golden {wanted.tokens}"
            if entry.want:
                text.append(result.tokens[0])
                counts = link._port.read(link._register("COUNTER"), len(EVENTS) + len(AXI_EVENTS))
                passes.append(dict(zip((*EVENTS, *AXI_EVENTS), counts, strict=True),
                                   attention_model=wanted.counters["attention"]))
    return (checkpoint.tokenizer.decode(text), passes,
            read_time(chosen.memory, chosen.clock, pass_bytes(design, 1), chosen.memory_clock), loaded)
