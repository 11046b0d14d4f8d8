"""From a model to a link that runs it: emit, build, start; with faults, if somebody wants to see them found."""
import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...emit import emit
from ...emit.images import image_name, write_image
from ...lib.workdir import work_folder
from ...models.quantize import QuantizedModel
from ...params.design import Design
from ..diagnosis.faults import AdapterFault, Fault, FlippingLink, KvFault, WeightFault, rewired
from ..inputs import writing
from .link import Link
from .verilated import WORK, TraceError, VerilatedLink, build_model, cache_folder, remembered
from ..diagnosis.waves import Trace, write_views

__all__ = ["broken", "flipping", "simulated"]


@contextlib.contextmanager
def broken(executable: Path, image: Path, design: Design, faults: Iterable[Fault]) -> Iterator[tuple[Path, Path]]:
    """(executable, image) of copies with the faults' wrong bits in the weights: a model reads the image that lies
    beside it."""
    if not any(isinstance(fault, WeightFault) for fault in faults):
        yield executable, image
        return
    with work_folder(cache_folder(), WORK) as work:
        executable, image = (Path(shutil.copy(path, work)) for path in (executable, image))
        for fault in faults:
            if isinstance(fault, WeightFault):
                fault.apply(image, design)
        yield executable, image


def flipping(link: Link, faults: Iterable[Fault]) -> Link:
    """The link, with those of the faults that are of memories which the machine writes."""
    flips = [fault for fault in faults if isinstance(fault, (AdapterFault, KvFault))]
    return FlippingLink(link, flips) if flips else link


@contextlib.contextmanager
def simulated(design: Design, quantized: QuantizedModel, stage: Callable[[str], contextlib.AbstractContextManager], *,
              folder: Path | None = None, name: str = "top", trace: Trace | None = None, stall: float = 0.0,
              seed: int = 1, faults: Sequence[Fault] = ()) -> Iterator[Link]:
    """A `VerilatedLink` to the machine of ``design``, from its emitted Verilog.

    Parameters
    ----------
    stage : callable        text -> context manager: called around what takes long
    folder : path           a folder that `emit` wrote for the same design and model; without it there is a temporary
                            one
    trace : Trace           the waveform to write: its file appears when it is whole, and beside it what opens it
    faults : list           of `hwgen.host.diagnosis.faults`
    """
    with contextlib.ExitStack() as stack:
        cache_folder().mkdir(parents=True, exist_ok=True)
        work = stack.enter_context(work_folder(cache_folder(), WORK))
        rom, emitted = design.hw.inside, folder
        inside = "" if design.hw.source == "stream" else quantized.digest       # of what is built, or lies beside it
        # a small model is simulated in less time than an optimizing compiler needs for it
        opt = "-O1" if design.stream_beats * design.hw.beat_bytes < 4_000_000 else "-O3"
        how: dict[str, Any] = dict(opt=opt, trace=trace and trace.signals,
                                   fst=trace is not None and trace.path.suffix == ".fst")

        def build():
            nonlocal emitted
            if emitted is None:
                emitted = work / name
                with stage("emitting Verilog"):
                    emit(design, quantized, emitted, name=name)
            text, image = emitted / f"{name}.v", emitted / image_name(design, name)
            with stage("building the Verilator model"):
                return build_model(text.read_text(), name, design,
                                   images=[*([image] if rom else []), *([text] if trace else [])], **how)

        with rewired(design, faults), writing(cache_folder()):
            executable = remembered((name, design, inside, how), build)
            image = (executable.parent if rom else emitted or work) / image_name(design, name)
            if not image.exists():
                write_image(image, quantized, design)
        text = executable.with_name(f"{name}.v")        # of a waveform's model
        executable, image = stack.enter_context(broken(executable, image, design, faults))
        partial = None if trace is None else trace.path.with_name(trace.path.name + ".partial")
        more: dict[str, Any] = {} if trace is None else {"trace": partial, "window": trace.window}
        try:
            with VerilatedLink(design, executable, weights=image if design.hw.source == "stream" else None,
                               stall=stall, seed=seed, **more) as link:
                yield flipping(link, faults)
                if trace is not None and not link.traced():
                    raise TraceError("The waveform cannot be written: no cycle was within its window")
        except (KeyboardInterrupt, TraceError):
            if partial is not None:
                partial.unlink(missing_ok=True)
            raise
        finally:
            if trace is not None and partial is not None and partial.exists():
                partial.replace(trace.path)
                with writing(trace.path):
                    write_views(trace.path, text.read_text(), name, design)
