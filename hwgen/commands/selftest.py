"""hwgen selftest and counters: where a machine goes wrong, and what it counts."""
from ..host.inputs import checked_input
from ..models.wires import fixed_matrices
from ..plan.summary import summary
from .common import add_command, add_machine, loaded, quantized_of, warn_clipped
from .links import add_link, check_link, open_link

__all__ = ["add_counters", "add_selftest"]


def add_selftest(commands):
    sub = add_command(commands, "selftest", run_selftest,
                      "Compare the residual after each layer with the golden model; name the first that differs, "
                      "and the unit.",
                      "hwgen selftest demo\n  hwgen selftest demo --inject weight:900:3:6          bit 6 of byte 3 of "
                      "beat 900 of the weights\n"
                      "  hwgen selftest demo --inject kv:v_codes:70:5        bit 5 of word 70 of the values' memory, "
                      "while the prompt runs\n"
                      "  hwgen selftest demo --inject constant:rope_low:21:9  bit 9 of entry 21 of the angles' table\n"
                      "  hwgen selftest mini --shape tiny,source=wired --inject wire:down_0.c3:7:1  a carry of a "
                      "matrix that is logic is always 1")
    add_machine(sub)
    add_link(sub, golden="")
    sub.add_argument("--inject", action="append", default=[], metavar="FAULT",
                     help="a wrong bit for the simulated machine, to see it found: "
                     "weight:BEAT:BYTE:BIT of the weight stream, kv:MEMORY:WORD:BIT of k_codes, v_codes, k_exps or "
                     "v_exps, which flips once when the "
                     "word has been written, or constant:TABLE:ENTRY:BIT of rsqrt, qk_rsqrt, sigmoid or reciprocal "
                     "with _base or _slope, exp2, "
                     "rope_low or rope_high; or wire:MATRIX.WORD:BIT:VALUE, a register of a matrix that is logic "
                     "which keeps that value; "
                     "or adapter:BEAT:BYTE:BIT of the adapters' memory, which flips once when the adapter has been "
                     "loaded; may be repeated")


def add_counters(commands):
    sub = add_command(commands, "counters", run_counters, "Run one pass, and print the machine's counters.",
                      "hwgen counters demo --link sim-uart")
    add_machine(sub)
    add_link(sub)


def run_selftest(options, screen):
    from ..host.diagnosis.diagnose import diagnose
    from ..host.driver import Mismatch, Totals, selftest
    from ..host.diagnosis.faults import WireFault, parse_fault
    from ..host.links.golden_link import GoldenLink
    checkpoint, design = loaded(options, screen)
    with checked_input():
        faults = [parse_fault(text, design) for text in options.inject]
    check_link(options)
    screen.say(summary(design))
    for fault in faults:
        screen.say(f"injected: {fault.where(design)}")
    options.check, totals = False, Totals()
    design, quantized = quantized_of(options, screen, checkpoint, design)
    with checked_input():
        for fault in faults:
            if isinstance(fault, WireFault):
                fault.check_in(fixed_matrices(quantized, design))
    with open_link(screen, options, design, quantized, faults=faults) as link, GoldenLink(design, quantized) as golden:
        try:
            passes = selftest(link, golden, totals)
        except Mismatch as mismatch:
            with screen.stage("looking for the unit"):
                found = diagnose(link, quantized, golden, mismatch)
            print(f"{mismatch}\n" + "\n".join(found.lines()))
            raise Mismatch(str(mismatch).partition(" is the first")[0] + f": {found.unit}") from None
    warn_clipped(screen, design, [totals])
    print(f"ok: the tokens, and the residual after each of {design.layers} layers, equal the golden model's in "
          f"{passes} passes"
          + f", with each of {design.hw.adapters} adapters too" * bool(design.hw.adapters)
          + ("; no pass felt what was injected" if faults else ""))


def run_counters(options, screen):
    from ..host.links.link import Entry
    from ..params.counters import EVENTS
    checkpoint, design = loaded(options, screen)
    check_link(options)
    options.check = False
    design, quantized = quantized_of(options, screen, checkpoint, design)
    with open_link(screen, options, design, quantized) as link:
        result = link.run_pass([Entry(0, 0, 0, True)])
    for name, value in result.counters.items():
        print(f"{name:14}{value:>10,}  cycles in which {EVENTS[name]}")
    warn_clipped(screen, design, [result])
