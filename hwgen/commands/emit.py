"""hwgen emit: a machine's Verilog into a folder."""
import dataclasses
from pathlib import Path

from ..host.inputs import InputError, checked_input, writing
from ..lib.memory import give_back
from ..models.adapter_codes import quantize_adapter
from ..models.store import Store
from ..params.axi import AxiShape
from ..plan.summary import summary
from .common import adapters_of, add_adapter, add_command, add_machine, check_adapters, loaded, quantized_of

__all__ = ["add_emit", "emit_machine", "output_folder"]

AXI_HELP = {
    "data_width": "bits of a word of weights, 8 to 1024", "address_width": "bits of addresses, 13 to 64",
    "id_width": "bits of identifiers", "burst": "words of a burst, at most 256",
    "outstanding": "bursts asked for and not received yet, at most",
    "prefetch": "words asked for ahead: more than the memory's latency in cycles, and better more than the machine's "
                "pauses",
    "host": "stream: commands and results are AXI4-Stream ports; queue: they are registers",
    "queue": "results that wait for software with --axi-host queue, 1 to 128"}


def add_emit(commands):
    sub = add_command(commands, "emit", run_emit, "Write a machine's Verilog, memory images, manifest and file lists "
                                                  "into a folder.",
                      "hwgen emit demo --shape demo -o rtl_out/demo")
    add_machine(sub)
    sub.add_argument("-o", "--output", required=True, metavar="DIR",
                     help="the folder: new, or an earlier output of this command")
    sub.add_argument("--name", metavar="NAME", help="top module and prefix of all modules (default: the folder's name)")
    add_adapter(sub, many=True, who="entries of a pass")
    sub.add_argument("--bus", choices=("axi",),
                     help="ports of the machine: axi is weights from an AXI4 memory, registers on AXI4-Lite, and "
                     "sets source=stream (default: plain streams)")
    for field in dataclasses.fields(AxiShape):
        sub.add_argument(f"--axi-{field.name.replace('_', '-')}", type=field.type,
                         metavar="X" if field.type is str else "N",
                         help=f"with --bus axi: {AXI_HELP[field.name]} (default: {field.default})")


def emit_machine(screen, design, quantized, folder, name, axi=None, adapters=()):
    from ..emit import EmitError, emit
    with screen.stage(f"emitting Verilog into {folder}"), writing(folder):
        try:
            return emit(design, quantized, folder, name=name, axi=axi, adapters=adapters)
        except EmitError as error:
            raise InputError(str(error)) from None


def output_folder(path, name):
    """Refuse a bad output folder before the work, not after it."""
    from ..emit import check_output
    folder = Path(path)
    with writing(folder), checked_input():
        check_output(folder, name)
    return folder


def run_emit(options, screen):
    from ..emit import existing_parent
    name = options.name or Path(options.output).name.replace("-", "_").replace(".", "_")
    folder = output_folder(options.output, name)
    checkpoint, design = loaded(options, screen)
    axi = None
    with checked_input():
        chosen = {f.name: value for f in dataclasses.fields(AxiShape)
                  if (value := getattr(options, f"axi_{f.name}")) is not None}
        if options.bus:
            if f"source={design.hw.source}" in (options.shape or "").replace(" ", "") and design.hw.inside:
                raise ValueError(f"Bus axi needs weights that come from outside: leave source={design.hw.source} "
                                 "out of --shape")
            design = dataclasses.replace(design, hw=dataclasses.replace(design.hw, source="stream"))
            axi = AxiShape(**chosen)
            axi.check(design)
        elif chosen:
            raise ValueError(f"Option --axi-{next(iter(chosen)).replace('_', '-')} needs --bus axi")
        check_adapters(options.adapter, design)
    adapters = adapters_of(options.adapter, checkpoint, design)
    screen.say(summary(design))
    give_back()
    with writing(folder):
        store = Store(existing_parent(folder))
        design, quantized = quantized_of(options, screen, checkpoint, design, put=store.put)
    codes = [quantize_adapter(adapter, quantized, design) for adapter in adapters]
    del checkpoint, adapters
    give_back()
    emit_machine(screen, design, quantized, folder, name, axi, codes)
    for path in sorted(folder.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")
