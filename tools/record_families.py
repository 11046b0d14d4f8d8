"""Let transformers make tiny models of each family, and say what their logits are.

    python -m tools.record_families                     # writes tests/families.json.xz
    python -m tools.record_families granite olmo        # only the cases whose names start so, into the same file
    python -m tools.record_families --measure           # writes docs/families.json: hwgen's float32 reference against
    them

Recording needs the extras `test` and `reference` (transformers 5.24); it also checks what `hwgen.models.families` says
a configuration is where config.json is silent.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import family_cases  # noqa: E402
from hwgen.models import load  # noqa: E402
from hwgen.models.families import FAMILIES  # noqa: E402
from hwgen.models.reference import Reference  # noqa: E402

RESULTS = ROOT / "docs" / "families.json"


def record(case):
    """The record of a case: configuration and tensors' shapes as transformers saves them, and its logits."""
    import torch
    import transformers
    from safetensors import safe_open
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(case["model_type"], **case["options"])
    model = transformers.AutoModelForCausalLM.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        with safe_open(folder / "model.safetensors", "np") as file:
            sizes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}
        family_cases.write_folder(folder, case, config, sizes)
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            # others leave softcaps out
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        wrong = sorted(str(name) for kind in ("missing_keys", "mismatched_keys", "unexpected_keys")
                       for name in loading[kind])
        if wrong:
            raise SystemExit(f"transformers itself does not load {wrong[0]}")
        with torch.no_grad():
            logits = model.eval()(torch.tensor([family_cases.TOKENS])).logits[0].float().numpy()
    return {"config": config, "sizes": sizes, "logits": logits[list(family_cases.POSITIONS)]}


def check_defaults(family):
    """What the family says transformers takes for an option that is missing must be what its configuration class
    says."""
    import transformers
    config = transformers.AutoConfig.for_model(family.model_type)
    theta = config.default_theta
    theta = theta["global"] if isinstance(theta, dict) else theta
    for option, value in family.defaults.items():
        if option in ("head_dim",
                      "num_key_value_heads") and value is None or option == "rms_norm_eps" and family.epsilon or (
                option == family.partial_name):
            continue
        fields = type(config).__dataclass_fields__
        found = [getattr(config, option, None)] + ([fields[option].default] if option in fields else [])
        found = [theta] if option == "rope_theta" else found
        found = [tuple(one) if isinstance(one, list) else one for one in found]
        if value not in found and option not in family.options and option != "sliding_window_pattern":
            raise SystemExit(f"{family.model_type}: {option} is {found[0]!r} by transformers, not {value!r}")


def measure(folder, case, record):
    """Largest difference of hwgen's float32 logits from the recorded ones, of the largest."""
    checkpoint = load(family_cases.write_folder(folder, case, record["config"], record["sizes"]), need_tokenizer=False)
    found = Reference.of(checkpoint).logits(family_cases.TOKENS)[list(family_cases.POSITIONS)]
    return float(np.abs(found - record["logits"]).max() / np.abs(record["logits"]).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="starts of names (default: all)")
    parser.add_argument("--measure", action="store_true",
                        help="only hold the float32 reference against what is recorded")
    options = parser.parse_args()
    if options.measure:
        records = family_cases.read_records()
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        with tempfile.TemporaryDirectory() as folder:
            for i, (name, case) in enumerate(family_cases.CASES.items()):
                off = measure(Path(folder) / str(i), case, records[name])
                results[name] = {"float32": float(f"{off:.1e}"), "rtl": results.get(name, {}).get("rtl", "")}
                print(f"{off:.1e}  {name}")
        rows = (f"{json.dumps(name)}: {json.dumps(results[name])}" for name in family_cases.CASES)
        RESULTS.write_text("{\n" + ",\n".join(rows) + "\n}\n")
        return
    for family in FAMILIES.values():
        check_defaults(family)
    records = family_cases.read_records() if options.cases else {}
    for name, case in family_cases.CASES.items():
        if not options.cases or name.startswith(tuple(options.cases)):
            print(name, flush=True)
            records[name] = record(case)
    family_cases.write_records({name: records[name] for name in family_cases.CASES if name in records})


if __name__ == "__main__":
    main()
