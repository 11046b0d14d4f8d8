"""cocotb's test module in the place of a bench: runs the bench on many mutants of a design in one simulation
(``tools/mutate.py``).

The design holds all its mutants, and its input ``mutant`` selects one (0: none). The process imports the bench, and is
forked for each mutant before the clock's first edge: so a mutant costs neither a build nor a start of Python, only its
simulation up to the first test that fails.

Assertions of ``sim/`` are told apart: those on cycles, and all others, which are on values. A failed one on cycles is
noted and the test goes on, so that a mutant that the values show is never counted as one that only the cycles show. A
hang is a failure of values.
"""
import ast
import atexit
import importlib.abc
import importlib.machinery
import importlib.util
import json
import logging
import os
import re
import resource
import sys
import time

import cocotb
from cocotb.handle import Immediate
from cocotb.regression import RegressionManager

PLAN = json.loads(os.environ["HWGEN_MUTANTS"])
#: What an assertion on cycles speaks of; its text is that of ``ast.unparse``.
CYCLES = re.compile(r"cycle|latency|\btook\b|\btaken\b|\btakes\b|\bsent\b|\bdone\b|\bstart\b|\bwaited\b|levels|"
                    r"\bwire\b", re.IGNORECASE)


def is_on_cycles(test):
    """Whether an assertion, as text, is on cycles."""
    return CYCLES.search(test) is not None


# Assertions that say their kind

class _Assertions(ast.NodeTransformer):
    def __init__(self, file):
        self._file = file

    def visit_Assert(self, node):
        text = ast.unparse(node.test)
        words = [is_on_cycles(text), f"{self._file}:{node.lineno}: {text[:120]}"]
        call = ast.Call(ast.Name("__assertion_failed__", ast.Load()), [ast.Constant(word) for word in words], [])
        return ast.fix_missing_locations(ast.copy_location(
            ast.If(ast.UnaryOp(ast.Not(), self.generic_visit(node).test), [ast.Expr(call)], []), node))


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):
        tree = ast.parse(self.get_data(self.path), self.path)
        return compile(_Assertions(os.path.basename(self.path)).visit(tree), self.path, "exec")

    def exec_module(self, module):
        module.__assertion_failed__ = _assertion_failed
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if not fullname.startswith("sim.") or path is None:
            return None
        file = os.path.join(list(path)[0], fullname.removeprefix("sim.") + ".py")
        return importlib.util.spec_from_file_location(fullname, file,
                                                      loader=_Loader(fullname, file)) if os.path.exists(file) else None


# In the process of one mutant

_said, _cycles, _times = None, None, {}


def _end(values):
    os.write(_said, json.dumps({"values": values, "cycles": _cycles, "times": _times}).encode())
    os._exit(0)


def _assertion_failed(on_cycles, what):
    global _cycles
    if on_cycles:
        _cycles = _cycles or what
    else:
        _end(what)


def _live(number, times, limit, said):
    """Make this process the one of a mutant: cocotb, which goes on behind, runs the bench's tests, the quick ones
    first, up to the first that fails."""
    global _said
    _said = said
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(null, stream)
    # whatever ends the simulation: Verilator's own exit would wait for its threads, which a fork does not have
    atexit.register(os._exit, 3)
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    os.environ["COCOTB_RESULTS_FILE"] = os.devnull
    cocotb.top.mutant.value = Immediate(number)
    start, began = RegressionManager.start_regression, time.process_time()

    def start_regression(self):
        wanted = PLAN["testcase"]
        for test in self._test_queue:
            if test.fullname in times:
                test.timeout = int(4 * times[test.fullname][1]) + 20_000, "ns"
        self._test_queue = sorted((test for test in self._test_queue if wanted is None or test.name in wanted),
                                  key=lambda test: times.get(test.fullname, [0])[0])
        start(self)

    def score(self, failure, wall, start, stop):
        nonlocal began
        if failure is not None:
            _end(f"{self._test.name}: {type(failure).__name__}: {failure}"[:160])
        _times[self._test.fullname] = [time.process_time() - began, stop - start]
        began = time.process_time()

    RegressionManager.start_regression, RegressionManager._score_test = start_regression, score
    RegressionManager._tear_down = lambda self: _end(None)


# In the first process

def _fork(number, times, limit):
    """What a mutant's process says: {"values": failure or None, "cycles": failure or None, "times": {test: (seconds,
    ns)}}; None in that process."""
    hear, say = os.pipe()
    child = os.fork()
    if not child:
        os.close(hear)
        _live(number, times, limit, say)
        return None
    os.close(say)
    with os.fdopen(hear, "rb") as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        ended = f"ended by signal {os.WTERMSIG(status)}"
    else:
        ended = f"ended with {os.WEXITSTATUS(status)}"
    return json.loads(text) if text else {"values": f"{ended} (24: more than {limit} s)", "cycles": None, "times": {}}


def _mutants():
    """Lines for the results' file; ends early in each process of a mutant."""
    times, limit = {}, 3600
    for again in (False, True):         # the second time in the order that the mutants get
        if (found := _fork(0, times, limit)) is None:
            return
        if found["values"] or found["cycles"] or not found["times"]:
            raise AssertionError(f"The bench fails without a mutant{' in another order' if again else ''}: {found}")
        times = found["times"]
        seconds = sum(second for second, _ in times.values())
        limit = int(5 * seconds) + 10
    with open(PLAN["results"], "a", encoding="utf-8") as file:
        for number in PLAN["mutants"]:
            began = time.monotonic()
            if (found := _fork(number, times, limit)) is None:
                return
            line = {"number": number, "values": found["values"], "cycles": found["cycles"],
                    "seconds": round(time.monotonic() - began, 2)}
            print(json.dumps(line), file=file, flush=True)
            print(f"mutant {number}: {found['values'] or found['cycles'] or 'lives'}; unmutated {seconds:.1f} s",
                  flush=True)


os.environ["HWGEN_BENCH_PORTS"] = json.dumps([port for port in json.loads(os.environ["HWGEN_BENCH_PORTS"])
                                              if port[0] != "mutant"])
sys.meta_path.insert(0, _Finder())
_bench = importlib.import_module(f"sim.{PLAN['bench']}")
_mutants()
if _said is None:
    @cocotb.test()
    async def mutants(dut):
        """In the first process nothing is left to do."""
else:
    globals().update({name: item for name, item in vars(_bench).items() if not name.startswith("__")})
