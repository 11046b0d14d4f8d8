"""A decoder as a Verilator model in a process of its own: built once per Verilog text, driven over a pipe."""
import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ...golden.weights import ROM_LATENCY
from ...lib import verilator
from ...lib.generator import generator
from ...lib.layouts import (adapter_layout, command_layout, kv_answer_layout, kv_command_layout, kv_fault_layout,
                            outcome_layout, row_names)
from ...lib.quicker import quicker
from ...lib.resting import resting
from ...lib.workdir import work_folder
from ...models.adapter_codes import QuantizedAdapter
from ...params.axi import PAGE
from ...params.design import Design
from ...params.errors import ErrorCode
from ...params.counters import EVENTS
from ...params.kv_port import READ_CYCLES, WRITE_CYCLES, kv_axi
from ...params.tables import some_changed
from ...top import make
from ...units.weights import request_layout
from .link import (EccState, Entry, KvAnswer, Link, LinkError, PassResult, check_fits, check_loaded, checked_adapter,
                   refusals)
from ..diagnosis.waves import Window, probed

__all__ = ["KV_BUS", "TraceError", "VerilatedLink", "WORK", "build_model", "cache_folder", "check_cache", "compiled",
           "kept", "kv_bus_header", "kv_header", "remembered", "texts"]

MAIN = Path(__file__).with_name("sim_main.cpp")
KV_MEMORY = Path(__file__).with_name("kv_memory.h")
KV_BUS = Path(__file__).with_name("kv_bus.h")
_REWORDING = [Path(verilator.__file__).with_name(f"{name}.py") for name in ("quicker", "resting", "taken_apart")]
WORK = "run-"       # how names of work folders in the cache begin

# of work folders among the models; bytes that the smallest build takes at least
_BUILDING, _LEAST = "building-", 1 << 20

#: The rows of the KV memory are open: a bit of them may flip. Columns whose tiles the optimizer may not look into share
#: their code, and without its data-flow pass the rest builds in half the time and runs as fast.
KEEP = """\
`verilator_config
public_flat_rw -module "*block_ram*" -var "rows"
public_flat_rw -module "*mac_column*" -var "tile"
"""


def texts(*paths: str | Path) -> list[bytes]:
    """What is in files, for `kept`."""
    return [Path(path).read_bytes() for path in paths]


def kv_header(decoder: str, design: Design) -> str:
    """What kv_memory.h needs: where the memories are, in Verilator's words, if that of the decoder is ``decoder``."""
    adapters = f"#define ADAPTER_MEMORY top->rootp->{decoder}__DOT__adapters__DOT__memory__DOT__memory__DOT__rows\n"
    adapters *= bool(design.hw.adapters)
    rows = design.hw.attention_rows
    flips = " ".join(f"if (word % {rows} == {row}) flip_bit(top->rootp->{decoder}__DOT__kv_cache__DOT__{name}"
                     f"__DOT__memory__DOT__rows[word / {rows}], bit);"
                     for row, name in enumerate(row_names("##name##", rows)))
    return adapters + f"#define FLIP_KV(name) {{ {flips} }}\n" * (design.hw.kv_port == 0)


def kv_bus_header(design: Design) -> str:
    """What kv_bus.h needs, the memory behind the port of keys and values; where there is none, that."""
    hw = design.hw
    if not hw.kv_port:
        return "#define KV_WORD 0\n"
    size = design.kv_places.size
    return "".join(f"#define {name} {value}\n" for name, value in (
        ("KV_WORD", hw.kv_port // 8), ("KV_BYTES", f"{size}ull"), ("KV_OUTSTANDING", kv_axi(hw).outstanding),
        ("KV_PAGES", f"{((1 << kv_axi(hw).address_width) - size) // PAGE + 1}ull"),
        ("KV_READ_CYCLES", READ_CYCLES), ("KV_WRITE_CYCLES", WRITE_CYCLES)))


def _user_cache():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def cache_folder() -> Path:
    """Where built models are kept: $HWGEN_CACHE, or the user's cache folder. OSError if there is no home."""
    try:
        base = os.environ.get("HWGEN_CACHE") or _user_cache() / "hwgen"
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "No home folder", "HWGEN_CACHE") from None
    return Path(base).absolute()


