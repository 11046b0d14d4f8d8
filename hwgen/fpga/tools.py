"""Running the open FPGA tools: those of PyPI (YoWASP), or others of the same name on the PATH where the environment
says so."""
import importlib.metadata
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["ToolError", "run_tool", "version"]


class ToolError(Exception):
    """A tool is missing or failed; the message is one line."""


def _command(tool):
    """The program: $TOOL (as YOSYS=yosys), or YoWASP's beside this Python."""
    chosen = os.environ.get(tool.replace("-", "_").upper())
    name = tool if tool.startswith("gowin_") else f"yowasp-{tool}"      # Apicula's are Python
    found = (shutil.which(chosen) if chosen else shutil.which(name, path=str(Path(sys.executable).parent))
             or shutil.which(name))
    if found is None:
        raise ToolError(f"{chosen or name} is not installed: pip install 'hwgen[fpga]'")
    return found


def run_tool(tool, *words, folder, log):
    """Run a tool in a folder; its output goes to the file ``log`` there. Returns the seconds of CPU it took.

    A tool of YoWASP sees nothing else of the disk. By default it has a mount for each folder above its own too, and
    these take memory, on whose addresses the order of nextpnr 0.11.1's router hangs: another depth, another bitstream.

    Raises
    ------
    ToolError       if it is missing, or fails: with its last line that says why
    """
    path = folder / log
    command, before = _command(tool), _children()
    with open(path, "w", encoding="utf-8") as file:
        process = subprocess.Popen([command, *words], cwd=folder, env=dict(os.environ, YOWASP_MOUNT="/=."),
                                   stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if code:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        why = [line for line in lines if "ERROR" in line] or lines[-1:] or [f"exit code {code}"]
        raise ToolError(f"{tool} failed: {why[-1].strip()} (see {path})")
    return _children() - before


def _children():
    """Seconds of CPU of all processes that were run and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def version(tool):
    """The tool's own words on its version; Apicula's have none, so their package's."""
    if tool.startswith("gowin_") and tool.upper() not in os.environ:
        _command(tool)
        return f"apycula {importlib.metadata.version('apycula')}"
    done = subprocess.run([_command(tool), "--version"], capture_output=True, text=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip() and "Preparing" not in line]
    return lines[0].split(" (git")[0].replace('"', "").strip() if lines else "unknown"
