#!/usr/bin/env bash
# da4ml 0.6.0: the circuit of a square matrix depends on the order in which numpy keeps it.
#
# `da4ml.cmvm.solve(kernel)` finds adders that multiply a vector with a fixed matrix, y = x @ kernel. A numpy array with
# the same shape and the same values, kept in Fortran's order (as `w.T`, `np.asfortranarray(w)` or what
# scipy.io.loadmat returns), is read as its bytes lie: a square matrix becomes its transpose, one of 2 x 3 becomes
# another one of 2 x 3, and nothing is said. The solution's own `kernel` is the wrong one too, so a check of the circuit
# against it passes. One would guess that values count, as everywhere in numpy, or that the wrong order is refused.
# `np.ascontiguousarray` avoids it.
#
# Seen with da4ml 0.6.0, numpy 2.4.6:
#   the arrays are equal: True
#   circuit in C's order: [100, 0, 180, -280]; numpy: [100, 0, 180, -280]
#   circuit in Fortran's order: [280, 20, 70, -225]; numpy with the transpose: [280, 20, 70, -225]
#   the solution's kernel is the transpose: True
# Exits 1 if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "da4ml==0.6.0" "numpy==2.4.6"
cat > "$work/try.py" <<'PY'
import sys

import numpy as np
from da4ml.cmvm import solve

kernel = np.array([[3, 2, 0, -7], [5, -1, 4, 1], [0, 6, 2, 2], [1, 1, -3, 8]], np.float32)
x = np.array([10, 20, 5, -30], np.float32)
turned = np.asfortranarray(kernel)
print(f"the arrays are equal: {np.array_equal(kernel, turned)}")
first, second = solve(kernel), solve(turned)


def given(solution):
    return [int(value) for value in np.asarray(solution(x), float)]


def wanted(matrix):
    return [int(value) for value in x @ matrix]


print(f"circuit in C's order: {given(first)}; numpy: {wanted(kernel)}")
print(f"circuit in Fortran's order: {given(second)}; numpy with the transpose: {wanted(kernel.T)}")
same = np.array_equal(np.asarray(second.kernel, float), kernel.T)
print(f"the solution's kernel is the transpose: {same}")
sys.exit(not (given(first) == wanted(kernel) and given(second) == wanted(kernel.T) != wanted(kernel) and same))
PY
"$work/venv/bin/python" "$work/try.py"
