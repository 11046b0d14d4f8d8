"""A start-up with levelling, of few steps, as a bench has it."""
from hwgen.params.dram import CheckStep, LaneStep, StartPlan, StartStep

__all__ = ["BITSLIP", "DELAY", "RESET", "SELECT", "plan_of"]

SELECT, RESET, DELAY, BITSLIP = 0x800, 0x804, 0x808, 0x80C


def plan_of(lanes=2, bitslips=4, delays=8, tries=3):
    """A `StartPlan` with so many lanes and places."""
    def on_lane(*addresses):
        return (LaneStep(SELECT, 0, 0), *(StartStep(address, 1, 0) for address in addresses), StartStep(SELECT, 0, 1))
    masks = tuple(sum(0xF << 4 * (lane + lanes * i) for i in range(8 // lanes)) for lane in range(lanes))
    return StartPlan(
        lanes=lanes, bitslips=bitslips, delays=delays, tries=tries,
        first=(StartStep(0x0, 0xFFFFFFFF, 0), StartStep(0xFFFFFFFC, 0xA5, 17)), reset=on_lane(RESET),
        delay=on_lane(DELAY), bitslip=on_lane(BITSLIP),
        test=(StartStep(0x20, 0x12345678, 3), CheckStep(0x24, 0x12345678, 0, masks),
              CheckStep(0x28, (1 << lanes) - 1, 2, tuple(1 << lane for lane in range(lanes))),
              CheckStep(0x2C, 0xCAFEF00D, 0, masks)),
        last=(StartStep(0x30, 1, 0), StartStep(0x34, 1, 4)), failure=(StartStep(0x38, 1, 0),))
