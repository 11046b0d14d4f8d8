#!/usr/bin/env bash
# A Llama folder saved by transformers 5.24.0 loads in transformers 4.57.6 with another rotary base and without its RoPE
# scaling, and neither version says a word.
#
# transformers 5 keeps all of RoPE in one dictionary and `save_pretrained` writes only that: config.json has
# "rope_parameters" (rope_theta inside) and no longer "rope_theta" and "rope_scaling". transformers 4.57.6, the last of
# the 4 series, takes "rope_parameters" for one of the unknown fields that any config may carry, and both fields it knows
# by their defaults: theta 10000, no scaling. Shapes do not depend on RoPE, so nothing fails, and short prompts look
# almost right. config.json does say `transformers_version`, but nothing reads it. One would guess that a format that
# changes its meaning is refused by the older reader, or still written for it.
#
# This saves a tiny model with Llama 3.1's RoPE with 5.24.0, and compares the logits of both versions on that folder.
#
# Seen with transformers 5.24.0 and 4.57.6, torch 2.13.0:
#   written by 5.24.0 {'rope_parameters': {'factor': 8.0, ... 'rope_theta': 500000.0, 'rope_type': 'llama3'}}
#   4.57.6 reads 10000.0 None
#   4.57.6 printed: nothing
#   logits off by 1.26 of the largest; with rope_theta and rope_scaling put back: 0
# Exits 1 if 4.57.6 and 5.24.0 agree on the folder, or something is printed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "torch==2.13.0" "numpy<3"
for version in 5.24.0 4.57.6; do  # each with its own dependencies, one torch
    "$work/venv/bin/pip" install --quiet --target "$work/$version" "transformers==$version" "numpy<3"
done
cat > "$work/save.py" <<'PY'
import sys

import torch
import transformers

torch.manual_seed(0)
config = transformers.LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=4096, initializer_range=0.3, rope_parameters={
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512})
transformers.LlamaForCausalLM(config).save_pretrained(sys.argv[1])
PY
cat > "$work/logits.py" <<'PY'
import sys

import numpy as np
import torch
import transformers

model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
with torch.no_grad():
    logits = model(torch.tensor([[7 * i % 61 for i in range(48)]])).logits[0].numpy()
np.save(sys.argv[2], logits)
config = model.config
print(transformers.__version__, "reads", getattr(config, "rope_theta", None), getattr(config, "rope_scaling", None))
PY
run() { PYTHONPATH="$work/$1" HF_HUB_DISABLE_PROGRESS_BARS=1 "$work/venv/bin/python" "${@:2}"; }
run 5.24.0 "$work/save.py" "$work/model" 2> /dev/null
run 5.24.0 "$work/logits.py" "$work/model" "$work/new.npy" 2> /dev/null
run 4.57.6 "$work/logits.py" "$work/model" "$work/old.npy" 2> "$work/said"
"$work/venv/bin/python" - "$work/model/config.json" <<'PY'
import json, sys
path = sys.argv[1]
config = json.load(open(path))
print("written by", config["transformers_version"], {k: v for k, v in config.items() if "rope" in k})
rope = config["rope_parameters"]
config["rope_theta"] = rope.pop("rope_theta")
config["rope_scaling"] = rope
json.dump(config, open(path, "w"))
PY
run 4.57.6 "$work/logits.py" "$work/model" "$work/back.npy" 2> /dev/null
"$work/venv/bin/python" - "$work" <<'PY'
import sys
import numpy as np
new, old, back = (np.load(f"{sys.argv[1]}/{name}.npy") for name in ("new", "old", "back"))
said = open(f"{sys.argv[1]}/said").read().strip()
off, mended = (abs(other - new).max() / abs(new).max() for other in (old, back))
print(f"4.57.6 printed: {said or 'nothing'}")
print(f"logits off by {off:.2f} of the largest; with rope_theta and rope_scaling put back: {mended:.1g}")
sys.exit(0 if off > 0.01 and mended < 1e-4 and not said else 1)
PY
