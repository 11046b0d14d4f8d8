"""From a model to a link that runs it: emit, build, start; and the faults that a self-test injects."""
import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..emit import emit
from ..emit.images import image_name
from ..plan.stream_map import describe
from .verilated import VerilatedLink, build_model, cache_folder

__all__ = ["Fault", "simulated"]


@dataclass(frozen=True)
class Fault:
    """A flipped bit of the weight stream that the machine reads; the golden model keeps the right one."""
    beat: int
    byte: int
    bit: int

    @classmethod
    def parse(cls, text, design):
        """From ``weight:BEAT:BYTE:BIT``. ValueError if that is not one of the design's."""
        kind, *numbers = text.split(":")
        if kind != "weight" or len(numbers) != 3 or not all(n.isdecimal() for n in numbers):
            raise ValueError(f"Fault must be weight:BEAT:BYTE:BIT, not {text!r}")
        fault = cls(*map(int, numbers))
        describe(design, fault.beat, fault.byte)
        if fault.bit > 7:
            raise ValueError(f"Bit of a byte must be 0 to 7, not {fault.bit}")
        return fault

    def where(self, design):
        return f"weight beat {self.beat}, byte {self.byte}, bit {self.bit}: {describe(design, self.beat, self.byte)}"

    def apply(self, path, design):
        """Flip it in a file: a memory image (one beat a line, in hexadecimal, byte 0 last) or the stream's bytes."""
        size = design.hw.beat_bytes
        with open(path, "r+b") as file:
            if path.suffix == ".hex":
                file.seek(self.beat * (2 * size + 1) + 2 * (size - 1 - self.byte))
                value = int(file.read(2), 16)
                file.seek(-2, os.SEEK_CUR)
                file.write(b"%02x" % (value ^ 1 << self.bit))
            else:
                file.seek(self.beat * size + self.byte)
                value = file.read(1)[0]
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([value ^ 1 << self.bit]))


@contextlib.contextmanager
def simulated(design, quantized, stage, *, folder=None, name="top", trace=None, stall=0.0, seed=1, faults=()):
    """A `VerilatedLink` to the machine of ``design``, from its emitted Verilog.

    Parameters
    ----------
    stage : callable        text -> context manager: called around what takes long
    folder : path           a folder that `emit` wrote for the same design and model; without it there is a temporary one
    trace : path            a VCD file to write: it appears when it is whole
    faults : list of Fault
    """
    with contextlib.ExitStack() as stack:
        cache_folder().mkdir(parents=True, exist_ok=True)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache_folder(), prefix="run-")))
        if folder is None:
            folder = work / name
            with stage("emitting Verilog"):
                emit(design, quantized, folder, name=name)
        image = folder / image_name(design)
        # a small model is simulated in less time than an optimizing compiler needs for it
        opt = "-O1" if design.stream_beats * design.hw.beat_bytes < 4_000_000 else "-O3"
        with stage("building the Verilator model"):
            executable = build_model((folder / f"{name}.v").read_text(), name, design, trace=trace is not None, opt=opt,
                                     images=[image] if design.hw.source == "rom" else [])
        if faults:
            broken = work / image.name
            shutil.copy(image, broken)
            for fault in faults:
                fault.apply(broken, design)
            executable = Path(shutil.copy(executable, work))
            image = broken
        partial = None if trace is None else trace.with_name(trace.name + ".partial")
        try:
            with VerilatedLink(design, executable, weights=image if design.hw.source == "stream" else None, trace=partial,
                               stall=stall, seed=seed) as link:
                yield link
        except KeyboardInterrupt:
            if partial is not None:
                partial.unlink(missing_ok=True)
            raise
        finally:
            if partial is not None and partial.exists():
                partial.replace(trace)
