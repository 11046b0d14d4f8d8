"""The program ``hwgen``: a model in, a machine out, and everything to see that it works.

stdout carries a command's result and stderr everything else. Exit codes: 0 done, 1 the machine and the golden model
differ (or a simulation failed), 2 wrong input (one line says what), 130 interrupted, 143 terminated.
"""
import argparse
import contextlib
import os
import signal
import sys
import threading
import warnings

from .commands.emit import add_emit
from .commands.fpga import add_fpga
from .commands.models import add_accuracy, add_info
from .commands.plan import add_plan, spelled_out
from .commands.run import add_demo, add_run
from .commands.selftest import add_counters, add_selftest
from .commands.trace import add_trace
from .host import terminal
from .host.inputs import InputError
from .lib import verilator
from .models import ModelError

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message} (see {self.prog} --help)")


def _parser():
    parser = _Parser(prog="hwgen", description="Generate the hardware of one transformer, and run it.",
                     epilog="first: hwgen demo        then: hwgen COMMAND --help, each with an example")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (add_demo, add_emit, add_run, add_trace, add_selftest, add_fpga, add_counters, add_accuracy, add_plan, add_info):     # as --help lists them
        add(commands)
    return parser


class _Terminated(KeyboardInterrupt):
    """By SIGTERM: all that ends in order at Ctrl-C does so here."""


@contextlib.contextmanager
def _every_interrupt():
    """Ctrl-C and termination end the program in order, wherever they strike.

    Python drops what is raised in a finalizer, KeyboardInterrupt too, and Amaranth's objects all have one: that interrupt comes
    again a little later, until it strikes elsewhere. SIGTERM is an interrupt with another exit code, so that nothing half-written
    and no tool is left behind.
    """
    def again(dropped):
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            return before(dropped)
        number = signal.SIGTERM if issubclass(dropped.exc_type, _Terminated) else signal.SIGINT
        timer = threading.Timer(0.01, signal.pthread_kill, [thread.ident, number])        # not now: it would strike in here, and be dropped too
        timer.daemon = True
        timer.start()

    def terminate(*_):
        raise _Terminated

    before, sys.unraisablehook = sys.unraisablehook, again
    thread = threading.main_thread()
    in_main = threading.current_thread() is thread
    handler = in_main and signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        sys.unraisablehook = before
        if in_main:
            signal.signal(signal.SIGTERM, handler)


def main(arguments=None):
    from .host.driver import Mismatch
    from .host.link import LinkError
    command = "hwgen"

    def complain(text, code):
        print(f"{command}: {text}", file=sys.stderr)
        return code

    try:
        options = _parser().parse_args(spelled_out(sys.argv[1:] if arguments is None else list(arguments)))
        command = f"hwgen {options.command}"
        with _every_interrupt():
            options.run(options, terminal.Screen())
        sys.stdout.flush()
        return 0
    except (InputError, ModelError) as error:
        return complain(f"error: {error}", 2)
    except verilator.VerilatorError as error:
        if "\n" in str(error):
            raise               # not a missing tool but Verilog that it does not take: a bug
        return complain(f"error: {error}", 2)
    except (Mismatch, LinkError) as error:
        return complain(f"failed: {error}", 1)
    except KeyboardInterrupt as stop:
        warnings.simplefilter("ignore")     # Amaranth's, about components that were not finished
        return complain("terminated", 143) if isinstance(stop, _Terminated) else complain("interrupted", 130)
    except BrokenPipeError:     # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
