#!/usr/bin/env bash
# gguf 0.19.0 rounds to MXFP4 with ties towards zero, where ml_dtypes takes ties to even, as rounding to floats usually does.
#
# `gguf.quants.quantize(..., MXFP4)` takes the nearest of the 16 values of E2M1 by the first smallest difference, and of two at the same distance that is the
# smaller magnitude; ml_dtypes' float4_e2m1fn rounds to even. One would guess that ties are too rare to matter. But block scales are powers of two, so a
# weight that was trained in bfloat16 keeps its 8 significant bits, and one of those between two codes in 64 lies exactly in the middle; where the even code is
# the larger one, which is so at 3 of the 7 middles, the two packages give different codes, and gguf's is always nearer to zero. Somebody who quantizes with
# one and checks with the other sees a few codes in a thousand differ and looks for a bug in the scales.
#
# This gives every positive bfloat16 number up to 6 that is at least 1/4 to both, in blocks whose largest number is 6 (so that the scale is 1).
#
# Seen with gguf 0.19.0, ml_dtypes 0.6.0, numpy 2.4.6:
#   577 numbers, 7 of them in the middle of two codes; codes differ at 0.75, 1.75, 3.5: gguf 0.5, 1.5, 3; ml_dtypes 1, 2, 4
#   100,000 weights, normal, in bfloat16: 0.45% of the codes differ, and all of these are nearer to zero in gguf's
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "gguf==0.19.0" "ml_dtypes==0.6.0" "numpy==2.4.6"
cat > "$work/try.py" <<'PY'
import gguf
import ml_dtypes
import numpy as np

KIND = gguf.GGMLQuantizationType.MXFP4


def both(x, scales=None):
    """Of float32 [blocks, 32], what either makes of it; ml_dtypes with gguf's scales."""
    packed = gguf.quants.quantize(x.reshape(1, -1), KIND).reshape(-1, 17)
    scale = np.ldexp(np.float32(1), packed[:, :1].astype(int) - 127)
    even = (x / scale).astype(ml_dtypes.float4_e2m1fn).astype(np.float32) * scale
    return gguf.quants.dequantize(packed.reshape(1, -1), KIND).reshape(x.shape), even


numbers = np.arange(0x10000, dtype=np.uint16).view(ml_dtypes.bfloat16).astype(np.float32)
numbers = numbers[(numbers >= 0.25) & (numbers <= 6)]
blocks = np.stack([numbers] + [np.full_like(numbers, 6)] * 31, axis=1)
ours, even = (each[:, 0] for each in both(blocks))
middles = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]
differ = ours != even
print(f"{len(numbers)} numbers, {np.isin(numbers, middles).sum()} of them in the middle of two codes; codes differ at "
      f"{', '.join(f'{x:g}' for x in numbers[differ])}: gguf {', '.join(f'{x:g}' for x in ours[differ])}; ml_dtypes {', '.join(f'{x:g}' for x in even[differ])}")
weights = np.random.default_rng(0).normal(size=(3125, 32)).astype(ml_dtypes.bfloat16).astype(np.float32)
ours, even = both(weights)
other = ours != even
less = (np.abs(ours) < np.abs(even))[other]
print(f"{weights.size:,} weights, normal, in bfloat16: {other.mean():.2%} of the codes differ, and {'all' if less.all() else less.sum()} of these are nearer to zero in gguf's")
raise SystemExit(not (list(numbers[differ]) == [0.75, 1.75, 3.5] and less.all() and other.mean() > 0.001))
PY
"$work/venv/bin/python" "$work/try.py"
