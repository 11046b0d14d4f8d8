"""Ask PEFT what the logits of a small model are with each adapter of the tests.

    python -m tools.record_adapters                 # writes tests/adapters.json: the options as PEFT saves them, names
    and shapes, logits

Needs the extras `test` and `reference`, and peft (0.21.2 was recorded).
"""
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import adapter_cases  # noqa: E402
import peft  # noqa: E402
import safetensors.numpy  # noqa: E402
import torch  # noqa: E402
from model_files import write_folder  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402


def record(options, folder):
    """What PEFT saves and computes: options, shapes of tensors, logits."""
    base, saved = folder / "base", folder / "adapter"
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
                                peft.LoraConfig(task_type="CAUSAL_LM", **options))
    model.save_pretrained(saved)
    config, path = json.loads((saved / "adapter_config.json").read_text()), saved / "adapter_model.safetensors"
    shapes = {name: list(values.shape) for name, values in safetensors.numpy.load_file(path).items()}
    safetensors.numpy.save_file(adapter_cases.matrices(shapes), path)
    again = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
                                           saved).eval()
    with torch.no_grad():
        logits = again(torch.tensor([adapter_cases.TOKENS])).logits[0, :, adapter_cases.SHOWN]
    config["base_model_name_or_path"] = "base"
    for name, value in config.items():
        if isinstance(value, list):
            config[name] = sorted(value)
    return {"config": config, "shapes": shapes, "logits": [[round(float(x), 5) for x in row] for row in logits]}


def main():
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder) / "base")
        found = {name: record(options, Path(folder)) for name, options in adapter_cases.CASES.items()}
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in found.items()]
    (ROOT / "tests" / "adapters.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(found)} adapters of PEFT {peft.__version__} in tests/adapters.json")


if __name__ == "__main__":
    main()
