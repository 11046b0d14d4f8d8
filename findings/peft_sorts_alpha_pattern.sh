#!/usr/bin/env bash
# PEFT 0.21.2: an adapter with two patterns for a module computes one thing when it is made, and another one when it was saved and loaded.
#
# `alpha_pattern` gives the modules whose names it ends their own alpha of LoRA, and the first pattern that fits counts, in the order of the dictionary. But
# `save_pretrained` writes adapter_config.json with sorted keys, so behind a loading the first one in the alphabet counts. {"q_proj": 64,
# "layers.0.self_attn.q_proj": 4}, a rule and then its exception, trains both layers with 64; whoever loads the folder, PEFT itself or another program, gets
# 4 in layer 0. Weights are the same, shapes too, nothing is said. (With `rank_pattern`, for which the same holds, shapes do not fit, and it is said.) One
# would guess that saving keeps what decides, or that the most exact name wins.
#
# Seen with peft 0.21.2, transformers 5.24.0, torch 2.13.0:
#   written: {"q_proj": 64, "layers.0.self_attn.q_proj": 4}; in the file: {"layers.0.self_attn.q_proj": 4, "q_proj": 64}
#   alpha / rank of layers 0 and 1: made [16.0, 16.0], loaded [1.0, 16.0]
#   logits off by 1.48 of the largest; with the keys of the file in the first order: 0.00
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "peft==0.21.2" "transformers==5.24.0" "torch==2.13.0" "numpy<3"
cat > "$work/try.py" <<'PY'
import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

ALPHA = {"q_proj": 64, "layers.0.self_attn.q_proj": 4}
TOKENS = torch.arange(1, 17)[None]


def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                                        num_key_value_heads=2, initializer_range=0.3))


def computed(model):
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def scales(model):
    return [module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")]


folder = Path(sys.argv[1]) / "adapter"
made = get_peft_model(base(), LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj"], alpha_pattern=dict(ALPHA), init_lora_weights=False))
first = computed(made)
made.save_pretrained(folder)
config = json.loads((folder / "adapter_config.json").read_text())
loaded = PeftModel.from_pretrained(base(), folder)
second = computed(loaded)
(folder / "adapter_config.json").write_text(json.dumps(config | {"alpha_pattern": ALPHA}))
third = computed(PeftModel.from_pretrained(base(), folder))
print(f"written: {json.dumps(ALPHA)}; in the file: {json.dumps(config['alpha_pattern'])}")
print(f"alpha / rank of layers 0 and 1: made {scales(made)}, loaded {scales(loaded)}")
off, back = ((first - other).abs().max().item() / first.abs().max().item() for other in (second, third))
print(f"logits off by {off:.2f} of the largest; with the keys of the file in the first order: {back:.2f}")
sys.exit(not (scales(made) == [16, 16] and scales(loaded) == [1, 16] and off > 0.01 and back < 1e-6))
PY
PYTHONWARNINGS=ignore HF_HUB_OFFLINE=1 "$work/venv/bin/python" "$work/try.py" "$work"
