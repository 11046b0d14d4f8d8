#!/usr/bin/env bash
# transformers 5.24.0 (tokenizers 0.23.3): tokenizer_class in tokenizer_config.json can replace the splitting that
# tokenizer.json describes. The file below cuts numbers into single digits before its merges. With tokenizer_class
# "GPT2Tokenizer", AutoTokenizer takes only vocabulary, merges and post-processor from tokenizer.json and puts GPT-2's own
# pre-tokenizer in place of the file's: "12" becomes one token, which the file's own rules never make. Nothing is said
# about it. With "PreTrainedTokenizerFast" the file holds as it is. Seen:
#
#   tokenizers                     ['1', '2']
#   PreTrainedTokenizerFast        ['1', '2']
#   GPT2Tokenizer                  ['12']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoTokenizer

tokens = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["12"]
core = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [("1", "2")]))
core.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
core.decoder = decoders.ByteLevel()
seen = {"tokenizers": core.encode("12").tokens}
for name in ("PreTrainedTokenizerFast", "GPT2Tokenizer"):
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    core.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    seen[name] = AutoTokenizer.from_pretrained(folder).tokenize("12")
for name, pieces in seen.items():
    print(f"{name:30} {pieces}")
split = ["1", "2"]
sys.exit(seen != {"tokenizers": split, "PreTrainedTokenizerFast": split, "GPT2Tokenizer": ["12"]})
PYTHON
