"""Counts that a test records as the property "counted" are printed at the end of the run, of any worker."""
import pytest

#: What asserts for several tests says what differs, as they do.
pytest.register_assert_rewrite("tests.emitted")


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "counted":
                terminalreporter.write_line(value)
