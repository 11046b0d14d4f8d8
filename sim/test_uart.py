import pytest

from sim.runner import run, simulators
from sim.uart_units import Uart


@pytest.mark.parametrize("divisor", [4, 5])
def test_uart(divisor, simulator):
    run(Uart(divisor), f"uart_{divisor}", "bench_uart", params={"divisor": divisor}, sim=simulator)


def test_a_long_bit():
    run(Uart(27), "uart_27", "bench_uart", params={"divisor": 27}, sim=simulators()[-1])
