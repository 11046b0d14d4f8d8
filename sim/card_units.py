"""A `CardReader` and a card at its pins, as a bench has them."""
from pathlib import Path

import hwgen.host.links
from hwgen.host.links.sdram import CARD_PINS, CARD_TELLS, CARD_TOLD
from hwgen.lib.verilog import emit_design, ports
from hwgen.units.card_reader import CardReader

__all__ = ["card_alone", "reader_and_card"]

_SEEN = CARD_TELLS | {"logged": 1, "log_in": 8, "log_out": 8, "log_selected": 1}

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
    return ", ".join(f".{name}({'' if name in CARD_PINS else prefix}{name})" for name in names)


#: Bytes that come from the card are other ones, ``card_instead``, while ``card_spoilt`` is 1; they begin with a byte.
_SPOILS = {"spoilt": 1, "instead": 8}
_INSTEAD = """\
  reg sck_was;
  reg [2:0] place;
  always @(posedge clk) begin
    sck_was <= sck;
    if (cs_n) place <= 7;
    else if (sck_was && !sck) place <= place - 1;
  end
  wire pin;
  assign miso = card_spoilt ? card_instead[place] : pin;
"""


def _top(name, declared, unit, slow, fast, pin="miso"):
    declared += [(direction, bits, f"card_{port}") for direction, group in (("input", CARD_TOLD), ("output", _SEEN))
                 for port, bits in group.items()]
    lines = ",\n".join(f"    {direction:6} wire [{bits - 1}:0] {port}" for direction, bits, port in declared)
    text = _TOP.format(name=name, slow=slow, fast=fast, unit=unit, ports=lines,
                       card=_joined((*CARD_PINS, *CARD_TOLD, *_SEEN), "card_").replace("(miso)", f"({pin})"))
    card = (Path(hwgen.host.links.__file__).parent / "sd_card.v").read_text()
    return "\n".join([card, text])


def card_alone(name, slow, fast):
    """Verilog of a card, whose clock may have periods of ``slow`` and ``fast`` cycles, at least."""
    return _top(name, [*(("input", 1, pin) for pin in CARD_PINS[:3]), ("output", 1, "miso")], "", slow, fast)


def reader_and_card(name, head, size, timing, address_width, slow, fast):
    """The same with a `CardReader` at its pins. Ports are the unit's but for the pins, and what the card is told and
    tells, ``card_*``; and what it says may be spoilt."""
    unit = emit_design(CardReader(head, size, timing, address_width), f"{name}_unit")
    own = [port for port in ports(unit, f"{name}_unit") if port.name not in ("clk", "rst")]
    declared = [(port.direction, port.width, port.name) for port in own if port.name not in CARD_PINS]
    declared += [("input", bits, f"card_{port}") for port, bits in _SPOILS.items()]
    joined = _joined(port.name for port in own)
    instance = f"  wire {', '.join(CARD_PINS)};\n{_INSTEAD}  {name}_unit unit (.clk(clk), .rst(rst), {joined});"
    return _top(name, declared, instance, slow, fast, "pin") + "\n" + unit
