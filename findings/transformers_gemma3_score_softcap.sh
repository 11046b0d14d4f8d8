#!/usr/bin/env bash
# transformers 5.24.0, torch 2.13.0: Gemma 3's configuration has attn_logit_softcapping, beside Gemma 2's of the same name. It is
# checked, stored and written to config.json, and the attention of Gemma 3 never gets it: logits are the same, bit for bit, with a cap
# of scores of 0.5 and without one, under eager attention and under sdpa alike. In Gemma 2 the same option changes them. Nothing is
# said. (final_logit_softcapping works in both.) Whoever reads a Gemma 3 checkpoint and honours the option computes another model than
# transformers. Seen: the largest difference of the logits with and without the cap.
#
#   Gemma2ForCausalLM  eager  differ
#   Gemma3ForCausalLM  eager  the same
#   Gemma3ForCausalLM  sdpa   the same
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "numpy<3" "transformers==5.24.0"
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PYTHON'
import sys

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

# weights and a score scale so large that scores are far beyond the cap
SMALL = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             head_dim=16, sliding_window=64, query_pre_attn_scalar=1, initializer_range=0.5, final_logit_softcapping=None)
TOKENS = torch.arange(1, 25)[None]


def logits(model, config, attention, cap):
    torch.manual_seed(0)
    made = model._from_config(config(**SMALL, attn_logit_softcapping=cap), attn_implementation=attention).eval()
    assert made.config.attn_logit_softcapping == cap and made.config._attn_implementation == attention
    with torch.no_grad():
        return made(TOKENS).logits


seen = {}
for model, config, attention in ((Gemma2ForCausalLM, Gemma2Config, "eager"), (Gemma3ForCausalLM, Gemma3TextConfig, "eager"),
                                 (Gemma3ForCausalLM, Gemma3TextConfig, "sdpa")):
    same = torch.equal(logits(model, config, attention, None), logits(model, config, attention, 0.5))
    seen[model.__name__, attention] = same
    print(f"{model.__name__}  {attention:5}  {'the same' if same else 'differ'}")
sys.exit(list(seen.values()) != [False, True, True])
PYTHON
