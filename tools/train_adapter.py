#!/usr/bin/env python3
"""Train the LoRA adapter that ships in hwgen/models/devil: rank 8 on all matrices of the demo model.

The demo model has read Jane Austen; the adapter has read Ambrose Bierce's Devil's Dictionary, without its verse, out of
the Debian package dict-devil (public domain). The folder is as PEFT saves one.

Needs the extra `reference` (CPU torch is enough), apt-get and dpkg.

    python tools/train_adapter.py                      writes hwgen/models/devil
    python tools/train_adapter.py --steps 20 --out x   a quick one, to see that everything works
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import safetensors.torch
import torch
from torch import nn
from transformers import AutoModelForCausalLM

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from hwgen.models import DEMO, load  # noqa: E402
from tools.devil_text import texts  # noqa: E402

RANK, ALPHA, LENGTH, BATCH = 8, 16, 255, 12
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LowRank(nn.Module):
    """A linear layer, and what is added to it."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.a, self.b = nn.Parameter(torch.empty(RANK,
                                                  base.in_features)), nn.Parameter(torch.zeros(base.out_features, RANK))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)      # as PEFT's

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T * (ALPHA / RANK)


def adapted():
    """(the model, its adapters by the name of their module)."""
    model, found = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32), {}
    model.requires_grad_(False)
    for name, module in list(model.named_modules()):
        if name.rpartition(".")[2] in TARGETS:
            parent, _, child = name.rpartition(".")
            found[name] = LowRank(module)
            setattr(model.get_submodule(parent), child, found[name])
    return model, found


def loss_of(model, ids):
    """Nats per token of a text, in pieces that each begin with <|endoftext|> (id 0)."""
    pieces = [ids[i:i + LENGTH] for i in range(0, len(ids), LENGTH)]
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(model(torch.tensor([[0, *piece[:-1]]])).logits[0], torch.tensor(piece),
                                              reduction="sum")
                  for piece in pieces]
    return float(sum(losses)) / len(ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=pathlib.Path, default=REPO / "hwgen" / "models" / "devil")
    options = parser.parse_args()
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    trained, valid = texts(load(DEMO).tokenizer.encode)
    model, parts = adapted()
    model.eval()
    before = loss_of(model, valid)
    parameters = [p for part in parts.values() for p in (part.a, part.b)]
    optimizer = torch.optim.AdamW(parameters, lr=4e-3, weight_decay=0.01)
    for step in range(options.steps):
        rows = []
        for _ in range(BATCH):
            row, at = [0], int(rng.integers(len(trained)))
            while len(row) <= LENGTH:       # entries in order, from any one on
                row += trained[at % len(trained)]
                at += 1
            rows.append(row[:LENGTH + 1])
        rows = torch.tensor(rows)
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, (step + 1) / 20) * (1 - step / options.steps)
        loss = nn.functional.cross_entropy(model(rows[:, :-1]).logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: {float(loss.detach()):.3f}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    tensors = {f"base_model.model.{name}.lora_{letter.upper()}.weight":
               getattr(part, letter).detach().to(torch.bfloat16).contiguous()
               for name, part in parts.items() for letter in "ab"}
    for part in parts.values():
        part.a.data, part.b.data = (p.detach().to(torch.bfloat16).float() for p in (part.a, part.b))
    after = loss_of(model, valid)
    safetensors.torch.save_file(tensors, options.out / "adapter_model.safetensors")
    config = {"base_model_name_or_path": "hwgen/models/demo", "bias": "none", "fan_in_fan_out": False,
              "inference_mode": True,
              "init_lora_weights": True,
              "lora_alpha": ALPHA, "lora_dropout": 0.0, "modules_to_save": None, "peft_type": "LORA", "r": RANK,
              "target_modules": sorted(TARGETS),
              "task_type": "CAUSAL_LM", "use_dora": False, "use_rslora": False}
    (options.out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"{len(trained)} entries, {sum(map(len, trained))} tokens; held out {len(valid)} tokens: {before:.4f} nats "
          f"per token before, {after:.4f} with the adapter")


if __name__ == "__main__":
    main()
