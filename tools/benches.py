"""What several benches use: stages of their output, counts of time and of cycles, tools, and Verilog in parts."""
import contextlib
import re
import resource
import subprocess
import sys
import time


@contextlib.contextmanager
def stage(text):
    """Says that something long begins."""
    print(text, flush=True)
    yield


def children():
    """Seconds of CPU of all processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cycles_so_far(link, report, ask):
    """Cycles that a simulated top has run when it has answered ``ask()``; ``report`` is a file's path, for its use."""
    link.control(f"report {report}")
    ask()                   # which is answered behind it
    while not report.exists():
        time.sleep(0.01)
    number = int(report.read_text())
    report.unlink()
    return number


def tool(module, *arguments, folder):
    """Run a tool of a PyPI package. It is WebAssembly and sees only files beside it."""
    done = subprocess.run([sys.executable, "-c", f"import sys, {module}; "
                                                 f"sys.exit({module}.{arguments[0]}(sys.argv[1:]))", *arguments[1:]],
                          cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{module} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def interfaces(text, keep, parts):
    """The Verilog with the bodies of the repeated modules left out, but for ``keep``'s."""
    def stub(module):
        name, body = module[1], module[0]
        if name == keep or not any(f"_{part}_" in f"{name}_" for part in parts):
            return body
        header, rest = body.split(");", 1)
        ports = [line for line in rest.splitlines() if re.match(r"\s*(input|output) ", line)]
        waived = [f"/* verilator lint_{way} {what} */" for way in ("off", "on") for what in ("UNDRIVEN", "UNUSEDPARAM")]
        return "\n".join([*waived[:2], header + ");", *ports, "endmodule", *waived[2:]])
    return re.sub(r"^module (\w+)\b.*?^endmodule", stub, text, flags=re.MULTILINE | re.DOTALL)
