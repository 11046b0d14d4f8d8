"""From a model to a link that runs it: emit, build, start; with faults, if somebody wants to see them found."""
import contextlib
import shutil
from pathlib import Path

from ..emit import emit
from ..emit.images import image_name
from ..lib.workdir import work_folder
from .faults import FlippingLink, KvFault, WeightFault, rewired
from .inputs import writing
from .verilated import WORK, TraceError, VerilatedLink, build_model, cache_folder
from .waves import write_views

__all__ = ["broken", "flipping", "simulated"]


@contextlib.contextmanager
def broken(executable, image, design, faults):
    """(executable, image) of copies with the faults' wrong bits in the weights: a model reads the image that lies beside it."""
    if not any(isinstance(fault, WeightFault) for fault in faults):
        yield executable, image
        return
    with work_folder(cache_folder(), WORK) as work:
        executable, image = (Path(shutil.copy(path, work)) for path in (executable, image))
        for fault in faults:
            if isinstance(fault, WeightFault):
                fault.apply(image, design)
        yield executable, image


def flipping(link, faults):
    """The link, with those of the faults that are the KV memory's."""
    faults = [fault for fault in faults if isinstance(fault, KvFault)]
    return FlippingLink(link, faults) if faults else link


@contextlib.contextmanager
def simulated(design, quantized, stage, *, folder=None, name="top", trace=None, stall=0.0, seed=1, faults=()):
    """A `VerilatedLink` to the machine of ``design``, from its emitted Verilog.

    Parameters
    ----------
    stage : callable        text -> context manager: called around what takes long
    folder : path           a folder that `emit` wrote for the same design and model; without it there is a temporary one
    trace : Trace           the waveform to write: its file appears when it is whole, and beside it what opens it
    faults : list           of `hwgen.host.faults`
    """
    with contextlib.ExitStack() as stack:
        cache_folder().mkdir(parents=True, exist_ok=True)
        work = stack.enter_context(work_folder(cache_folder(), WORK))
        if folder is None:
            folder = work / name
            with stage("emitting Verilog"), rewired(design, faults), writing(cache_folder()):
                emit(design, quantized, folder, name=name)
        image = folder / image_name(design, name)
        # a small model is simulated in less time than an optimizing compiler needs for it
        opt = "-O1" if design.stream_beats * design.hw.beat_bytes < 4_000_000 else "-O3"
        with stage("building the Verilator model"), writing(cache_folder()):
            verilog = (folder / f"{name}.v").read_text()
            executable = build_model(verilog, name, design, opt=opt, trace=trace and trace.signals,
                                     fst=trace is not None and trace.path.suffix == ".fst",
                                     images=[image] if design.hw.source == "rom" else [])
        executable, image = stack.enter_context(broken(executable, image, design, faults))
        partial = None if trace is None else trace.path.with_name(trace.path.name + ".partial")
        more = {} if trace is None else {"trace": partial, "window": trace.window}
        try:
            with VerilatedLink(design, executable, weights=image if design.hw.source == "stream" else None, stall=stall, seed=seed,
                               **more) as link:
                yield flipping(link, faults)
                if trace is not None and not link.traced():
                    raise TraceError("The waveform cannot be written: no cycle was within its window")
        except (KeyboardInterrupt, TraceError):
            if partial is not None:
                partial.unlink(missing_ok=True)
            raise
        finally:
            if partial is not None and partial.exists():
                partial.replace(trace.path)
                with writing(trace.path):
                    write_views(trace.path, verilog, name, design)
