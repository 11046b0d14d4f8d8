import pytest

from hwgen.units.uart_bridge import UartBridge
from sim.runner import run, simulators


@pytest.mark.parametrize("address_width, divisor, sim",
                         [*((8, 4, sim) for sim in simulators()), (16, 5, simulators()[0])])
def test_uart_bridge(address_width, divisor, sim):
    run(UartBridge(address_width, divisor), f"uart_bridge_{address_width}", "bench_uart_bridge",
        params={"address_width": address_width, "divisor": divisor}, sim=sim)
