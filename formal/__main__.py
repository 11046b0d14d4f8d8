"""All proofs: `python -m formal`, or `make formal`. Seconds are of processor time."""
import argparse
from functools import partial
import sys
import time

from . import admission, axi, kv_blocks, queues, uart_bridge, units
from .engine import EngineError, processor_seconds
from .proofs import ProofFailed, prove, refute

PROOFS = [*queues.PROOFS, *kv_blocks.PROOFS, *admission.PROOFS, *axi.PROOFS, *uart_bridge.PROOFS, *units.PROOFS]

_HELD = {"proved": "in all cycles", "bounded": "in the first {depth} cycles"}


def run(proofs, say=print):
    """Prove, and refute of broken units, with a line for each. Returns the sentences on what failed."""
    failed = []
    for proof in proofs:
        steps = [(proof.name, partial(_proved, proof)), *((f"{proof.name}, broken", partial(_refuted, proof, of))
                                                          for of in proof.breaks)]
        for name, step in steps:
            try:
                say(f"{name}: {step()}")
            except (ProofFailed, EngineError) as error:
                say(f"{name}: FAILED")
                failed.append(str(error))
    return failed


def _proved(proof):
    verdict, count = prove(proof)
    held = _HELD[verdict.kind].format(depth=verdict.depth)
    return f"{count} properties hold {held}, by {proof.method} ({verdict.seconds:.1f} s)"


def _refuted(proof, name):
    verdict = refute(proof, name)
    return f"{name!r} fails in cycle {verdict.depth} ({verdict.seconds:.1f} s)"


def main():
    parser = argparse.ArgumentParser(prog="python -m formal", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="proofs whose name has this text")
    parser.add_argument("--list", action="store_true", help="only name the proofs")
    arguments = parser.parse_args()
    chosen = [proof for proof in PROOFS if arguments.only.lower() in proof.name.lower()]
    if arguments.list or not chosen:
        print("\n".join(proof.name for proof in chosen or PROOFS))
        return 0 if chosen else f"error: --only must be part of one of these names, not {arguments.only!r}"
    begun = time.monotonic()
    failed = run(chosen, lambda line: print(line, flush=True))
    print(f"{len(chosen)} proofs, {sum(len(proof.breaks) for proof in chosen)} broken units: "
          f"{processor_seconds():.0f} s of processor time, "
          f"{time.monotonic() - begun:.0f} s by the clock")
    return "\n".join(f"error: {sentence}" for sentence in failed) or 0


if __name__ == "__main__":
    sys.exit(main())
