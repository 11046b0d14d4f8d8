#!/usr/bin/env bash
# safetensors 0.8.0 saves a transposed numpy array with its numbers in another order, and says nothing; 0.7.0 saves it as it is.
#
# `safetensors.numpy.save` and `save_file` took the numbers of an array in its own order up to 0.7.0. 0.8.0 takes the memory behind the array as it lies
# there, under the array's shape: `w.T`, what `numpy.asfortranarray` gives, and the weights of a layer that another framework keeps as [in, out] come back with all
# their numbers, permuted. Size, type and shape are right, so no reader notices. For torch the same package refuses such a tensor ("non contiguous"). The
# docstring of both says, in both versions, that arrays must be contiguous; one would guess that what breaks this is refused, or works on as it did.
# `numpy.ascontiguousarray` before the call helps.
#
# Seen with numpy 2.4.6:
#   safetensors 0.7.0: [[0, 3], [1, 4], [2, 5]] comes back as [[0, 3], [1, 4], [2, 5]]
#   safetensors 0.8.0: [[0, 3], [1, 4], [2, 5]] comes back as [[0, 1], [2, 3], [4, 5]]
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
cat > "$work/try.py" <<'PY'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
save_file({"weight": turned}, sys.argv[1])
back = load_file(sys.argv[1])["weight"]
print(f"safetensors {safetensors.__version__}: {turned.astype(int).tolist()} comes back as {back.astype(int).tolist()}")
sys.exit(sys.argv[2] != ("same" if np.array_equal(back, turned) else "permuted"))
PY
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "safetensors==0.7.0" "numpy==2.4.6"
"$work/venv/bin/python" "$work/try.py" "$work/a.safetensors" same
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "safetensors==0.8.0"
"$work/venv/bin/python" "$work/try.py" "$work/b.safetensors" permuted
