#!/usr/bin/env bash
# torch 2.13.0 and ml_dtypes 0.6.0 disagree on what has no place in an 8-bit format: torch makes 448 of infinity in E4M3, and drops the sign in E8M0.
#
# Both packages have the same formats under the same names, and round every number within a format's range to the same code. On the others they disagree:
# - float8_e4m3fn has NaN and no infinity. ml_dtypes makes NaN of what is too large. torch makes 448, the largest number, of infinity too, so an overflow in the
#   step before is gone. torch does so in no other format here: E5M2 gets infinity, and E4M3 in the variant "fnuz" NaN.
# - float8_e8m0fnu, the scale of MX formats, is a power of two, without sign or zero. ml_dtypes makes NaN of 0 and of negative numbers. torch makes the
#   scale of -1.5 that of 1.5 (2), and of 0 the smallest one, 2**-127.
# So who looks for NaN behind a cast, to find weights or scales that went wrong, finds them with one package only.
#
# Seen with torch 2.13.0, ml_dtypes 0.6.0, numpy 2.4.6:
#                                 torch       ml_dtypes
#   float8_e4m3fn          500      448             nan
#   float8_e4m3fn          inf      448             nan
#   float8_e4m3fnuz        inf      nan             nan
#   float8_e5m2            inf      inf             inf
#   float8_e8m0fnu        -1.5        2             nan
#   float8_e8m0fnu           0 5.88e-39             nan
#   others of 65,536 bfloat16 numbers that differ: 0 in each of the four formats
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "ml_dtypes==0.6.0" "numpy==2.4.6"
cat > "$work/try.py" <<'PY'
import sys

import ml_dtypes
import numpy as np
import torch

SHOWN = [("float8_e4m3fn", 500), ("float8_e4m3fn", np.inf), ("float8_e4m3fnuz", np.inf), ("float8_e5m2", np.inf),
         ("float8_e8m0fnu", -1.5), ("float8_e8m0fnu", 0)]


def both(name, x):
    """float32 [n] as each package casts it, back in float32."""
    with np.errstate(all="ignore"):
        theirs = x.astype(getattr(ml_dtypes, name)).astype(np.float32)
    return torch.from_numpy(x.copy()).to(getattr(torch, name)).float().numpy(), theirs


print(f"{'':26} {'torch':>8} {'ml_dtypes':>15}")
seen = []
for name, value in SHOWN:
    ours, theirs = both(name, np.array([value], np.float32))
    seen.append((float(ours[0]), float(theirs[0])))
    print(f"{name:18} {value:>7} {ours[0]:>8.3g} {theirs[0]:>15.3g}")
numbers = np.arange(0x10000, dtype=np.uint16).view(ml_dtypes.bfloat16).astype(np.float32)
other = {}
for name, without in (("float8_e4m3fn", ~(abs(numbers) <= 464)), ("float8_e4m3fnuz", None), ("float8_e5m2", None),
                      ("float8_e8m0fnu", ~(numbers > 0))):
    ours, theirs = both(name, numbers)
    differ = ~((ours == theirs) | np.isnan(ours) & np.isnan(theirs))
    other[name] = int((differ & ~without if without is not None else differ).sum())
print(f"others of {len(numbers):,} bfloat16 numbers that differ: {other}")
expected = [(448, np.nan), (448, np.nan), (np.nan, np.nan), (np.inf, np.inf), (2, np.nan), (2.0**-127, np.nan)]
sys.exit(not (np.array_equal(seen, expected, equal_nan=True) and not any(other.values())))
PY
"$work/venv/bin/python" "$work/try.py"