def check_cache() -> None:
    """OSError if models cannot be kept: no folder can be made in the cache, or a file of some size."""
    models = cache_folder() / "models"
    models.mkdir(parents=True, exist_ok=True)
    with work_folder(models, _BUILDING) as work, open(work / "try", "wb") as file:
        file.write(bytes(_LEAST))


def _header(design):
    """design.h: the numbers that sim_main.cpp needs of a design and its ports' payloads."""
    def fields(prefix, layout):
        return [f"#define {prefix}_{name.upper()} {field.offset}, {field.width}" for name, field in layout]

    stream, hw = design.hw.source == "stream", design.hw
    lines = [f"#define {name} {int(value)}" for name, value in (
        ("HAS_WEIGHT_STREAM", stream), ("HAS_TEMPERATURE", hw.sampler == "gumbel"), ("HAS_ECC", hw.kv_ecc),
        ("BEAT_BYTES", hw.beat_bytes), ("TILE_BEATS", hw.tile_beats), ("ROM_LATENCY", ROM_LATENCY),
        ("STREAM_BEATS", design.stream_beats), ("LAYERS", design.layers), ("ENTRIES", hw.entries),
        ("COUNTERS", len(EVENTS)))]
    # cycles after which a pass that did not end is given up: ten times a pass with nothing overlapped
    beats = sum(m.tiles for m in design.layer_matmuls) * design.layers + design.head_matmul.tiles
    attention = design.layers * design.kv_heads * (4 * hw.context + 200) * design.padded_head_dim
    limit = 10 * hw.entries * (beats * hw.tile_beats + attention) + 100000
    lines.append(f"#define PASS_LIMIT {limit}ull")
    sizes, place = make.request_sizes(design), dict(slots=hw.slots, context=hw.context)
    lines += fields("CMD", command_layout(sizes)) + fields("OUT", outcome_layout(sizes))
    lines += fields("KV", kv_command_layout(**place))
    lines += fields("KV_ANSWER", kv_answer_layout())
    lines.append(f"#define HAS_ADAPTERS {int(hw.adapters > 0)}")
    if hw.adapters:
        lines += fields("ADAPTER", adapter_layout(adapters=hw.adapters, beat_bytes=hw.beat_bytes))
    if hw.kv_ecc:
        lines += [*fields("FAULT", kv_fault_layout(**place)),
                  "#define KV_FAULT " + ("top->kv_fault" if kv_fault_layout(**place).size else "0")]
    if stream:
        lines += fields("REQ", request_layout(stream_beats=design.stream_beats))
    # ports of no width are not in the Verilog
    lines.append("#define LAYER_PORT " + ("top->layer" if design.layers > 1 else "0"))
    address = "top->signature_address = (x)" if design.layers * hw.entries > 1 else "(void)(x)"
    lines.append(f"#define SIGNATURE_ADDRESS(x) {address}")
    return "\n".join(lines) + "\n"


def kept(name: str, about: tuple, make: Callable[[Path], Iterable[Path]]) -> Path:
    """A model in the cache: the executable ``model``, and beside it what it reads.

    ``about`` is all that it depends on but the tools and how Verilog is reworded. If it is not there yet,
    ``make(folder)`` makes it in a temporary folder, and returns the files to keep.
    """
    digest = hashlib.sha256(repr((about, texts(*_REWORDING), verilator.tool_versions())).encode()).hexdigest()
    folder = cache_folder() / "models" / f"{name}-{digest[:16]}"
    if not (folder / "model").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(folder.parent, _BUILDING) as place, verilator.build_folder(place) as work:
            done = place / "done"
            files = make(work)
            done.mkdir()
            for file in files:
                shutil.copy(file, done)
            if not (folder / "model").exists():     # nobody else has made it meanwhile
                if folder.exists():
                    shutil.rmtree(folder)
                done.rename(folder)
    return folder / "model"


def _known(about):
    """The file that says which model `remembered` found for that, or None if none may be taken."""
    source = None if some_changed() else generator()
    if source is None:
        return None
    digest = hashlib.sha256(repr((about, source, verilator.tool_versions())).encode()).hexdigest()
    return cache_folder() / "known" / digest


