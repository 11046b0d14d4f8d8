"""A `CardReader` and a card at its pins, as a bench has them."""
from pathlib import Path

import hwgen.host
from hwgen.lib.verilog import emit_design, ports
from hwgen.units.card_reader import CardReader

__all__ = ["card_alone", "reader_and_card"]

PINS = ("cs_n", "sck", "mosi", "miso")
_CARD = {"present": 1, "content": 8, "seed": 32, "kind": 2, "deaf": 8, "starts": 8, "waits": 8, "fault": 2, "fault_block": 32,
         "fault_times": 8}
_SEEN = {"at_block": 32, "at_byte": 9, "error": 8, "error_cycle": 32, "blocks": 32, "logged": 1, "log_in": 8, "log_out": 8,
         "log_selected": 1}

_TOP = """\
module {name} (
    input wire [0:0] clk,
    input wire [0:0] rst,
{ports}
);
{unit}
  sd_card #(.SLOW({slow}), .FAST({fast})) card (.clk(clk), {card});
endmodule
"""


def _joined(names, prefix=""):
    return ", ".join(f".{name}({'' if name in PINS else prefix}{name})" for name in names)


def _top(name, declared, unit, slow, fast):
    declared += [(direction, bits, f"card_{port}") for direction, group in (("input", _CARD), ("output", _SEEN))
                 for port, bits in group.items()]
    text = _TOP.format(name=name, slow=slow, fast=fast, unit=unit, card=_joined((*PINS, *_CARD, *_SEEN), "card_"),
                       ports=",\n".join(f"    {direction:6} wire [{bits - 1}:0] {port}" for direction, bits, port in declared))
    card = (Path(hwgen.host.__file__).parent / "sd_card.v").read_text()
    return "\n".join(["/* verilator lint_off BLKSEQ */", text, card])


def card_alone(name, slow, fast):
    """Verilog of a card, whose clock may have periods of ``slow`` and ``fast`` cycles, at least."""
    return _top(name, [*(("input", 1, pin) for pin in PINS[:3]), ("output", 1, "miso")], "", slow, fast)


def reader_and_card(name, head, size, timing, address_width, slow, fast):
    """The same with a `CardReader` at its pins. Ports are the unit's but for the pins, and what the card is told and tells, ``card_*``."""
    unit = emit_design(CardReader(head, size, timing, address_width), f"{name}_unit")
    own = [port for port in ports(unit, f"{name}_unit") if port.name not in ("clk", "rst")]
    declared = [(port.direction, port.width, port.name) for port in own if port.name not in PINS]
    instance = f"  wire {', '.join(PINS)};\n  {name}_unit unit (.clk(clk), .rst(rst), {_joined(port.name for port in own)});"
    return _top(name, declared, instance, slow, fast) + "\n" + unit
