#!/usr/bin/env bash
# transformers 5.24.0 reads the weights of a Llama GGUF file and drops its RoPE scaling, without a word.
#
# A GGUF file of architecture llama says its RoPE scaling in the metadata (`llama.rope.scaling.type`, `.factor`: linear)
# or in a tensor (`rope_freqs.weight`, what each frequency is divided by: Llama 3.1, 3.2 and 3.3; llama.cpp's converter
# writes no metadata beside it). `from_pretrained(folder, gguf_file=...)` maps neither. The model loads, no key is
# reported as unused, and its config says rope_type "default": the logits are those of a file without any scaling.
# llama.cpp honours both. One would guess that a loader that dequantizes a file for further training computes what the
# file says, or complains.
#
# This writes one tiny model three times (plain; linear by 4; with rope_freqs) and compares the logits.
#
# Seen with transformers 5.24.0, torch 2.13.0, gguf 0.19.0 and llama.cpp b9190 (cyllama 0.2.18):
#   transformers reads rope_freqs.gguf: {'rope_theta': 500.0, 'rope_type': 'default'}
#   transformers 5.24.0; of the largest logit:
#   both on the plain file differ by 8e-07
#   linear against plain: llama.cpp 1.40, transformers 0.00
#   rope_freqs against plain: llama.cpp 1.07, transformers 0.00
# Exits 1 if transformers starts to honour either, or llama.cpp stops.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "transformers==5.24.0" "torch==2.13.0" "gguf==0.19.0" "accelerate==1.15.0" "cyllama==0.2.18" "numpy<3"
cat > "$work/try.py" <<'PY'
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from cyllama.llama import llama_cpp

HIDDEN, HEADS, DIM, INNER, VOCAB = 64, 4, 16, 64, 64
TOKENS = [3 + 7 * i % 60 for i in range(24)]


def write(path, metadata, divisors=None):
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {"vocab_size": VOCAB, "context_length": 64, "embedding_length": HIDDEN, "block_count": 1,
                       "feed_forward_length": INNER, "attention.head_count": HEADS, "attention.head_count_kv": HEADS,
                       "rope.dimension_count": DIM}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32("llama.rope.freq_base", 500.0)
    for key, value in metadata.items():
        (writer.add_string if isinstance(value, str) else writer.add_float32)(key, value)
    writer.add_tokenizer_model("no_vocab")
    sizes = {"token_embd": (VOCAB, HIDDEN), "output": (VOCAB, HIDDEN), "blk.0.ffn_gate": (INNER, HIDDEN),
             "blk.0.ffn_up": (INNER, HIDDEN), "blk.0.ffn_down": (HIDDEN, INNER)}
    sizes |= {f"blk.0.attn_{m}": (HIDDEN, HIDDEN) for m in ("q", "k", "v", "output")}
    for name, size in sizes.items():
        gain = 2 if name.endswith(("_q", "_k")) else 1
        writer.add_tensor(f"{name}.weight", (gain * rng.standard_normal(size) / 8).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(HIDDEN, np.float32))
    if divisors is not None:
        writer.add_tensor("rope_freqs.weight", np.asarray(divisors, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def by_transformers(path):
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    print(f"  transformers reads {path.name}: {model.config.rope_parameters}")
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].numpy()


class Model(llama_cpp.LlamaModel):  # its get_logits_ith asks the model for a number that only the vocabulary has
    n_vocab = VOCAB


def by_llama_cpp(path):
    model = Model(str(path), params=llama_cpp.LlamaModelParams(), verbose=False)
    params = llama_cpp.LlamaContextParams()
    params.n_ctx = params.n_batch = params.n_ubatch = 64
    params.type_k = params.type_v = params.flash_attn_type = 0  # float32
    context = llama_cpp.LlamaContext(model, params, verbose=False)
    batch = llama_cpp.LlamaBatch(n_tokens=len(TOKENS), embd=0, n_seq_max=1)
    for i, token in enumerate(TOKENS):
        batch.add(token, i, [0], True)
    context.decode(batch)
    return np.array([context.get_logits_ith(i) for i in range(len(TOKENS))])


def off(a, b):
    return abs(a - b).max() / abs(b).max()


llama_cpp.disable_logging()
folder = Path(sys.argv[1])
write(folder / "plain.gguf", {})
write(folder / "linear.gguf", {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0})
write(folder / "rope_freqs.gguf", {}, np.linspace(1, 8, DIM // 2))
names = ("plain", "linear", "rope_freqs")
ours = {name: by_llama_cpp(folder / f"{name}.gguf") for name in names}
theirs = {name: by_transformers(folder / f"{name}.gguf") for name in names}
print(f"transformers {transformers.__version__}; of the largest logit:")
print(f"both on the plain file differ by {off(theirs['plain'], ours['plain']):.1g}")
for name in names[1:]:
    print(f"{name} against plain: llama.cpp {off(ours[name], ours['plain']):.2f}, "
          f"transformers {off(theirs[name], theirs['plain']):.2f}")
same = off(theirs["plain"], ours["plain"]) < 1e-4
moved = all(off(ours[name], ours["plain"]) > 0.01 for name in names[1:])
dropped = all(off(theirs[name], theirs["plain"]) == 0 for name in names[1:])
sys.exit(0 if same and moved and dropped else 1)
PY
PYTHONWARNINGS=ignore "$work/venv/bin/python" "$work/try.py" "$work"
