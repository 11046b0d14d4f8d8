"""hwgen report: what a bug report needs to say, and nothing about who writes it."""
import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from ..host.inputs import checked_input
from ..params.design import Design
from ..params.formats import Fp8
from ..params.hardware import Override
from ..params.presets import hw_shape
from .chips import shape_of
from .common import MODEL_HELP, add_command, add_formats, recipe_of

__all__ = ["add_report"]

#: Programs that hwgen starts where they are installed: how each tells its version.
_PROGRAMS = {"c++": "--version", "make": "--version", "iverilog": "-V", "vvp": "-V", "openFPGALoader": "-V"}


def add_report(commands):
    sub = add_command(commands, "report", run_report,
                      "Versions, the model's options without its weights, the shape and the seed: to paste into a bug "
                      "report. No path, no name of a user, a machine or a folder is in "
                      "it.", "hwgen report demo --shape demo,entries=4 --seed 7")
    sub.add_argument("model", nargs="?", metavar="MODEL",
                     help=f"{MODEL_HELP}; a folder with config.json alone (default: no model)")
    sub.add_argument("--shape", default="demo", metavar="S", help="hardware shape, see below (default: demo)")
    add_formats(sub)
    sub.add_argument("--seed", type=int, metavar="N",
                     help="of the run or the bench that failed (default: HWGEN_SEED, if that is set)")


def run_report(options, screen):
    seed = os.environ.get("HWGEN_SEED") if options.seed is None else options.seed
    lines = [f"hwgen {importlib.metadata.version('hwgen')}{_commit()}",
             f"system: {platform.system()} {platform.machine()}, "
             f"{' '.join(filter(None, platform.libc_ver())) or 'libc unknown'}, {os.cpu_count()} cores",
             f"python: {platform.python_implementation()} {platform.python_version()}",
             f"packages: {', '.join(_packages())}", f"programs: {', '.join(_programs()) or 'none'}"]
    if options.model is not None:
        lines += _of_model(options, screen)
    lines.append(f"seed: {'not set' if seed is None else seed}")
    print("```\n" + "\n".join(lines) + "\n```")


def _commit():
    """The commit of a checkout."""
    try:
        done = subprocess.run(["git", "-C", Path(__file__).parent, "describe", "--always", "--abbrev=10", "--dirty",
                               "--exclude=*"],
                              capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return f", commit {done.stdout.strip()}" if done.returncode == 0 else ""


def _packages():
    """Of the packages that hwgen and its extras name, those that are installed: "name version"."""
    found = {}
    for requirement in importlib.metadata.requires("hwgen") or ():
        name = re.findall(r"[\w.-]+", requirement)[0]
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return [f"{name} {version}" for name, version in sorted(found.items(), key=lambda item: item[0].lower())]


def _programs():
    """Of the programs that are installed: "name version"."""
    for name, option in _PROGRAMS.items():
        if program := shutil.which(name):
            try:
                done = subprocess.run([program, option], capture_output=True, text=True, errors="replace", timeout=20,
                                      check=False)
            except (OSError, subprocess.TimeoutExpired):
                version = "that does not start"
            else:
                version = next(iter(re.findall(r"\b\d+(?:\.\d+)+\S*", done.stdout + done.stderr)),
                               "of unknown version").strip("(),;")
            yield f"{name} {version}"


def _of_model(options, screen):
    """Its options, the shape and the formats; of a design that cannot be, why."""
    with checked_input():
        shape, kept = shape_of(screen, options.model)
        hw, recipe = hw_shape(options.shape, shape), recipe_of(options, kept, options.model)
    try:
        Design(model=shape, hw=hw, recipe=recipe)
        verdict = "accepted"
    except ValueError as error:
        verdict = f"refused: {error}"
    return [f"model: {_fields(shape, 'name')}", f"shape: {_fields(hw)}", f"formats: {_fields(recipe)}",
            f"design: {verdict}"]


def _fields(value, *without):
    """The fields that are not as the dataclass has them anyway, as JSON."""
    found = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)
             if field.name not in without and getattr(value, field.name) != field.default}
    return json.dumps(found, default=_plain)


def _plain(value):
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return (dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, (Fp8, Override))
            else str(value))