def remembered(about: tuple, make: Callable[[], Path]) -> Path:
    """The executable of `kept` that ``make()`` returned for ``about``, a tuple with plain reprs, or returns now.

    So a model is found before its Verilog is there: ``about`` is all that the Verilog and the files beside it are made
    from, but the generator, and what it is built with. Where a file of hwgen's or a tool is another one, or a table is
    `changed`, it is made again.
    """
    known = _known(about)
    if known is not None and known.exists():
        executable = cache_folder() / "models" / known.read_text() / "model"
        if executable.exists():         # models may be deleted
            return executable
    executable = make()
    if known is not None and known == _known(about):        # no file has changed meanwhile
        known.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(known.parent, _BUILDING) as work:
            (work / "new").write_text(executable.parent.name)
            (work / "new").replace(known)
    return executable


def _reworded(text, trace):
    """What Verilator reads. In a waveform all wires are to be seen; and columns are busy in nearly all cycles."""
    return quicker(text) if trace else resting(quicker(text), steady=["mac_column"])


def compiled(work: Path, sources: Sequence[Path], top: str, main: Path, header: str, *,
             trace: str | bool | None = None, **more: Any) -> Path:
    """Compile a model in a folder, of its sources in other words, with `design.h` and the KV memory open. Returns the
    executable.

    All that is read lies in that folder: where hwgen itself lies, make might not read (`verilator.build_folder`).
    """
    for file in (main, KV_MEMORY, KV_BUS):
        shutil.copy(file, work)
    sources = [Path(shutil.copy(source, work)) if source.parent != work else source for source in sources]
    for source in sources:
        source.write_text(_reworded(source.read_text(), trace))
    (work / "design.h").write_text(header)
    (work / "keep.vlt").write_text(KEEP)
    # the same words in every folder, so that Verilator's own objects are found again
    return verilator.build([work / "keep.vlt", *sources], top, cpp=[work / main.name], folder=work / "obj",
                           executable="model", cflags="-I..", cache=cache_folder() / "verilator-runtime",
                           args=["--x-assign", "fast", "--x-initial", "fast", "-fno-dfg"], trace=trace, **more)


def build_model(verilog: str, top: str, design: Design, *, trace: str | None = None, fst: bool = False,
                opt: str = "-O3", images: Sequence[Path] = (), progress: Callable[[str], object] | None = None,
                headers: bool = False) -> Path:
    """Compile the Verilog text of a decoder. Returns the executable; a second call with the same text finds it built.

    ``trace`` says which signals a waveform is to hold, of `hwgen.host.diagnosis.waves.SIGNALS`; by default the model
    can write none. It writes VCD, or ``fst``. ``images`` are files that the Verilog reads with $readmemh, copied beside
    the executable. ``progress`` is called with one line when a build really starts. ``headers`` is as of
    `hwgen.lib.verilator.build`.
    """
    header = _header(design) + kv_header(top, design) + kv_bus_header(design)
    if trace == "named":
        verilog = probed(verilog, top)

    def make(work):
        if progress:
            progress(f"building the Verilator model of {top} ({len(verilog) // 1000} kB of Verilog)")
        (work / "design.v").write_text(verilog)
        return [compiled(work, [work / "design.v"], top, MAIN, header, trace=trace and ("fst" if fst else "vcd"),
                         opt=opt, headers=headers),
                *images]

    return kept(top, (verilog, top, header, KEEP, texts(MAIN, KV_MEMORY, KV_BUS, *images), trace, fst, opt), make)


class TraceError(LinkError):
    """The waveform is not whole."""


