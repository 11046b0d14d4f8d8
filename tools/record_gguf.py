"""Ask llama.cpp what the logits of the tiny models of each GGUF architecture are.

    python -m tools.record_gguf                     # writes tests/gguf_families.json
    python -m tools.record_gguf --only gemma3       # shows those whose name has this, and writes nothing

Needs the extras `test` and `reference`.
"""
import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import gguf_families as families  # noqa: E402
from tools.record_oracle import Failed, llama_cpp_logits  # noqa: E402

from hwgen.models import ModelError, load  # noqa: E402
from hwgen.models.reference import Reference  # noqa: E402


def record(case, path):
    """The record of a case: its digest, and logits or llama.cpp's error."""
    try:
        return {"digest": case.digest(), "logits": llama_cpp_logits(path, case.tokens())[list(families.POSITIONS)]}
    except Failed as error:
        return {"digest": case.digest(), "failed": str(error)}


def ours(path, case):
    """Logits of this reader and the float32 reference, or what it says."""
    try:
        return Reference.of(load(path, need_tokenizer=False)).logits(case.tokens())[list(families.POSITIONS)]
    except ModelError as error:
        return str(error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="cases whose name has this; nothing is written")
    options = parser.parse_args()
    records = {}
    for case in families.CASES.values():
        if options.only and options.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = case.write(Path(folder))
            records[case.name], logits = record(case, path), ours(path, case)
        theirs = records[case.name].get("logits")
        said = logits if isinstance(logits, str) else "read"
        if theirs is not None and not isinstance(logits, str):
            said = f"off by {abs(logits - theirs).max() / abs(theirs).max():.2g}"
        print(f"{case.name}: {records[case.name].get('failed', 'recorded')}; {said}", flush=True)
    if not options.only:
        families.write_records(records)


if __name__ == "__main__":
    main()
