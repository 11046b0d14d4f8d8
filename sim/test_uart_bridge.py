import pytest

from hwgen.units.uart_bridge import UartBridge
from sim.runner import run


@pytest.mark.parametrize("address_width, divisor", [(8, 4), (16, 5)])
def test_uart_bridge(address_width, divisor, simulator):
    run(UartBridge(address_width, divisor), f"uart_bridge_{address_width}", "bench_uart_bridge",
        params={"address_width": address_width, "divisor": divisor}, sim=simulator)