class VerilatedLink(Link):
    """Talks to a model that `build_model` made.

    Parameters
    ----------
    design        its `Design`
    executable    the model
    weights       the packed stream as a file, for designs with source "stream"
    trace         a VCD or FST file to write (the model must be built with tracing)
    window        the cycles that are written to it
    stall, seed   probability that a weight beat is late, an entry is, or a result is not taken at once; and the seed of
                  those stalls
    """

    def __init__(self, design: Design, executable: str | Path, *, weights: str | Path | None = None,
                 trace: str | Path | None = None, window: Window = Window(), stall: float = 0.0, seed: int = 1) -> None:
        self.design, self._loaded = design, set()
        command = [str(executable), "--stall", str(stall), "--seed", str(seed)]
        if weights is not None:
            command += ["--weights", str(Path(weights).resolve())]
        # in its own session: Ctrl-C reaches us, and we end it after its files are closed
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE, text=True, bufsize=1, cwd=Path(executable).parent,
                                             start_new_session=True)
        except OSError as error:
            raise LinkError(f"{executable}: {error.strerror} (may programs be executed there? HWGEN_CACHE names "
                            "another folder)") from None
        if trace is not None:
            self._ask(f"trace {window.command()} {Path(trace).resolve()}\n")

    @property
    def _pipes(self):
        """(stdin, stdout, stderr) of the process."""
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        return process.stdin, process.stdout, process.stderr

    def _ask(self, text):
        given, answers, _ = self._pipes
        try:
            given.write(text)
            given.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._died()
        answer = json.loads(line)
        if "error" in answer:
            raise LinkError(f"The simulation gave {answer['error']}")
        return answer

    def _died(self):
        """Raise what ended the process."""
        code, said = self._process.wait(), self._pipes[2].read().strip()
        if code == 3:       # sim_main.cpp's TRACE_FAILED
            raise TraceError(f"The waveform cannot be written: {said.splitlines()[-1] if said else code}")
        raise LinkError(f"The simulation ended with code {code}" + (f": {said.splitlines()[-1]}" if said else ""))

    def configure(self, inv_temperature: int, seed: int) -> None:
        self._ask(f"config {inv_temperature} {seed}\n")

    def reset(self) -> None:
        self._ask("reset\n")

    def run_pass(self, entries: Sequence[Entry]) -> PassResult:
        check_fits(self.design, entries)
        check_loaded(entries, self._loaded)
        lines = "".join(f"{e.slot} {e.position} {e.token} {int(e.want)} {e.key} {e.adapter}\n" for e in entries)
        answer = self._ask(f"pass {len(entries)}\n{lines}")
        return PassResult(
            tokens={entry: token for _, entry, token, none, _, error in answer["outcomes"] if not (none or error)},
            outcome_cycles=[cycle for cycle, *_ in answer["outcomes"]],
            phases=[tuple(p) for p in answer["phases"]], cycles=answer["cycles"],
            counters=dict(zip(EVENTS, answer["counters"])), signatures=answer["signatures"],
            errors=refusals(self.design, entries, ((None if none else entry, error)
                                                   for _, entry, _, none, _, error in answer["outcomes"])))

    def load_adapter(self, number: int, quantized: QuantizedAdapter) -> None:
        beats = checked_adapter(self.design, number, quantized)
        self._ask(f"adapter {number - 1} {len(beats)}\n" + "".join(f"{beat.tobytes().hex()}\n" for beat in beats))
        self._loaded.add(number)

    def operate(self, op: int, slot: int, other: int = 0, length: int = 0) -> KvAnswer:
        check_fits(self.design, slots=(slot, other), length=length)
        answer = self._ask(f"kv {int(op)} {slot} {other} {length}\n")
        return KvAnswer(ErrorCode(answer["code"]), answer["cycles"])

    def flip(self, memory: str, word: int, bit: int) -> None:
        """Flip a bit of a word of the KV memory ``k_codes``, ``v_codes``, ``k_exps`` or ``v_exps``, or, where that is
        outside, of a byte of ``outside``."""
        self._ask(f"flip {memory} {word} {bit}\n")

    def ecc(self) -> EccState:
        answer = self._ask("ecc\n")
        return EccState(answer["corrected"], answer["failed"], tuple(answer["fault"]) if answer["failed"] else None)

    def traced(self) -> int:
        """How many cycles the waveform has."""
        return self._ask("traced\n")["cycles"]

    def close(self) -> None:
        process = self._process
        given, answers, said = self._pipes
        with answers, said:
            if process.poll() is None:
                try:
                    given.write("quit\n")
                    given.close()
                    process.wait(timeout=20)
                except (BrokenPipeError, subprocess.TimeoutExpired):
                    process.kill()
                    process.wait()
                if process.returncode not in (0, -signal.SIGKILL):      # it could not write the waveform's end
                    self._died()
            else:
                with contextlib.suppress(BrokenPipeError):
                    given.close()
