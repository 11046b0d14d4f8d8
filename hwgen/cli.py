"""The program ``hwgen``: a model in, a machine out, and everything to see that it works.

stdout carries a command's result and stderr everything else. Exit codes: 0 done, 1 the machine and the golden model
differ (or a simulation or a board failed, or stdout has not taken the result), 2 wrong input (one line says what), 3 a
planned machine does not fit, 130 interrupted, 143 terminated (129 where the terminal is gone).
"""
import argparse
import contextlib
import errno
import signal
import sys
import threading
import time
import warnings

from .commands.emit import add_emit
from .commands.fpga import add_fpga
from .commands.load import add_load
from .commands.models import add_accuracy, add_info, add_quantize
from .commands.plan import add_plan, spelled_out
from .commands.report import add_report
from .commands.run import add_demo, add_run
from .commands.selftest import add_counters, add_selftest
from .commands.trace import add_trace
from .host import terminal
from .host.inputs import InputError
from .lib import verilator
from .lib.streams import OutputError, finish
from .models import ModelError

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message} (see {self.prog} --help)")


def _parser():
    parser = _Parser(prog="hwgen", description="Generate the hardware of one transformer, and run it.",
                     epilog="first:  hwgen demo\nthen:   hwgen COMMAND --help, each with an example",
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # as --help lists them
    for add in (add_demo, add_emit, add_run, add_trace, add_selftest, add_fpga, add_load, add_counters, add_accuracy,
                add_quantize, add_plan, add_info, add_report):
        add(commands)
    return parser


def _check_words(options):
    """Refuse empty words for files and names: of a shell's variable that is not set, and taken for nothing at all."""
    for name in "output", "file", "trace", "json", "picture", "text", "bitstream", "name", "calibration":
        if getattr(options, name, None) == "":
            raise InputError(f"Option --{name} must not be empty" if name != "file"
                             else "Trace must be a file, not an empty name")


class _Terminated(KeyboardInterrupt):
    """By SIGTERM or SIGHUP: all that ends in order at Ctrl-C does so here. The argument is the signal's number."""


@contextlib.contextmanager
def _every_interrupt():
    """Ctrl-C and termination end the program in order, wherever they strike.

    Python drops what is raised in a finalizer, KeyboardInterrupt too, and Amaranth's objects all have one: that
    interrupt comes again a little later, until it strikes elsewhere. SIGTERM is an interrupt with another exit code, so
    that nothing half-written and no tool is left behind; so is the end of the terminal.
    """
    def again(dropped):
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
            return
        number = dropped.exc_value.args[0] if issubclass(dropped.exc_type, _Terminated) else signal.SIGINT
        here.set()

        def strike():           # not in here: it would be dropped too
            while here.is_set():
                time.sleep(0.001)
            time.sleep(0.01)
            signal.pthread_kill(thread.ident, number)
        threading.Thread(target=strike, daemon=True).start()
        here.clear()

    def terminate(number, _):
        raise _Terminated(number)

    before, sys.unraisablehook, here = sys.unraisablehook, again, threading.Event()
    thread = threading.main_thread()
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: terminate, signal.SIGHUP: terminate}
    replaced = {}
    if threading.current_thread() is thread:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not signal.SIG_IGN:      # a shell's background jobs, nohup
                replaced[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        sys.unraisablehook = before
        for number, handler in replaced.items():
            signal.signal(number, handler)


#: errno of file systems that take no more: the user's to mend, wherever it strikes.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def main(arguments=None):
    from .host.driver import Mismatch
    from .host.links.link import LinkError
    command = "hwgen"

    def complain(text, code):
        print(f"{command}: {text}", file=sys.stderr)
        return code

    try:
        with _every_interrupt():
            try:
                options = _parser().parse_args(spelled_out(sys.argv[1:] if arguments is None else list(arguments)))
                command = f"hwgen {options.command}"
                _check_words(options)
                code = options.run(options, terminal.Screen())
            except SystemExit:      # argparse's, after --help
                finish()
                raise
            finish()
        return code or 0
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
        return (complain("terminated", 128 + stop.args[0]) if isinstance(stop, _Terminated)
                else complain("interrupted", 130))
    except MemoryError as error:
        return complain(f"error: Memory must be more than there is{f': {error}' if str(error) else ''}", 2)
    except OSError as error:
        if error.errno == errno.EPIPE and isinstance(error, (OutputError, BrokenPipeError)):
            return 1            # whoever read our output has seen enough
        if isinstance(error, OutputError):
            return complain(f"failed: stdout: {error.strerror}", 1)
        if error.errno not in _FULL:
            raise
        return complain(f"error: {error.filename or 'a file that is written'}: {error.strerror}", 2)
